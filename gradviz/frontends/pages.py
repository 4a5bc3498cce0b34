"""Code on a documentation page, run and drawn: shared by Sphinx and MkDocs."""

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
from traceback import walk_tb
from types import CodeType, ModuleType
from typing import Any

from gradviz import __version__
from gradviz.errors import GradvizError, ScriptError, UsageError
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.files import inside, write_atomically
from gradviz.frontends.option_values import chosen
from gradviz.frontends.options import Picture
from gradviz.frontends.program import Watch, run_code, run_script, source_of_module
from gradviz.frontends.target import (
    Loaded,
    Target,
    check_file,
    load_target,
    parse_names,
    parse_target,
    values_of,
)
from gradviz.serialize import load, record_of, to_json
from gradviz.story import Story, recorded_in
from gradviz.views import apply

_FILENAME = "<gradviz-block-{}>"  # without blanks, at which text is wrapped
_LINE = re.compile(r"<gradviz-block-(\d+)>:(\d+)")
_LOCATION = re.compile(r'"file": "<gradviz-block-(\d+)>", "line": (\d+)')
_WHERE = re.compile(r" \(<gradviz-block-\d+>:\d+(, in [^)]*)?\)$")


class CodeError(GradvizError):
    """The code of a block failed.

    Args:
        message: what happened.
        line: the line in the block, from 1; 0 if unknown.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class Namespace:
    """The variables that blocks of a page share, and their code.

    Args:
        pre_code: code that runs before the first block (the setting ``gradviz_pre_code``).

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
        from gradviz.capture.isolation import GlobalSettings  # imported here: it needs torch

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
        """Compile a block.

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
        """Apply the settings of the page while its code runs, and make its lines available."""
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
        """The error of the last block, with the line that led to it."""
        line = 0
        for frame, number in walk_tb(error.__traceback__ if error else None):
            line = number if frame.f_code.co_filename == self._filename else line
        return CodeError(_WHERE.sub("", ending), line)

    def in_words(self, text: str) -> str:
        """Replace locations in a text by those on the page: ``line 3`` of the last block.

        The text may be the JSON of a story, which contains locations as data too.
        """

        def line(found: re.Match[str]) -> str:
            is_here = int(found[1]) == len(self._blocks) - 1
            return f"line {found[2]}{'' if is_here else ', further up'}"

        def location(found: re.Match[str]) -> str:
            return f'"file": "{line(found)}", "line": 0'

        return _LINE.sub(line, _LOCATION.sub(location, text))


@dataclass(frozen=True)
class PagePlace:
    """A file or module that a page names."""

    target: Target  # relative to ``home``
    home: Path  # the folder in which it runs
    source: str  # its file; "" if unknown

    @staticmethod
    def of(argument: str, folder: Path, top: Path) -> PagePlace:
        """The place that a page names; must be called in ``top``.

        Args:
            argument: as for `target_of`.
            folder: as for `target_of`.
            top: as for `target_of`.

        Raises:
            TargetError: if it is not a target. The existence of the file is not checked.
        """
        target = target_of(argument, folder, top)
        source = source_of(target)
        if not target.is_file:
            return PagePlace(target, top, source)
        path = Path(source)
        return PagePlace(Target(path.name, target.names), path.parent, source)

    def check(self) -> None:
        """Raise a `TargetError` with a hint if there is no such file."""
        if self.target.is_file:
            check_file(os.path.relpath(self.source))

    def code(self) -> str:
        """The content of the file."""
        if not self.source:
            return ""
        return Path(self.source).read_text(encoding="utf-8", errors="replace")


def target_of(argument: str, folder: Path, top: Path) -> Target:
    """The target that a page names.

    Args:
        argument: ``train.py:loss``, ``/examples/train.py:loss``, ``package.module:loss``, ...
        folder: of the page; relative paths start there.
        top: of the sources; a leading ``/`` stands for it.

    Raises:
        TargetError: if it is not a target.

    Example:
        >>> target_of("/train.py:loss", Path("docs/how"), Path("docs")).place
        'docs/train.py'
    """
    target = parse_target(argument)
    if not target.is_file:
        return target
    place = top / target.place[1:] if target.place.startswith("/") else folder / target.place
    return Target(os.path.normpath(place), target.names)


def source_of(target: Target) -> str:
    """The file of a target; "" if there is none."""
    return target.place if target.is_file else source_of_module(target.place)


@contextlib.contextmanager
def at_home(folder: Path, *own: Path) -> Iterator[list[str]]:
    """Run code in its folder, and then forget the docs' own modules that it imported.

    So lines are reported as ``train.py:12`` independent of where the build was started, and two
    folders of examples can have different ``helper.py`` files.

    Args:
        folder: becomes the current folder.
        own: the folders whose modules are forgotten, including subfolders.

    Yields:
        A list that is filled at the end with the files of these modules.
    """
    from gradviz.capture.isolation import modules_forgotten  # imported here: it needs torch

    with modules_forgotten(*own) as loaded, inside(folder):
        yield loaded


_FRAMES = "frames"


@dataclass(frozen=True)
class Wanted:
    """What to draw of code that runs."""

    names: str = ""  # the variables to draw, as in ``loss,aux``; "" for a recording of the code
    frames: Sequence[int] = ()  # numbers of frames of a recording, from 1; none for all
    raises: str = ""  # the exception that is expected to end the code; "" if none is expected
    picture: Picture = field(default_factory=lambda: Picture({}))  # its options


@dataclass(frozen=True)
class BlockOutcome:
    """The result of a directive."""

    story: str  # as JSON
    warnings: tuple[str, ...] = ()  # lines for the author of the page
    error: str = ""  # the expected exception that ended the code


def run_block(namespace: Namespace, code: str, wanted: Wanted) -> BlockOutcome:
    """Run a block of code, and trace or record it.

    Args:
        namespace: its variables.
        code: Python source; may be empty, to draw existing variables.
        wanted: what to draw.

    Raises:
        CodeError: if the code fails.
        GradvizError: if there is no such variable, or nothing to draw.
    """
    names = parse_names(wanted.names) if wanted.names else ()
    compiled = namespace.compile(code)
    with namespace.in_use():
        recording = None if names and not wanted.frames else _recording()
        with _quiet():
            run = run_code(compiled, namespace.module, within=recording).unless_interrupted()
        kinds = [kind.__name__ for kind in type(run.error).__mro__]
        if run.failed and wanted.raises not in kinds:
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
        target: the target; a script without a name is recorded.
        wanted: the frames.

    Raises:
        GradvizError: if it fails, or there is nothing to draw.
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
            watch = Watch(lambda: recording, follows=False) if recording else None
            loaded = load_target(target, watch=watch)
        else:
            run = run_script(target.place, within=recording).unless_interrupted()
            if run.failed:
                raise ScriptError(f"{target.place} failed: {run.ending}") from run.error
        outcome = _outcome(loaded, recording, wanted)
    failure = loaded.failure if loaded else None
    return BlockOutcome(outcome.story, (*outcome.warnings, *filter(None, [failure])))


def _recording() -> Any:
    from gradviz.recording.api import record  # imported here: it needs torch

    return record()


def _outcome(loaded: Loaded | None, recording: Any, wanted: Wanted) -> BlockOutcome:
    """The story of a program that has run: its own recording, ours of it, or that of a value."""
    subject = recorded_in(loaded.values[0]) if loaded and len(loaded.values) == 1 else None
    if subject is None:
        subject = recording.story if recording else loaded.traced()  # type: ignore[union-attr]
    story = Drawing(subject).story
    if not any(frame.graph for frame in story):
        raise GradvizError("there is nothing to draw: autograd recorded nothing in the code")
    return _kept(story, wanted)


def _kept(story: Story, wanted: Wanted) -> BlockOutcome:
    """Check the names of the wanted frames now rather than when drawing."""
    story, missing = chosen(story, wanted.frames, _FRAMES)
    if wanted.picture["focus"] or wanted.picture["views"]:
        for frame in story:
            apply(frame.graph, wanted.picture.views())
    return BlockOutcome(to_json(story), tuple(filter(None, [missing])))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep output and warnings of the code out of the output of Sphinx."""
    nowhere = io.StringIO()
    with (
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def versions() -> str:
    """The versions on which the result of code depends: ``"0.1.0, torch 2.13.0, 3.11.4"``."""
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "none"
    return f"{__version__}, torch {torch}, {platform.python_version()}"


@dataclass(frozen=True)
class CachedPage:
    """The stored result of code.

    Args:
        outcome: of the code.
        files: the modules of the project that it imported; it runs again if one has changed.
    """

    outcome: BlockOutcome
    files: tuple[str, ...] = ()


class Cache:
    """Outcomes and pictures in a folder; file names are hashes of the inputs.

    Args:
        folder: created when something is stored; None stores nothing.

    Example:
        >>> cache = Cache(None)
        >>> cache.text(["what", "it is from"], ".svg", lambda: "<svg/>")
        '<svg/>'
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, facts: Sequence[str]) -> CachedPage | None:
        """The result of an earlier build, if neither the code nor its modules have changed."""
        path = self._path(facts, ".json")
        if not path or not path.exists():
            return None
        try:
            found = json.loads(path.read_bytes())
            outcome = record_of(BlockOutcome, found["outcome"])
            files: dict[str, str] = found["files"]
            is_same = all(_hash_of(Path(file)) == known for file, known in files.items())
        except (AttributeError, KeyError, TypeError, ValueError):  # of another version, or damaged
            return None
        return CachedPage(outcome, tuple(files)) if is_same else None

    def keep(self, facts: Sequence[str], kept: CachedPage) -> None:
        """Store the result of code."""
        if path := self._path(facts, ".json"):
            files = {file: _hash_of(Path(file)) for file in kept.files}
            self._write(path, json.dumps({"outcome": asdict(kept.outcome), "files": files}))

    def text(self, facts: Sequence[str], suffix: str, make: Callable[[], str]) -> str:
        """A text from an earlier build, or made now."""
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
