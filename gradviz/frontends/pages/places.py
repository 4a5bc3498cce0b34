"""Where code of the docs runs, and which files it was made of."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gradviz.frontends.script import modules_forgotten
from gradviz.frontends.target import Target, check_file, parse_target

__all__ = ["PagePlace", "at_home", "source_of", "target_of"]


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
        if not (target.is_script or target.is_saved):
            return PagePlace(target, top, source)
        path = Path(source)
        return PagePlace(Target(path.name, target.names), path.parent, source)

    def check(self) -> None:
        """Raise a `TargetError` that helps on when there is no such file."""
        if self.target.is_script or self.target.is_saved:
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
    if not (target.is_script or target.is_saved):
        return target
    place = top / target.place[1:] if target.place.startswith("/") else folder / target.place
    return Target(os.path.normpath(place), target.names)


def source_of(target: Target) -> str:
    """The file that a target is made of; empty when it cannot be told.

    Example:
        >>> source_of(Target("json.decoder"))[-16:].replace(os.sep, "/")
        '/json/decoder.py'
    """
    if target.is_script or target.is_saved:
        return target.place
    path = sys.path[:]
    sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(target.place)
    except Exception:  # a package above it may raise anything; running it will say so
        return ""
    finally:
        sys.path[:] = path
    return spec.origin if spec and spec.origin and spec.origin.endswith(".py") else ""


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
