"""Runs the code of a page, and keeps what autograd recorded of it."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradviz.errors import GradvizError, ScriptError, UsageError
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.frames import chosen
from gradviz.frontends.pages.namespace import Namespace
from gradviz.frontends.script import ProgramRun, run_code, run_script
from gradviz.frontends.target import (
    Loaded,
    Target,
    check_file,
    load_target,
    parse_names,
    values_of,
)
from gradviz.frontends.view_names import ViewOptions
from gradviz.serialize import load, to_json
from gradviz.story import Story, recorded_in
from gradviz.views import apply

__all__ = ["BlockOutcome", "Wanted", "run_block", "run_target"]

_FRAMES = "frames"


@dataclass(frozen=True)
class Wanted:
    """What is wanted of code that runs.

    Args:
        names: the variables to draw, as in ``loss,aux``; empty for a recording of the code.
        frames: which frames of a recording, from 1; none for all.
        raises: the exception that is to end the code; empty when it is to reach its end.
        shown: how much of it is drawn.
    """

    names: str = ""
    frames: Sequence[int] = ()
    raises: str = ""
    shown: ViewOptions = field(default_factory=ViewOptions)


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
            run = run_code(compiled, namespace.module, within=recording)
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
            run = run_script(target.place, within=recording)
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
    if wanted.shown.focus or wanted.shown.views:
        for frame in story:
            apply(frame.graph, wanted.shown.chosen())
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
