"""The page of verdicts: a section for each, from the registry of rules and docs/verdicts/.

The sections stand in the order in which the rules are tried, and list the rules of each verdict.

A program's docstring is the question that people ask. Its code is shown and drawn by gradviz'
directive, and what ``explain`` answers stands under it: ``why`` is its variable for that.
"""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import warnings
from pathlib import Path
from typing import Any

from sphinx.pycode import ModuleAnalyzer

from gradviz import Verdict
from gradviz.diagnosis.answers import Group
from gradviz.diagnosis.explain import RULES

PAGE, MARK = "reference/verdicts", "<!-- the verdicts -->"
PROGRAMS = Path(__file__).parent.parent / "verdicts"


def program_of(verdict: Verdict) -> Path:
    """The file that shows a verdict."""
    return PROGRAMS / f"{verdict.anchor}.py"


def question_and_code(path: Path) -> tuple[str, str]:
    """A program's docstring, and the rest of it."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    rest = source.splitlines()[tree.body[0].end_lineno :]
    return ast.get_docstring(tree) or "", "\n".join(rest).strip("\n")


def answer(code: str) -> tuple[str, bool]:
    """What ``explain`` says of a program, and whether there is something to draw."""
    linecache.cache["train.py"] = (len(code), None, code.splitlines(keepends=True), "train.py")
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            exec(compile(code, "train.py", "exec"), names)
        return str(names["why"]), bool(names["why"].story)
    finally:
        del linecache.cache["train.py"]


def section(verdict: Verdict, meaning: str) -> str:
    """A section in Markdown."""
    said = [f"(verdict-{verdict.anchor})=", f"### {verdict.value}", meaning, rules_of(verdict)]
    path = program_of(verdict)
    if path.is_file():
        question, code = question_and_code(path)
        text, is_drawn = answer(code)
        said += [
            f"*{question}*",
            f"```{'{gradviz} why' if is_drawn else 'python'}\n{code}\n```",
            f"`print(why)` says:\n\n```text\n{text}\n```",
        ]
    return "\n\n".join(said)


def rules_of(verdict: Verdict) -> str:
    """The rules that give a verdict: what holds, what each needs, and what it looks at."""
    return "\n".join(
        f"- {rule.name} (needs {rule.needs.value}){f': {rule.docs}' if rule.docs else ''}"
        for rule in RULES
        if rule.verdict is verdict
    )


def in_order() -> list[Verdict]:
    """The verdicts as the rules give them, and then those that no rule of the registry gives."""
    return list(dict.fromkeys([*(rule.verdict for rule in RULES), *Verdict]))


def meanings() -> dict[str, str]:
    """What the enum says of each verdict, by the verdict's name."""
    found = ModuleAnalyzer.for_module(Verdict.__module__).find_attr_docs()
    return {
        name: " ".join(lines).strip().replace("``", "`")
        for (owner, name), lines in found.items()
        if owner == "Verdict"
    }


TITLES = {
    Group.NO_GRADIENT: "## No gradient",
    Group.GRADIENT: "## A gradient",
    Group.TRAINING: "## How a tensor is trained",
    Group.ERROR: "## Errors",
}


def page() -> str:
    """The sections, by group, in the order of the rules."""
    told = meanings()
    parts = []
    for group, title in TITLES.items():
        parts.append(title)
        parts += [section(each, told[each.name]) for each in in_order() if each.group is group]
    return "\n\n".join(parts)


def fill_in(app: Any, docname: str, source: list[str]) -> None:
    """Put the sections where the page wants them."""
    if docname != PAGE:
        return
    for path in (PROGRAMS, *map(program_of, Verdict)):
        app.env.note_dependency(str(path), docname=docname)
    source[0] = source[0].replace(MARK, page())


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
