"""Keeps what code on a page gave, so that the next build need not run it again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gradviz import __version__
from gradviz.frontends.files import write_atomically
from gradviz.frontends.pages.running import BlockOutcome

__all__ = ["Cache", "CachedPage", "versions"]


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
