"""Code on a page of documentation, run and drawn: what Sphinx and MkDocs share."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import linecache
import os
import platform
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from gradviz import __version__
from gradviz.errors import GradvizError, ScriptError, UsageError
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.files import write_atomically
from gradviz.frontends.options import Picture, chosen
from gradviz.frontends.program import (
    ProgramRun,
    modules_forgotten,
    run_code,
    run_script,
    source_of_module,
)
from gradviz.frontends.target import (
    Loaded,
    Target,
    check_file,
    load_target,
    parse_names,
    parse_target,
    values_of,
)
from gradviz.serialize import load, to_json
from gradviz.story import Story, recorded_in
from gradviz.views import apply

__all__ = [
    "BlockOutcome",
    "Cache",
    "CachedPage",
    "CodeError",
    "Namespace",
    "PagePlace",
    "Wanted",
    "at_home",
    "run_block",
    "run_target",
    "source_of",
    "target_of",
    "versions",
]

_FILENAME = "<gradviz-block-{}>"  # without blanks: texts are cut at them
_LINE = re.compile(r"<gradviz-block-(\d+)>:(\d+)")
_LOCATION = re.compile(r'"file": "<gradviz-block-(\d+)>", "line": (\d+)')
_WHERE = re.compile(r" \(<gradviz-block-\d+>:\d+(, in [^)]*)?\)$")


class CodeError(GradvizError):
    """The code of a block failed.

    Args:
        message: what happened.
        line: in the block, from 1; 0 when it is not known.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class Namespace:
    """The variables that blocks of a page share, and the code that they came from.

    Args:
        pre_code: run before the first block, as the setting ``gradviz_pre_code`` says.

    Raises:
        CodeError: if that code fails.

    Example:
        >>> namespace = Namespace("import torch")
        >>> code = namespace.compile("x = torch.ones(2)")
        >>> with namespace.in_use():
        ...     exec(code, vars(namespace.module))
        >>> namespace.in_words("made at <gradviz-block-0>:1")
        'made at line 1'
    """

    def __init__(self, pre_code: str) -> None:
        from gradviz.capture.isolation import GlobalSettings  # only now: it needs torch

        self.module = ModuleType("__main__")
        self._settings = GlobalSettings()
        self._blocks: list[str] = []
        try:
            with self.in_use():
                exec(compile(pre_code, "<gradviz_pre_code>", "exec"), vars(self.module))
        except Exception as error:
            said = f"gradviz_pre_code failed: {type(error).__name__}: {error}"
            raise CodeError(said) from error

    def compile(self, code: str) -> CodeType:
        """Take a block up.

        Raises:
            CodeError: if it is not Python.
        """
        self._blocks.append(code)
        try:
            return compile(code, self._filename, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", 0) or 0
            raise CodeError(f"SyntaxError: {getattr(error, 'msg', error)}", line) from error

    @property
    def _filename(self) -> str:
        return _FILENAME.format(len(self._blocks) - 1)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While code runs: its settings hold, and its lines can be looked up."""
        names = [_FILENAME.format(number) for number in range(len(self._blocks))]
        for name, code in zip(names, self._blocks, strict=True):
            linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            with self._settings.in_force():
                yield
        finally:
            for name in names:
                linecache.cache.pop(name, None)

    def failure(self, ending: str, error: BaseException | None) -> CodeError:
        """How the last block failed, with the line of it that led there."""
        line = 0
        traceback: TracebackType | None = error.__traceback__ if error else None
        while traceback:
            if traceback.tb_frame.f_code.co_filename == self._filename:
                line = traceback.tb_lineno
            traceback = traceback.tb_next
        return CodeError(_WHERE.sub("", ending), line)

    def in_words(self, text: str) -> str:
        """A text with lines as a reader of the page knows them: ``line 3`` of the last block.

        It may be the JSON of a story, which has locations as data too.
        """

        def line(found: re.Match[str]) -> str:
            is_here = int(found[1]) == len(self._blocks) - 1
            return f"line {found[2]}{'' if is_here else ', further up'}"

        def location(found: re.Match[str]) -> str:
            return f'"file": "{line(found)}", "line": 0'

        return _LINE.sub(line, _LOCATION.sub(location, text))


@dataclass(frozen=True)
class PagePlace:
    """A file or module that a page names.

    Args:
        target: as seen from its home.
        home: the folder that it runs in.
        source: its file; empty when it cannot be told.
    """

    target: Target
    home: Path
    source: str

    @staticmethod
    def of(argument: str, folder: Path, top: Path) -> PagePlace:
        """The place that a page names; call it in ``top``.

        Args:
            argument: as for `target_of`.
            folder: as for `target_of`.
            top: as for `target_of`.

        Raises:
            TargetError: if it is no target. Whether there is such a file is not looked at.
        """
        target = target_of(argument, folder, top)
        source = source_of(target)
        if not (target.is_file):
            return PagePlace(target, top, source)
        path = Path(source)
        return PagePlace(Target(path.name, target.names), path.parent, source)

    def check(self) -> None:
        """Raise a `TargetError` that helps on when there is no such file."""
        if self.target.is_file:
            check_file(os.path.relpath(self.source))

    def code(self) -> str:
        """What is in the file."""
        if not self.source:
            return ""
        return Path(self.source).read_text(encoding="utf-8", errors="replace")


def target_of(argument: str, folder: Path, top: Path) -> Target:
    """The target that a page names.

    Args:
        argument: ``train.py:loss``, ``/examples/train.py:loss``, ``package.module:loss``, ...
        folder: of the page; files are looked for from there.
        top: of the sources; a leading ``/`` stands for it.

    Raises:
        TargetError: if it is no target.

    Example:
        >>> target_of("/train.py:loss", Path("docs/how"), Path("docs")).place
        'docs/train.py'
    """
    target = parse_target(argument)
    if not (target.is_file):
        return target
    place = top / target.place[1:] if target.place.startswith("/") else folder / target.place
    return Target(os.path.normpath(place), target.names)


def source_of(target: Target) -> str:
    """The file that a target is made of; empty when there is none."""
    return target.place if target.is_file else source_of_module(target.place)


@contextlib.contextmanager
def at_home(folder: Path, *own: Path) -> Iterator[list[str]]:
    """Run code in its folder, and forget afterwards which of the docs' own modules it imported.

    So lines are told as ``train.py:12`` wherever the build was started, and two folders of
    examples may have a ``helper.py`` each.

    Args:
        folder: the current one meanwhile.
        own: the folders whose modules are forgotten, with those below.

    Yields:
        A list, filled at the end: the files of these modules.
    """
    here = Path.cwd()
    with modules_forgotten(*own) as loaded:
        os.chdir(folder)
        try:
            yield loaded
        finally:
            os.chdir(here)


_FRAMES = "frames"


@dataclass(frozen=True)
class Wanted:
    """What is wanted of code that runs.

    Args:
        names: the variables to draw, as in ``loss,aux``; empty for a recording of the code.
        frames: which frames of a recording, from 1; none for all.
        raises: the exception that is to end the code; empty when it is to reach its end.
        picture: how it is drawn.
    """

    names: str = ""
    frames: Sequence[int] = ()
    raises: str = ""
    picture: Picture = field(default_factory=lambda: Picture({}))


@dataclass(frozen=True)
class BlockOutcome:
    """What a directive has to draw.

    Args:
        story: as JSON.
        warnings: lines for the author of the page.
        error: what ended the code, where that was wanted.
    """

    story: str
    warnings: tuple[str, ...] = ()
    error: str = ""


def run_block(namespace: Namespace, code: str, wanted: Wanted) -> BlockOutcome:
    """Run a block of code, and trace or record it.

    Args:
        namespace: its variables.
        code: Python source; may be empty, to draw what is there.
        wanted: what to draw.

    Raises:
        CodeError: if the code fails.
        GradvizError: if there is nothing of that name, or nothing to draw in it.
    """
    names = parse_names(wanted.names) if wanted.names else ()
    compiled = namespace.compile(code)
    with namespace.in_use():
        recording = None if names and not wanted.frames else _recording()
        with _quiet():
            run = run_code(compiled, namespace.module, within=recording).unless_interrupted()
        if run.failed and not _is_wanted(run, wanted.raises):
            raise namespace.failure(run.ending, run.error) from run.error
        if wanted.raises and not run.failed:
            raise UsageError(f"raises says {wanted.raises}, and the code raised nothing")
        loaded = values_of(Target("the code", names), run) if names else None
        outcome = _outcome(loaded, recording, wanted)
    error = str(namespace.failure(run.ending, run.error)) if run.failed else ""
    return BlockOutcome(namespace.in_words(outcome.story), outcome.warnings, error)


def run_target(target: Target, wanted: Wanted) -> BlockOutcome:
    """Run a script or module, and trace or record it; or read a saved graph.

    Args:
        target: what to draw; a script without a name is recorded.
        wanted: which frames.

    Raises:
        GradvizError: if it fails, or there is nothing to draw in it.
    """
    if target.is_saved:
        check_file(target.place)
        return _kept(load(target.place), wanted)
    from gradviz.capture.isolation import GlobalSettings

    if target.is_script:
        check_file(target.place)
    recording = _recording() if wanted.frames or not target.names else None
    loaded = None
    with _quiet(), GlobalSettings().in_force():
        if target.names or not target.is_script:
            loaded = load_target(target, within=recording)
        else:
            run = run_script(target.place, within=recording).unless_interrupted()
            if run.failed:
                raise ScriptError(f"{target.place} failed: {run.ending}") from run.error
        outcome = _outcome(loaded, recording, wanted)
    failure = loaded.failure if loaded else None
    return BlockOutcome(outcome.story, (*outcome.warnings, *filter(None, [failure])))


def _recording() -> Any:
    from gradviz.recording.api import record  # only now: it needs torch

    return record()


def _outcome(loaded: Loaded | None, recording: Any, wanted: Wanted) -> BlockOutcome:
    """The story of a program that has run: its own recording, or ours of it, or a value's."""
    subject = recorded_in(loaded.values[0]) if loaded and len(loaded.values) == 1 else None
    if subject is None:
        subject = recording.story if recording else loaded.traced()  # type: ignore[union-attr]
    story = Drawing(subject).story
    if not any(frame.graph for frame in story):
        raise GradvizError("there is nothing to draw: autograd recorded nothing in the code")
    return _kept(story, wanted)


def _kept(story: Story, wanted: Wanted) -> BlockOutcome:
    """The frames that are wanted; a name that is in none of them is told now, not when drawing."""
    story, missing = chosen(story, wanted.frames, _FRAMES)
    if wanted.picture["focus"] or wanted.picture["views"]:
        for frame in story:
            apply(frame.graph, wanted.picture.views())
    return BlockOutcome(to_json(story), tuple(filter(None, [missing])))


def _is_wanted(run: ProgramRun, raises: str) -> bool:
    return raises in [kind.__name__ for kind in type(run.error).__mro__]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the code prints, and warns of, out of the output of Sphinx."""
    nowhere = io.StringIO()
    with (
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def versions() -> str:
    """What else decides what code gives: ``"0.1.0, torch 2.13.0, 3.11.4"``."""
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "none"
    return f"{__version__}, torch {torch}, {platform.python_version()}"


@dataclass(frozen=True)
class CachedPage:
    """What code gave.

    Args:
        outcome: of the code.
        files: the modules of the project that it imported; it runs again when one has changed.
    """

    outcome: BlockOutcome
    files: tuple[str, ...] = ()


class Cache:
    """Outcomes and pictures in a folder, each in a file whose name is a hash of what it is from.

    Args:
        folder: made when there is something to keep; None keeps nothing.

    Example:
        >>> cache = Cache(None)
        >>> cache.text(["what", "it is from"], ".svg", lambda: "<svg/>")
        '<svg/>'
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, facts: Sequence[str]) -> CachedPage | None:
        """What code gave in an earlier build, if neither it nor its modules have changed."""
        path = self._path(facts, ".json")
        if not path or not path.exists():
            return None
        try:
            found = json.loads(path.read_bytes())
            outcome = BlockOutcome(**found["outcome"])
            files: dict[str, str] = found["files"]
            is_same = all(_hash_of(Path(file)) == known for file, known in files.items())
        except (AttributeError, KeyError, TypeError, ValueError):  # of another version, or damaged
            return None
        outcome = BlockOutcome(outcome.story, tuple(outcome.warnings), outcome.error)
        return CachedPage(outcome, tuple(files)) if is_same else None

    def keep(self, facts: Sequence[str], kept: CachedPage) -> None:
        """Remember what code gave."""
        if path := self._path(facts, ".json"):
            files = {file: _hash_of(Path(file)) for file in kept.files}
            self._write(path, json.dumps({"outcome": asdict(kept.outcome), "files": files}))

    def text(self, facts: Sequence[str], suffix: str, make: Callable[[], str]) -> str:
        """A text as it was made in an earlier build, or made now."""
        path = self._path(facts, suffix)
        if path and path.exists():
            return path.read_text(encoding="utf-8")
        made = make()
        if path:
            self._write(path, made)
        return made

    def _path(self, facts: Sequence[str], suffix: str) -> Path | None:
        if self._folder is None:
            return None
        name = hashlib.sha256(repr((versions(), *facts)).encode()).hexdigest()[:16]
        return self._folder / f"gradviz-{name}{suffix}"

    def _write(self, path: Path, text: str) -> None:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        write_atomically(path, text.encode("utf-8", "backslashreplace"))


def _hash_of(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
