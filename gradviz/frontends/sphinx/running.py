"""Runs the code of a page, and keeps what autograd recorded of it."""

from __future__ import annotations

import contextlib
import io
import linecache
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from gradviz.errors import GradvizError, ScriptError
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.frames import chosen
from gradviz.frontends.script import Run, run_code, run_script
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
from gradviz.story import recorded_in

__all__ = ["CodeError", "Namespace", "Outcome", "run_block", "run_target"]

_FILENAME = "<gradviz block {}>"
_LINE = re.compile(r"<gradviz block (\d+)>:(\d+)")
_FRAMES = ":frames:"


class CodeError(GradvizError):
    """The code of a block failed.

    Args:
        message: what happened.
        line: in the block, from 1; 0 when it is not known.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Outcome:
    """What a directive has to draw.

    Args:
        story: as JSON.
        warnings: lines for the author of the page.
    """

    story: str
    warnings: tuple[str, ...] = ()


@dataclass
class Namespace:
    """The variables that blocks of a page share, and the code that they came from.

    Args:
        pre_code: run before the first block.
    """

    pre_code: str
    module: ModuleType = field(default_factory=lambda: ModuleType("__main__"))
    blocks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        exec(compile(self.pre_code, "<gradviz_pre_code>", "exec"), vars(self.module))

    @contextlib.contextmanager
    def lines_known(self) -> Iterator[None]:
        """Let the lines of the blocks be looked up, by recordings and tracebacks."""
        names = [_FILENAME.format(number) for number in range(len(self.blocks))]
        for name, code in zip(names, self.blocks, strict=True):
            linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            yield
        finally:
            for name in names:
                linecache.cache.pop(name, None)


def run_block(namespace: Namespace, code: str, argument: str, frames: Sequence[int]) -> Outcome:
    """Run a block of code, and trace or record it.

    Args:
        namespace: its variables.
        code: Python source; may be empty, to draw what is there.
        argument: the names of what to draw; empty for a recording of the code.
        frames: which frames of a recording, from 1; none for all.

    Raises:
        CodeError: if the code fails.
        GradvizError: if there is nothing of that name, or nothing to draw in it.
    """
    names = parse_names(argument) if argument else ()
    is_recorded = bool(frames) or not names
    namespace.blocks.append(code)
    with namespace.lines_known():
        filename = _FILENAME.format(len(namespace.blocks) - 1)
        try:
            compiled = compile(code, filename, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", 0) or 0
            raise CodeError(f"SyntaxError: {getattr(error, 'msg', error)}", line) from error
        recording = _recording() if is_recorded else None
        with _quiet():
            run = run_code(compiled, namespace.module, within=recording)
        if run.failed:
            raise CodeError(_said(run), _line_of(run.error, filename)) from run.error
        loaded = values_of(Target("the code", names), run) if names else None
        outcome = _outcome(loaded, recording, frames)
    return Outcome(_with_plain_lines(outcome.story, len(namespace.blocks) - 1), outcome.warnings)


def run_target(target: Target, frames: Sequence[int]) -> Outcome:
    """Run a script or module, and trace or record it; or read a saved graph.

    Args:
        target: what to draw; a script without a name is recorded.
        frames: which frames of a recording, from 1; none for all.

    Raises:
        GradvizError: if it fails, or there is nothing to draw in it.
    """
    if target.is_saved:
        story, missing = chosen(load(target.place), frames, _FRAMES)
        return Outcome(to_json(story), tuple(filter(None, [missing])))
    if target.is_script:
        check_file(target.place)
    recording = _recording() if frames or not target.names else None
    loaded = None
    with _quiet():
        if target.names or not target.is_script:
            loaded = load_target(target, within=recording)
        else:
            run = run_script(target.place, within=recording)
            if run.failed:
                raise ScriptError(f"{target.place} failed: {run.ending}") from run.error
    outcome = _outcome(loaded, recording, frames)
    failure = loaded.failure if loaded else None
    return Outcome(outcome.story, (*outcome.warnings, *filter(None, [failure])))


def _recording() -> Any:
    from gradviz.capture.recording.recorder import record  # only now: it needs torch

    return record()


def _outcome(loaded: Loaded | None, recording: Any, frames: Sequence[int]) -> Outcome:
    """The story of a program that has run: of its own recording, or of ours, or of a value."""
    subject = recorded_in(loaded.values[0]) if loaded and len(loaded.values) == 1 else None
    if subject is None:
        subject = recording.story if recording else loaded.traced()  # type: ignore[union-attr]
    story, missing = chosen(Drawing(subject).story, frames, _FRAMES)
    return Outcome(to_json(story), tuple(filter(None, [missing])))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the code prints out of the output of Sphinx."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _said(run: Run) -> str:
    return re.sub(r" \(<gradviz block \d+>:\d+(, in \w+)?\)$", "", run.ending)


def _line_of(error: BaseException | None, filename: str) -> int:
    """The line of the block that led to an error."""
    line, traceback = 0, error.__traceback__ if error else None
    while traceback:
        if traceback.tb_frame.f_code.co_filename == filename:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _with_plain_lines(story: str, current: int) -> str:
    """A reader of the page sees the block, not our name for it: ``line 3``."""
    return _LINE.sub(
        lambda found: f"line {found[2]}{'' if int(found[1]) == current else ', further up'}", story
    )


def target_of(argument: str, folder: Path, top: Path) -> Target:
    """The target that a page names: relative to its folder, or to the top with a leading ``/``."""
    target = parse_target(argument)
    if not (target.is_script or target.is_saved):
        return target
    place = top / target.place[1:] if target.place.startswith("/") else folder / target.place
    return Target(str(place), target.names)
