"""The pytest plugin: ``gradviz_snapshot`` fails a test if a graph has changed.

A snapshot is written once, then compared. pytest loads this file at every start, so functions
import what they need.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradviz.views import View

_UPDATE = "--gradviz-update"
_WRITTEN = pytest.StashKey[list[str]]()

FOLDER = "__gradviz__"
"""The folder of snapshots, beside the test file."""

_MOST_LINES = 1_000_000  # a snapshot with omitted lines would miss changes
_MOST_DIFF_LINES = 200
_UNFIT = re.compile(r"[^\w\[\].,=+-]+")
_LONGEST = 120


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--gradviz-update``."""
    group = parser.getgroup("gradviz", "snapshots of autograd's graphs")
    group.addoption(_UPDATE, action="store_true", help="write the graphs as they are now")


@pytest.fixture
def gradviz_snapshot(request: pytest.FixtureRequest) -> Snapshots:
    """``gradviz_snapshot(loss)`` fails if the graph of ``loss`` differs from its snapshot."""
    return Snapshots(request)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the snapshots that were written."""
    written = config.stash.get(_WRITTEN, [])
    if written:
        terminalreporter.section("gradviz snapshots written")
        for name in written:
            terminalreporter.line(name)


class Snapshots:
    """The snapshots of one test; calling it compares a graph with the next one.

    Args:
        request: of the test.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._config = request.config
        self._file = Path(request.node.path)
        self._test = request.node.nodeid.partition("::")[2].replace("::", ".")
        self._used: set[str] = set()

    def __call__(
        self,
        *subjects: object,
        name: str = "",
        names: object = None,
        views: Sequence[View] | None = None,
        values: bool = False,
    ) -> None:
        """Compare a graph with its snapshot, or write it if pytest runs with the update flag.

        Args:
            subjects: the subjects, as for `gradviz.draw`: tensors, or a graph or recording.
            name: of the snapshot; by default they are numbered within the test.
            names: the names of tensors, as for `gradviz.draw`.
            views: applied before the comparison; None to hide reshaping only.
            values: compare numbers too. By default values, counts and lines are ignored.

        Raises:
            UsageError: if a name is used twice in a test.
        """
        __tracebackhide__ = True
        from gradviz.errors import UsageError

        path = self._next(name)
        text = graph_text(subjects, sys._getframe(1), names=names, views=views, values=values)
        try:
            message = differences(path, text)
        except UsageError as error:
            message = f"{error}\n(pytest {_UPDATE} writes it; it belongs under version control)"
        else:
            if message:
                message = (
                    "the graph has changed since its snapshot was written:\n"
                    f"{message}\n(pytest {_UPDATE} accepts the graph as it is now)"
                )
        if message and self._config.getoption(_UPDATE):
            write(path, text)
            self._config.stash.setdefault(_WRITTEN, []).append(str(path))
        elif message:
            pytest.fail(message)

    def _next(self, name: str) -> Path:
        from gradviz.errors import UsageError

        if name and name in self._used:
            raise UsageError(f"this test has a snapshot {name!r} already: give another name")
        if not name and self._used:
            name = str(len(self._used) + 1)
        self._used.add(name)
        return snapshot_file(self._file, self._test, name)


def graph_text(
    subjects: Sequence[object],
    frame: FrameType | None,
    *,
    names: object = None,
    views: Sequence[View] | None = None,
    values: bool = False,
) -> str:
    """The whole graph as deterministic text for a snapshot.

    Args:
        subjects: as for `gradviz.draw`.
        frame: the code whose variables name the tensors.
        names: as for `gradviz.draw`.
        views: applied in order; None to hide reshaping only.
        values: include the numbers.

    Raises:
        SubjectError: if autograd recorded nothing about a subject.
    """
    from gradviz.renderers.text import to_text
    from gradviz.story import Frame, Story, recorded_in
    from gradviz.views import apply, hide_bookkeeping, hide_numbers
    from gradviz.wording import title_without_values

    views = (hide_bookkeeping,) if views is None else views
    graph: Any = recorded_in(subjects[0]) if len(subjects) == 1 else None
    if graph is None:
        from gradviz.capture.tensors.names import Names  # imported here: they need torch
        from gradviz.capture.tracer import trace_subjects

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
    from gradviz.frontends.files import write_atomically

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
    from gradviz.errors import UsageError

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
