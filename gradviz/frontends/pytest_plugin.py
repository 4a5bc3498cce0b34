"""The pytest plugin: ``gradviz_snapshot`` fails a test if a graph has changed.

pytest loads this file at every start, so it imports only pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradviz.views import View

_UPDATE = "--gradviz-update"
_WRITTEN = pytest.StashKey[list[str]]()


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
        from gradviz.frontends import snapshots

        path = self._next(name)
        options: dict[str, Any] = {} if views is None else {"views": views}
        text = snapshots.graph_text(
            subjects, sys._getframe(1), names=names, values=values, **options
        )
        try:
            message = snapshots.differences(path, text)
        except UsageError as error:
            message = f"{error}\n(pytest {_UPDATE} writes it; it belongs under version control)"
        else:
            if message:
                message = (
                    "the graph has changed since its snapshot was written:\n"
                    f"{message}\n(pytest {_UPDATE} accepts the graph as it is now)"
                )
        if message and self._config.getoption(_UPDATE):
            snapshots.write(path, text)
            self._config.stash.setdefault(_WRITTEN, []).append(str(path))
        elif message:
            pytest.fail(message)

    def _next(self, name: str) -> Path:
        from gradviz.errors import UsageError
        from gradviz.frontends.snapshots import snapshot_file

        if name and name in self._used:
            raise UsageError(f"this test has a snapshot {name!r} already: give another name")
        if not name and self._used:
            name = str(len(self._used) + 1)
        self._used.add(name)
        return snapshot_file(self._file, self._test, name)
