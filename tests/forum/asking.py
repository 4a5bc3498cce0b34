"""Programs with what `explain` has to say of each, written before it was asked.

A file of ``kinds/`` has several programs, each under a line ``# %% name: what it is``. Comments at
the top of a program say what is right:

    # expect EXPRESSION: VERDICT | VERDICT     the answer about a tensor, a module, `error` or `run`
    #   says: TEXT                             the answer has it
    #   never: TEXT                            the answer does not have it
    #   fix: TEXT                              the fix has it
    #   line: any                              the line is not checked
    # needs: MODULE                            left out where the module is not installed
    # third EXPRESSION: healthy | TEXT         asked at the end of the program, without a recording

A file that the program imports is below ``# file NAME:``; one of a library is
``site-packages/NAME``. The line that must be named ends in ``# here``. Verdicts: those of gradviz;
`healthy` (fine, or a sum of passes that is meant); `!fine` (anything else); of a run
`step changed 2`, `names TEXT` and `healthy` (every answer is).

Programs of ``j_*`` to ``y*``, ``z[2567]*``, ``va*``, ``vb*``, ``wa*``, ``x[ab]*`` are also asked
from the shell, as ``gradviz explain program.py``, and those that raise as ``gradviz run
program.py``: the same words and lines have to stand there; ``# shell: --full`` is an option for
the first. A program that asks gradviz itself says `# expect printed: ...` of what it prints.

    python tests/forum/asking.py               # run all, print what is wrong
    python tests/forum/asking.py NAME ...      # print the answers about these
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from gradviz import record
from gradviz.capture.tensors.names import Names
from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.explain import answer
from gradviz.frontends.program import run_script

HERE = Path(__file__).parent
IN_THE_SHELL = (
    "j_",
    "k_",
    "l_",
    "m_",
    "n_",
    "o_",
    "p_",
    "q_",
    "r_",
    "s_",
    "t_",
    "u_",
    "v_",
    "w_",
    "x_",
    "y_",
    "z2",
    "z5",
    "z6",
    "va",
    "vb",
    "wa",
    "xa",
    "xb",
    "z7",
    "ya",
    "yd",
)

# Lines of `gradviz explain` that are about tensors with a fault.
_STATES = sorted({each.state for each in Verdict} - {"fine", "not trained", "error"})
_MARK = "the third door"
_FAULTY = rf".*(  |: )({'|'.join(_STATES)})(  .*| \(.*|$)|.*: error \(.*|  fix: .*|Warning: .*"


@dataclass
class Expected:
    """One answer: about what, which verdicts are right, and what has to stand in it or not."""

    about: str
    verdicts: list[str]
    says: list[str] = field(default_factory=list)
    never: list[str] = field(default_factory=list)
    fix: list[str] = field(default_factory=list)
    any_line: bool = False


@dataclass
class Question:
    """One program."""

    kind: str
    name: str
    title: str
    code: str
    expected: list[Expected]
    files: dict[str, str]

    @property
    def file(self) -> str:
        """The name of its file: with a blank, quotes and more than ASCII, as names may have."""
        return f'{self.name} it\'s "größe" 🎉.py'

    @property
    def is_asking(self) -> bool:
        """Whether it calls `gradviz.explain` itself."""
        return self.expected[0].about == "printed"

    @property
    def needs(self) -> list[str]:
        """The modules that it imports and that may not be installed."""
        return re.findall(r"^# needs: (.+)$", self.code, re.MULTILINE)

    @property
    def is_control(self) -> bool:
        return all(each.verdicts[0] == "healthy" for each in self.expected)


def questions() -> list[Question]:
    """All of them, in the order of the files."""
    every = (each for path in sorted(HERE.glob("kinds/*.txt")) for each in _of_file(path))
    return [each for each in every if all(find_spec(name) for name in each.needs)]


def not_yet_right() -> set[str]:
    """Names of the programs that explain does not answer rightly so far: `not_yet_right.txt`."""
    return set((HERE / "not_yet_right.txt").read_text(encoding="utf-8").split())


def _of_file(path: Path) -> Iterator[Question]:
    for cell in re.split(r"^# %% ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        first, _, code = cell.partition("\n")
        name, _, title = first.partition(": ")
        yield Question(path.stem, name, title, code.rstrip() + "\n", *_header(code))


def _header(code: str) -> tuple[list[Expected], dict[str, str]]:
    expected: list[Expected] = []
    files: dict[str, str] = {}
    for line in code.splitlines():
        if found := re.match(r"# expect (.+?): ([^:]+)$", line):
            expected.append(Expected(found[1], found[2].split(" | ")))
        elif found := re.match(r"#   (says|never|fix): (.+)$", line):
            getattr(expected[-1], found[1]).append(found[2])
        elif line == "#   line: any":
            expected[-1].any_line = True
        elif found := re.match(r"# file (.+):$", line):
            files[found[1]] = ""
        elif line.startswith("# |"):
            files[next(reversed(files))] += line[4:] + "\n"
    return expected, files


def wrong(question: Question, folder: Path) -> list[str]:
    """What is wrong in the answers about a program, one line each; none when all is right."""
    program = _write(question, folder)
    if question.is_asking:
        return _wrong_print(question, program)
    recording = record()
    _begin()
    with torch.enable_grad(), _quiet(), _libraries(folder):
        done = run_script(str(program), within=recording)
    names = Names.of_namespace(done.namespace)
    found = [f"note: {note}" for note in recording.story.notes if "missed" in note]
    for each in question.expected:
        if each.about == "error":
            if done.error is None:
                found.append("the program raised nothing")
                continue
        elif done.error is not None:
            found.append(f"the program raised {done.error!r}")
            continue
        found += _wrong_answer(each, question, done, recording, names)
    return found


def _write(question: Question, folder: Path) -> Path:
    """Write a program and its files, and return the path of the program."""
    for name, text in {question.file: question.code, **question.files}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.modules.pop(path.stem, None)
    return folder / question.file


def _wrong_print(question: Question, program: Path) -> list[str]:
    """What is wrong in what a program prints that asks gradviz itself."""
    _begin()
    printed = io.StringIO()
    with torch.enable_grad(), _quiet(), contextlib.redirect_stdout(printed):
        done = run_script(str(program))
    if done.error is not None:
        return [f"the program raised {done.error!r}"]
    return list(_wrong_output(question, printed.getvalue()))


def _begin() -> None:
    """Undo what an earlier program, or a library that it imported, left behind."""
    random.seed(0)
    torch.manual_seed(0)
    torch.distributions.Distribution.set_default_validate_args(True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _libraries(folder: Path) -> Iterator[None]:
    """Modules in ``site-packages`` of the folder can be imported, as those of libraries can."""
    sys.path.append(str(folder / "site-packages"))
    try:
        yield
    finally:
        sys.path.pop()


def wrong_in_the_shell(question: Question, folder: Path) -> list[str]:
    """What is wrong in the answers of the commands ``explain`` and ``run`` about a program."""
    if question.is_asking:
        return []
    raises = any(each.about == "error" for each in question.expected)
    return [
        f"gradviz {command}: {line}"
        for command in ("explain", *(["run"] if raises else []))
        for line in _wrong_output(question, _output_of(command, question, folder))
    ]


def wrong_in_the_program(question: Question, folder: Path) -> list[str]:
    """What is wrong in what the program says at its end, without a recording: its third door."""
    found = []
    for asked, right in re.findall(r"^# third (.+\)): (.+)$", question.code, re.MULTILINE):
        code = f"{question.code}\nimport gradviz\nprint('{_MARK}')\nprint({asked})\n"
        program = _write(replace(question, code=code), folder)
        _begin()
        printed = io.StringIO()
        with torch.enable_grad(), _quiet(), contextlib.redirect_stdout(printed):
            done = run_script(str(program))
        text = printed.getvalue().rpartition(_MARK)[2].strip() or f"raised {done.error!r}"
        never = [word for each in question.expected for word in each.never if word in text]
        faulty = [line for line in text.splitlines() if re.fullmatch(_FAULTY, line)]
        if done.error or never or (faulty if right == "healthy" else right not in text):
            found.append(f"{asked}: not {right!r}\n{text}")
    return found


def _output_of(command: str, question: Question, folder: Path) -> str:
    from click.testing import CliRunner

    from gradviz.frontends.cli import cli as gradviz

    _write(question, folder)
    _begin()
    with torch.enable_grad(), warnings.catch_warnings(), _libraries(folder):
        warnings.simplefilter("ignore")
        options = re.findall(r"^# shell: (.+)$", question.code, re.MULTILINE)
        options = options if command == "explain" else []
        return CliRunner().invoke(gradviz, [command, question.file, *options]).output


def _wrong_output(question: Question, text: str) -> Iterator[str]:
    if question.is_control:
        for line in text.splitlines():
            if re.fullmatch(_FAULTY, line):
                yield f"not fine: {line}\n{text}"
        said = text.replace(question.file, "")
        for word in (word for each in question.expected for word in each.never if word in said):
            yield f"says {word!r}\n{text}"
        return
    for each in question.expected:
        names = each.verdicts[0].startswith("names ")
        words = [each.verdicts[0].removeprefix("names "), *each.verdicts[1:]]
        said = text.replace(question.file, "")
        if question.is_asking and names and not any(word in said for word in words):
            yield f"{each.about}: nothing of {words}\n{text}"
        yield from _wrong_text(each, question, text, text)


def _wrong_answer(
    each: Expected, question: Question, done: Any, recording: Any, names: Names
) -> Iterator[str]:
    if each.about == "run":
        told: Any = answer([recording], names, None)
        text = str(told)
        if each.verdicts == ["healthy"]:
            for one in told.wrong:
                yield f"run: {one.name} is {one.verdict.value!r}\n{text}"
            yield from (f"run: says {word!r}\n{text}" for word in each.never if word in text)
            return
        if found := re.fullmatch(r"step changed (\d+)", each.verdicts[0]):
            step = [event for event in recording.events if event.kind.value == "step"][-1]
            details = getattr(step, "details", None)
            if getattr(details, "changed_values", None) != int(found[1]):
                yield f"{each.verdicts[0]}: the event is {step}"
            return
        said = text.replace(question.file, "")  # the file has the name of the program
        if each.verdicts[0].removeprefix("names ") not in said:
            yield f"run: nothing of {each.verdicts[0]}\n{text}"
    else:
        subject = done.error if each.about == "error" else eval(each.about, done.namespace)
        is_module = isinstance(subject, torch.nn.Module)
        asked = [recording] if is_module else [subject, recording]
        told = answer(asked, names, subject if is_module else None)
        text = str(told)
        for one in told if hasattr(told, "all") else [told]:
            if not _is_right(one.verdict, each.verdicts):
                wanted = " or ".join(each.verdicts)
                yield f"{each.about}: {one.name} is {one.verdict.value!r}, not {wanted!r}\n{text}"
    yield from _wrong_text(each, question, told, text)


def _is_right(verdict: Any, wanted: list[str]) -> bool:
    for each in wanted:
        if each == "!error" and not verdict.is_error:
            return True
        if each == "!fine" and verdict.value not in ("fine", "another error"):
            return True
        if each.startswith("!") and each not in ("!error", "!fine") and verdict.value != each[1:]:
            return True
        if each == verdict.value or (each == "healthy" and verdict.value == "fine"):
            return True
    return False


def _wrong_text(each: Expected, question: Question, told: Any, text: str) -> Iterator[str]:
    said = text.replace(question.file, "").lower()  # the file has the name of the program
    for word in each.says:
        if word.lower() not in said:
            yield f"{each.about}: does not say {word!r}\n{text}"
    for word in each.never:
        if word.lower() in said:
            yield f"{each.about}: says {word!r}\n{text}"
    for word in each.fix:
        if word.lower() not in getattr(told, "fix", text).lower():
            yield f"{each.about}: the fix does not have {word!r}\n{text}"
    lines = [at for at, line in enumerate(question.code.splitlines(), 1) if line.endswith("# here")]
    is_asked = lines and not each.any_line and each.verdicts[0] != "healthy"
    if is_asked and not any(f"{question.file}:{line}" in text for line in lines):
        yield f"{each.about}: does not name line {lines}\n{text}"


def ask(question: Question) -> list[str]:
    """The same in a folder of its own."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            found = wrong(question, Path(folder))
            if question.kind[:2] in IN_THE_SHELL:
                found += wrong_in_the_shell(question, Path(folder))
                found += wrong_in_the_program(question, Path(folder))
            return found
        except Exception as error:  # whatever it is, it is wrong
            return [f"gradviz raised {type(error).__name__}: {error}"]
        finally:
            os.chdir(here)


def main() -> None:
    asked = questions()
    if sys.argv[1:]:
        asked = [each for each in asked if each.name in sys.argv[1:] or each.kind in sys.argv[1:]]
    right = 0
    for each in asked:
        found = ask(each)
        right += not found
        for line in found:
            print(f"## {each.kind} {each.name}: {line}\n")
    print(f"{right} of {len(asked)} right, {sum(each.is_control for each in asked)} controls")


if __name__ == "__main__":
    main()
