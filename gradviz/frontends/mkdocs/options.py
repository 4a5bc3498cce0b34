"""The options of a fence: what each may be, and what it means."""

from __future__ import annotations

from dataclasses import dataclass

from gradviz.errors import UsageError
from gradviz.frontends.frames import parse_numbers
from gradviz.frontends.pages.running import Wanted
from gradviz.frontends.view_names import COLOURS, DIRECTIONS, ViewOptions

__all__ = ["THEMES", "FenceRequest"]

THEMES = {
    "auto": (("auto", ""),),
    "light": (("light", ""),),
    "dark": (("dark", ""),),
    # Material for MkDocs shows one of two images by these marks, as its button says.
    "both": (("light", "#only-light"), ("dark", "#only-dark")),
}
"""The pictures to draw for each ``theme``: their theme, and what the address ends with."""

_CODE = ("draw", "file", "frames", "raises")
_PICTURE = ("views", "depth", "focus", "radius", "colour-by", "color-by", "direction")
_WORDS = (*_CODE, *_PICTURE, "theme", "alt", "caption")
_FLAGS = ("all", "hide-code", "context")


@dataclass(frozen=True)
class FenceRequest:
    """The options of a fence.

    Args:
        wanted: what is drawn.
        file: a script, module or saved graph to run in place of code; or empty.
        theme: one of `THEMES`.
        alt: what the picture says to who does not see it; empty for the usual.
        caption: a line under it.
        is_shared: whether the block shares variables with others of the page.
        hides_code: whether the picture stands alone.
    """

    wanted: Wanted
    file: str
    theme: str
    alt: str
    caption: str
    is_shared: bool
    hides_code: bool

    @staticmethod
    def of(options: dict[str, str]) -> FenceRequest:
        """Read the options.

        Raises:
            UsageError: if there is none of a name, or its value cannot be, or two of them
                contradict each other.
        """
        allowed = (*_WORDS, *_FLAGS)
        unknown = [name for name in options if name not in allowed]
        if unknown:
            raise UsageError(f"there is no option {unknown[0]!r}; there are {', '.join(allowed)}")
        theme = options.get("theme", "auto")
        _check("theme", theme, tuple(THEMES))
        found = FenceRequest(
            wanted=Wanted(
                names=options.get("draw", ""),
                frames=parse_numbers(options.get("frames", ""), "frames"),
                raises=options.get("raises", ""),
                shown=_shown(options),
            ),
            file=options.get("file", ""),
            theme=theme,
            alt=options.get("alt", ""),
            caption=options.get("caption", ""),
            is_shared=_is_on(options, "context"),
            hides_code=_is_on(options, "hide-code"),
        )
        found.check()
        return found

    def check(self) -> None:
        """Refuse what is for code on the page alone where a file is run."""
        wanted = self.wanted
        for name, value in (("draw", wanted.names), ("raises", wanted.raises)):
            if self.file and value:
                hint = f': write file="{self.file}:{value}"' if name == "draw" else ""
                raise UsageError(f"{name} is for code on the page, not for a file{hint}")
        if self.file and self.is_shared:
            raise UsageError("context is for code on the page, not for a file")


def _is_on(options: dict[str, str], flag: str) -> bool:
    """Whether a flag is given: ``all``, ``all=true``."""
    word = options.get(flag, "false").lower()
    _check(flag, word, ("true", "false"))
    return word == "true"


def _shown(options: dict[str, str]) -> ViewOptions:
    if "colour-by" in options and "color-by" in options:
        raise UsageError("colour-by and color-by are the same: write one of them")
    colour = options.get("colour-by", options.get("color-by"))
    direction = options.get("direction", "data")
    if colour is not None:
        _check("colour-by", colour, COLOURS)
    _check("direction", direction, DIRECTIONS)
    found = ViewOptions(
        views=options.get("views"),
        depth=_number(options, "depth", 1),
        focus=options.get("focus"),
        radius=_number(options, "radius", 0),
        all=_is_on(options, "all"),
        colour_by=colour,
        direction=direction,
    )
    found.chosen("{}")
    return found


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} cannot be {value!r}: write {', '.join(allowed)}")


def _number(options: dict[str, str], name: str, least: int) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{name} takes a number from {least} up; not {text!r}")
    return int(text)
