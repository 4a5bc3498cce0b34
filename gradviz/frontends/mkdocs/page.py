"""Runs the code of the fences of a page, unless it is known from an earlier build what it gives."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gradviz.errors import UsageError
from gradviz.frontends.mkdocs.options import FenceRequest
from gradviz.frontends.pages.cache import Cache, CachedPage
from gradviz.frontends.pages.namespace import CodeError, Namespace
from gradviz.frontends.pages.places import PagePlace, at_home
from gradviz.frontends.pages.running import BlockOutcome, Wanted, run_block, run_target

__all__ = ["Page", "file_of"]


def file_of(md: Any) -> Any:
    """The file of the page that is read, or None: MkDocs gives it to what resolves links."""
    return next((each.file for each in md.treeprocessors if hasattr(each, "file")), None)


class Page:
    """What the fences of a page share; Markdown forgets it with the page.

    Args:
        root: where code runs, and files are looked for: the folder of ``mkdocs.yml``.
        cache: of the site.
    """

    def __init__(self, root: Path, cache: Cache) -> None:
        self.cache = cache
        self._root = root
        self.reset()

    def reset(self) -> None:
        """Called by ``Markdown.reset`` before another page."""
        self._namespace: Namespace | None = None
        self._shared: list[tuple[str, Wanted]] = []
        self._ran = 0  # of these; the others were known
        self._files: tuple[str, ...] = ()

    @staticmethod
    def of(md: Any) -> Page:
        """That of a ``Markdown``."""
        for known in md.registeredExtensions:
            if isinstance(known, Page):
                return known
        links = next((each for each in md.treeprocessors if hasattr(each, "file")), None)
        path = getattr(getattr(links, "config", None), "config_file_path", None)
        root = Path(path).parent.absolute() if path else Path.cwd()
        page = Page(root, Cache(root / ".cache" / "gradviz" if path else None))
        md.registerExtension(page)
        return page

    def run(self, source: str, asked: FenceRequest) -> BlockOutcome:
        """What the code of a fence gives.

        Raises:
            GradvizError: if it fails, or there is nothing to draw in it.
        """
        if not asked.is_shared:
            facts = [source, repr(asked.wanted)]
            return self._known(facts, lambda: self._block(source, asked)).outcome
        self._shared.append((source, asked.wanted))
        facts = [*(code for code, _ in self._shared), repr(asked.wanted), "shared"]
        kept = self._known(facts, self._shared_block)
        self._files = kept.files
        return kept.outcome

    def place(self, source: str, asked: FenceRequest) -> PagePlace:
        """The file that a fence names.

        Raises:
            GradvizError: if there is no such file, or code beside it.
        """
        if source.strip():
            raise UsageError(f'there is code on the page, and file="{asked.file}" names another')
        with at_home(self._root):
            place = PagePlace.of(asked.file, self._root, self._root)
            place.check()
        return place

    def run_file(self, place: PagePlace, wanted: Wanted) -> BlockOutcome:
        """What a file gives.

        Raises:
            GradvizError: if it fails, or there is nothing to draw in it.
        """

        def run() -> CachedPage:
            with at_home(place.home, place.home, self._root) as files:
                outcome = run_target(place.target, wanted)
            return CachedPage(outcome, tuple(files))

        # Of the same name and text are two files that import what lies beside them.
        home = os.path.relpath(place.home, self._root)
        return self._known([home, str(place.target), place.code(), repr(wanted)], run).outcome

    def _known(self, facts: Sequence[str], run: Callable[[], CachedPage]) -> CachedPage:
        kept = self.cache.find(facts)
        if kept is None:
            kept = run()
            self.cache.keep(facts, kept)
        return kept

    def _block(self, source: str, asked: FenceRequest) -> CachedPage:
        with at_home(self._root, self._root) as files:
            outcome = run_block(Namespace(""), source, asked.wanted)
        return CachedPage(outcome, tuple(files))

    def _shared_block(self) -> CachedPage:
        """Run the last of the blocks that share variables, after those that were only known."""
        with at_home(self._root, self._root) as files:
            namespace = self._namespace = self._namespace or Namespace("")
            *before, (source, wanted) = self._shared[self._ran :]
            self._ran = len(self._shared)
            for code, known in before:
                with contextlib.suppress(CodeError):  # it has been told
                    run_block(namespace, code, known)
            outcome = run_block(namespace, source, wanted)
        return CachedPage(outcome, tuple(dict.fromkeys([*self._files, *files])))
