"""What is drawn of a graph, as options ask for it: in a shell, on a page, in a notebook."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradviz.errors import UsageError

if TYPE_CHECKING:
    from gradviz.views import View

__all__ = ["COLOURS", "DIRECTIONS", "ViewOptions"]

COLOURS = ("grad_norm", "saved_bytes", "device", "dtype")
"""What ``--colour-by`` may ask for."""

DIRECTIONS = ("data", "gradient")
"""Where the arrows may point."""


@dataclass(frozen=True)
class ViewOptions:
    """How much of a graph is drawn, and what is shown on it.

    Args:
        views: by name, in order: ``"hide_bookkeeping,only_paths_to:fc.weight"`` or ``"none"``.
        depth: how deep modules are opened, from 1 on.
        focus: a module, tensor or operation, which is drawn with what is around it.
        radius: how many steps around the focus; None for the usual number.
        all: fold nothing.
        colour_by: one of `COLOURS`, or None.
        direction: one of `DIRECTIONS`.

    Example:
        >>> [view.__name__ for view in ViewOptions("hide_bookkeeping").chosen()]
        ['hide_bookkeeping']
        >>> ViewOptions(depth=1, all=True).chosen(":{}:")
        Traceback (most recent call last):
        gradviz.errors.UsageError: :depth: and :all: exclude each other: give one of them
    """

    views: str | None = None
    depth: int | None = None
    focus: str | None = None
    radius: int | None = None
    all: bool = False
    colour_by: str | None = None
    direction: str = "data"

    def chosen(self, spelt: str = "--{}") -> list[View]:
        """The views in order: the whole picture first, then what is shown on it.

        Args:
            spelt: how the user writes an option, for messages.

        Raises:
            UsageError: if there is no view of a name, or two options contradict each other.
        """
        from gradviz.views import colour_by, reverse_flow

        found = self._selection(spelt)
        if self.direction == "gradient" and reverse_flow not in found:
            found.append(reverse_flow)
        if self.colour_by is not None:
            found.append(colour_by(self.colour_by))
        return found

    def _selection(self, spelt: str) -> list[View]:
        from gradviz import views

        asked = {"depth": self.depth, "focus": self.focus, "all": self.all or None}
        asked["views"] = self.views
        given = [spelt.format(option) for option, value in asked.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{given[0]} and {given[1]} exclude each other: give one of them")
        if self.focus is not None:
            near = {} if self.radius is None else {"radius": self.radius}
            focused = views.focus_on(self.focus, **near)
            return [views.hide_bookkeeping, focused, views.clone_shared_leaves]
        if self.radius is not None:
            radius, focus = spelt.format("radius"), spelt.format("focus")
            raise UsageError(f"{radius} says how much to draw around a {focus}, and there is none")
        if self.all:
            return [views.hide_bookkeeping, views.clone_shared_leaves]
        if self.depth is not None:
            return _at_depth(self.depth)
        return list(views.DEFAULT) if self.views is None else _named(self.views)


def _named(names: str) -> list[View]:
    from gradviz.views import ALL

    if names.strip() == "none":
        return []
    found = []
    for word in names.split(","):
        name, _, argument = word.strip().partition(":")
        if name == "none":
            raise UsageError(f"none stands alone: it cannot be in {names!r}")
        if name not in ALL:
            raise UsageError(f"there is no view {name!r}; views are none, {', '.join(ALL)}")
        needed = _needed(ALL[name])
        if bool(needed) != bool(argument):
            wrong = f"needs a {needed}: {name}:NAME" if needed else f"takes no {argument!r}"
            raise UsageError(f"the view {name} {wrong}")
        found.append(ALL[name](argument) if needed else ALL[name])
    return found


def _needed(view: View) -> str:
    """What a view cannot do without: ``"target"``, the name of a node; or nothing."""
    _, *others = inspect.signature(view).parameters.values()
    return next((each.name for each in others if each.default is each.empty), "")


def _at_depth(depth: int) -> list[View]:
    from gradviz import views

    folded, grouped = views.fold_repeats(depth=depth), views.group_by_module(depth=depth)
    # Once repeats are folded, names tell less of the modules around them.
    found = [views.infer_modules, folded, views.hide_bookkeeping, grouped]
    return [*found, views.clone_shared_leaves]
