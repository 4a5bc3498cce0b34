"""Light or dark: which pictures go into a page, so that they look as the page does."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

__all__ = ["themes_of"]

_BOTH = ("light", "dark")


def themes_of(builder: Any, wanted: str) -> tuple[str, ...]:
    """The themes in which to draw a picture.

    An ``<img>`` follows the reader's system, not the button of a site. Where the site's style
    sheets know the classes ``only-light`` and ``only-dark`` both pictures are there, and the
    site shows one. Where they know dark at all, one picture follows the system; elsewhere the
    page stays light, and so does the picture.

    Args:
        builder: of Sphinx.
        wanted: ``"site"`` for the above; ``"both"``, ``"auto"``, ``"light"`` or ``"dark"``.

    Returns:
        One theme of `gradviz.draw`, or a light and a dark one.
    """
    if builder.format != "html" or builder.name == "epub":
        return ("dark",) if wanted == "dark" else ("light",)  # there the page is paper
    if wanted == "site":
        theme = getattr(builder, "theme", None)
        folders = [str(folder) for folder in theme.get_theme_dirs()] if theme else []
        folders += [str(Path(builder.confdir, each)) for each in builder.config.html_static_path]
        wanted = _by_style(tuple(folders))
    return _BOTH if wanted == "both" else (wanted,)


@functools.lru_cache(maxsize=8)
def _by_style(folders: tuple[str, ...]) -> str:
    """What the style sheets of a site know of: both, auto (they follow the system), or light."""
    found = "light"
    for folder in folders:
        for sheet in sorted(Path(folder).rglob("*.css*")):
            text = sheet.read_text(encoding="utf-8", errors="replace")
            if ".only-dark" in text:
                return "both"
            if "prefers-color-scheme" in text:
                found = "auto"
    return found
