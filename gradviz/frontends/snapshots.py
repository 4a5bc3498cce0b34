"""Snapshots of graphs for tests: written once, then compared."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from gradviz.errors import UsageError
from gradviz.frontends.files import write_atomically
from gradviz.story import Frame, Story, recorded_in
from gradviz.views import View, apply, hide_bookkeeping, hide_numbers
from gradviz.wording import title_without_values

FOLDER = "__gradviz__"
"""The folder of snapshots, beside the test file."""

_MOST_LINES = 1_000_000  # a snapshot with omitted lines would miss changes
_MOST_DIFF_LINES = 200
_UNFIT = re.compile(r"[^\w\[\].,=+-]+")
_LONGEST = 120


def graph_text(
    subjects: Sequence[object],
    frame: FrameType | None,
    *,
    names: object = None,
    views: Sequence[View] = (hide_bookkeeping,),
    values: bool = False,
) -> str:
    """The whole graph as deterministic text for a snapshot.

    Args:
        subjects: as for `gradviz.draw`.
        frame: the code whose variables name the tensors.
        names: as for `gradviz.draw`.
        views: applied in order.
        values: include the numbers.

    Raises:
        SubjectError: if autograd recorded nothing about a subject.
    """
    from gradviz.renderers.text import to_text

    graph: Any = recorded_in(subjects[0]) if len(subjects) == 1 else None
    if graph is None:
        from gradviz.capture.tensors.names import Names  # imported here: they need torch
        from gradviz.capture.tracing.tracer import trace_subjects

        graph = trace_subjects(tuple(subjects), Names.of(names, frame))
    story = graph if isinstance(graph, Story) else [graph]
    frames = []
    for each in story:
        moment = each if isinstance(each, Frame) else Frame("", each)
        seen = apply(moment.graph, [*views, *([] if values else [hide_numbers])])
        title = (
            moment.title
            if values
            else title_without_values(moment.kind, moment.pass_number, moment.title)
        )
        frames.append(Frame(title, seen))
    return to_text(Story(frames), most_lines=_MOST_LINES)


def snapshot_file(test_file: Path, test: str, name: str = "") -> Path:
    """The file of a snapshot.

    Args:
        test_file: the file of the test.
        test: its name in the file: ``"TestModel.test_loss[relu-3]"``.
        name: the name of the snapshot; may be empty.

    Example:
        >>> snapshot_file(Path("tests/test_model.py"), "test_loss", "encoder").as_posix()
        'tests/__gradviz__/test_model.test_loss.encoder.txt'
        >>> snapshot_file(Path("test_model.py"), "test_loss[a/b]").name
        'test_model.test_loss[a-b]-fe24a7d6.txt'
    """
    whole = ".".join(filter(None, (test_file.stem, test, name)))
    fit = _UNFIT.sub("-", whole)[:_LONGEST]
    if fit != whole:  # two names may have become equal
        fit += f"-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return test_file.parent / FOLDER / f"{fit}.txt"


def write(path: Path, text: str) -> None:
    """Write a snapshot, and create its folder if it is missing."""
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def differences(path: Path, text: str) -> str:
    """The differences from a snapshot as a unified diff; "" if there are none.

    Args:
        path: the snapshot.
        text: the graph as it is now.

    Raises:
        UsageError: if the snapshot does not exist or cannot be read.
    """
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"there is no snapshot {_brief(path)}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the snapshot {_brief(path)}: {error}") from error
    after = text.encode("utf-8", "backslashreplace").decode()
    return "\n".join(_diff_lines(before.splitlines(), after.splitlines(), _brief(path)))


def _diff_lines(before: list[str], after: list[str], name: str) -> Iterator[str]:
    lines = list(difflib.unified_diff(before, after, name, "now", lineterm="", n=2))
    yield from lines[:_MOST_DIFF_LINES]
    if len(lines) > _MOST_DIFF_LINES:
        yield f"… and {len(lines) - _MOST_DIFF_LINES:,} more lines"


def _brief(path: Path) -> str:
    return f"{FOLDER}/{path.name}"
