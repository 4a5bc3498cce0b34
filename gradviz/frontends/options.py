"""The options of a picture, declared once for `draw`, the commands, notebooks and pages.

`PictureOptions` is the table. Python takes the options as keywords; the shell, ``%%gradviz``,
Sphinx and MkDocs take them as text, with ``-`` for ``_``: ``color_by`` is ``--color-by``,
``:color-by:`` and ``color-by=``.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypedDict, TypeVar, get_args, get_type_hints

from gradviz.errors import UsageError
from gradviz.frontends.option_values import ALLOWED, CHECKS, is_text, listed_tensors, points
from gradviz.graph.text import must_be
from gradviz.renderers.scene import SheetStyle
from gradviz.renderers.theme import Theme
from gradviz.views import RENAMED, View

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Option:
    """One option of a picture."""

    help: str  # what it does, as a sentence
    # ``"text"``, ``"flag"``, ``"integer"``, ``"number"``, ``"length"``, ``"choice"``,
    # ``"mapping"``, ``"tensors"``, ``"events"`` or ``"views"``
    kind: str = "text"
    default: Any = None  # the value when it is not given
    choices: tuple[str, ...] = ()  # the allowed values of a choice
    least: float = -math.inf  # the smallest allowed number
    metavar: str = ""  # the placeholder of the value in the help of a command
    formats: tuple[str, ...] = ()  # the formats on which it has an effect; empty for all
    name: str = field(default="", kw_only=True)  # set from the table

    @property
    def word(self) -> str:
        """Its name where options are text: ``color-by``."""
        return self.name.replace("_", "-")

    def called(self, spelt: str) -> str:
        """Its name where options are written so: ``color_by`` in Python, else ``color-by``."""
        if spelt == "--{}" and self.kind == "flag" and self.default:
            return f"no-{self.word}"
        return self.name if spelt == "{}" else self.word

    def read(self, text: str, spelt: str = "{}") -> Any:
        """Parse a value.

        Args:
            text: the text that the user wrote.
            spelt: how options are written there, for messages: ``"--{}"``.

        Raises:
            UsageError: if the text is not a value of this option.

        Example:
            >>> OPTIONS["depth"].read("2"), OPTIONS["all"].read("true")
            (2, True)
            >>> OPTIONS["labels"].read("w=weights, b=bias")
            {'w': 'weights', 'b': 'bias'}
            >>> OPTIONS["depth"].read("0", "--{}")
            Traceback (most recent call last):
            gradviz.errors.UsageError: --depth must be an integer >= 1, got '0'
        """
        value: Any = text
        if self.kind == "mapping":
            pairs = [pair.partition("=") for pair in text.split(",")]
            if not all(name.strip() and found.strip() for name, _, found in pairs):
                raise UsageError(
                    f"{spelt.format(self.word)} must be like {self.metavar}, got {text!r}"
                )
            value = {name.strip(): found.strip() for name, _, found in pairs}
        elif self.kind == "number":
            with contextlib.suppress(ValueError):
                value = float(text)
        elif self.kind == "tensors":
            value = [word.strip() for word in text.split(",")]
        elif self.kind == "integer":
            digits = text.strip().removeprefix("-")
            value = int(text) if digits.isdecimal() else text
            if value is text or value < self.least:
                raise UsageError(f"{spelt.format(self.word)} must be {self.allowed}, got {text!r}")
        elif self.kind == "flag":
            value = {"": True, "true": True, "false": False}.get(text.strip().lower(), text)
            if value is text:
                raise UsageError(f"{spelt.format(self.word)} must be true or false, got {text!r}")
        return self.check(value, spelt.format(self.word))

    def check(self, value: Any, called: str = "") -> Any:
        """Return the value if it is allowed.

        Args:
            value: the value from the caller; the default is always allowed.
            called: the name of the option in a message.

        Raises:
            UsageError: if it is not allowed.

        Example:
            >>> OPTIONS["title"].check(5)
            Traceback (most recent call last):
            gradviz.errors.UsageError: title must be a string, got 5
        """
        if self._is_allowed(value) or (value is self.default and self.kind != "flag"):
            return value
        raise UsageError(must_be(called or self.name, self.allowed, value))

    def _is_allowed(self, value: Any) -> bool:
        if self.kind == "flag":
            return isinstance(value, bool)
        if self.kind == "integer":
            return type(value) is int and value >= self.least
        if self.kind == "choice":
            return isinstance(value, str) and value in self.choices
        return CHECKS.get(self.kind, is_text)(value)

    @property
    def allowed(self) -> str:
        """A description of the allowed values."""
        if self.kind == "integer":
            return f"an integer >= {self.least}"
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        return ALLOWED[self.kind]


_SIZED = ("svg", "png", "pdf", "eps")
_COLORED = (*_SIZED, "dot", "mmd")
_DRAWN = (*_COLORED, "html")
_SEEN = (*_DRAWN, "txt")  # all but JSON, which holds the graph before any view


class PictureOptions(TypedDict, total=False):
    """The options of a picture, by name."""

    views: Annotated[
        Sequence[View | str] | str | None,
        Option(
            "Which views to apply, in order: top,only_paths_to:fc.weight; none shows the graph as "
            "it was recorded.",
            "views",
            metavar="NAMES",
            formats=_SEEN,
        ),
    ]
    depth: Annotated[
        int | None,
        Option(
            "Draw each module as one box, so many levels deep.", "integer", least=1, formats=_SEEN
        ),
    ]
    focus: Annotated[
        str | None,
        Option(
            "Draw a module, tensor or operation with its neighborhood; * stands for anything.",
            metavar="NAME",
            formats=_SEEN,
        ),
    ]
    radius: Annotated[
        int | None,
        Option("How many steps around the focus are drawn (2).", "integer", least=0, formats=_SEEN),
    ]
    all: Annotated[
        bool, Option("Fold nothing, however large the picture gets.", "flag", False, formats=_SEEN)
    ]
    color_by: Annotated[
        str | None,
        Option(
            "Show this on each box and arrow, with a scale.",
            "choice",
            choices=("grad_norm", "saved_bytes", "device", "dtype"),
            formats=_SEEN,
        ),
    ]
    direction: Annotated[
        str,
        Option(
            "Where the arrows point: with the data, or with the gradient.",
            "choice",
            "data",
            ("data", "gradient"),
            formats=_DRAWN,
        ),
    ]
    rankdir: Annotated[
        str,
        Option(
            "Let the data flow from top to bottom (TB) or from left to right (LR).",
            "choice",
            "TB",
            ("TB", "LR"),
            formats=_DRAWN,
        ),
    ]
    width: Annotated[
        str | float | None,
        Option(
            "Width of the picture: 8cm, 80mm, 3in, 400px, or points. In HTML: as printed.",
            "length",
            metavar="LENGTH",
            formats=(*_SIZED, "html"),
        ),
    ]
    font_size: Annotated[
        float | None,
        Option(
            "Size of the names, in points; the picture grows with it. In HTML: as printed.",
            "number",
            metavar="POINTS",
            formats=(*_SIZED, "html"),
        ),
    ]
    legend: Annotated[bool, Option("Draw the legend.", "flag", True, formats=(*_SIZED, "html"))]
    labels: Annotated[
        Mapping[str, str] | None,
        Option(
            "Other names for tensors, operations and modules: w=weights,relu=activation.",
            "mapping",
            metavar="NAME=LABEL,...",
            formats=_SEEN,
        ),
    ]
    colors: Annotated[
        Mapping[str, str] | None,
        Option(
            "Colors for tensors, operations and modules: w=red,relu=#ffcc00.",
            "mapping",
            metavar="NAME=COLOR,...",
            formats=_DRAWN,
        ),
    ]
    highlight: Annotated[
        Any,
        Option(
            "Let a tensor, or several, stand out, with the path of its gradient.",
            "tensors",
            metavar="NAMES",
            formats=_DRAWN,
        ),
    ]
    events: Annotated[
        str | None,
        Option(
            "List what happened in a recording: few, all, or kinds of events: cut,backward.",
            "events",
            metavar="WHICH",
            formats=("txt",),
        ),
    ]
    theme: Annotated[
        Theme,
        Option(
            "auto follows the reader's color scheme (SVG, HTML); light and dark do not.",
            "choice",
            "auto",
            get_args(Theme),
            formats=_DRAWN,
        ),
    ]
    title: Annotated[str, Option("A line above the picture.", default="", metavar="TEXT")]
    transparent: Annotated[
        bool,
        Option(
            "No page behind the picture: .svg .png .pdf .eps .dot.",
            "flag",
            False,
            formats=(*_SIZED, "dot"),
        ),
    ]


def _table() -> dict[str, Option]:
    hints = get_type_hints(PictureOptions, include_extras=True)
    return {name: replace(hint.__metadata__[0], name=name) for name, hint in hints.items()}


OPTIONS: dict[str, Option] = _table()
"""Every option of a picture, by its name in Python."""


@dataclass(frozen=True, repr=False)
class Picture:
    """Checked options of a picture.

    Example:
        >>> [view.__name__ for view in Picture.of({"views": "hide_bookkeeping"}).views()]
        ['hide_bookkeeping']
        >>> Picture.of({"depth": 1, "all": True}, ":{}:")
        Traceback (most recent call last):
        gradviz.errors.UsageError: :depth: and :all: exclude each other: give one of them
    """

    given: Mapping[str, Any]  # values by the name of the option
    spelt: str = "{}"  # how the user writes an option, for messages

    @staticmethod
    def of(options: Mapping[str, Any], spelt: str = "{}") -> Picture:
        """Check options.

        Args:
            options: the options from the caller.
            spelt: how the user writes an option: ``"{}"`` in Python, ``"--{}"`` in a shell.

        Raises:
            UsageError: if there is no such option, a value is not allowed, there is no view of that
                name, or two options exclude each other.
        """
        given: dict[str, Any] = {}
        for name, value in options.items():
            name = _current_name(name)
            if name not in OPTIONS:
                raise UsageError(f"there is no option {name!r}; options are {', '.join(OPTIONS)}")
            called = spelt.format(OPTIONS[name].called(spelt))
            if name == "views" and isinstance(value, Iterable) and not isinstance(value, str):
                value = tuple(value)  # it may be an iterator
            checked = OPTIONS[name].check(value, called)
            if value is not None:
                given[name] = checked
        picture = Picture(given, spelt)
        picture.views()
        picture.marks()
        if "width" in given and "font_size" in given:
            raise UsageError(picture._exclude("width", "font_size"))
        return picture

    def __repr__(self) -> str:
        return f"Picture({', '.join(f'{k}={v!r}' for k, v in sorted(self.given.items()))})"

    def __getitem__(self, name: str) -> Any:
        """The value of an option, or its default."""
        return self.given.get(name, OPTIONS[name].default)

    def __contains__(self, name: object) -> bool:
        return name in self.given

    def views(self) -> list[View]:
        """The views in order: those that select nodes first, then those that add information.

        Raises:
            UsageError: as for `of`.
        """
        from gradviz.views import color_by, reverse_flow

        found = self._selection()
        if self["direction"] == "gradient" and reverse_flow not in found:
            found.append(reverse_flow)
        if self["color_by"] is not None:
            found.append(color_by(self["color_by"]))
        return found

    def marks(self) -> list[View]:
        """The views that mark nodes, before others fold them: one for each name that is given.

        Raises:
            UsageError: if a color is none.
        """
        from gradviz.views.colors import color_code, highlight, paint

        colors = {name: color_code(each) for name, each in (self["colors"] or {}).items()}
        return [
            *(highlight([name]) for name in listed_tensors(self["highlight"])),
            *(paint({name: code}) for name, code in colors.items()),
        ]

    def relabel(self) -> list[View]:
        """The views that call nodes by other names."""
        from gradviz.views import relabel

        return [relabel({name: label}) for name, label in (self["labels"] or {}).items()]

    @property
    def has_tensors(self) -> bool:
        """Whether a tensor is to be highlighted that is not given by its name."""
        given = self["highlight"]
        return not all(isinstance(each, str) for each in listed_tensors(given))

    def named(self, names: Mapping[int, str]) -> Picture:
        """The same with the names of tensors in place of tensors.

        Args:
            names: of tensors, by ``id``.

        Raises:
            UsageError: if a tensor to be highlighted has none.
        """
        if not self.has_tensors:
            return self
        given = listed_tensors(self["highlight"])
        found = [each if isinstance(each, str) else names.get(id(each), "") for each in given]
        if not all(found):
            raise UsageError(
                "highlight was given a tensor that no variable holds: pass its name, or give it "
                "one with names="
            )
        return Picture({**self.given, "highlight": found}, self.spelt)

    def style(self) -> SheetStyle:
        """How the sheet is arranged."""
        width = self["width"]
        return SheetStyle(
            sideways=self["rankdir"] == "LR",
            legend=self["legend"],
            width=None if width is None else points(width),
            font_size=self["font_size"],
        )

    def _exclude(self, *names: str) -> str:
        one, other = (self.spelt.format(OPTIONS[name].called(self.spelt)) for name in names)
        return f"{one} and {other} exclude each other: give one of them"

    def _selection(self) -> list[View]:
        from gradviz import views

        names = ("depth", "focus", "all", "views")
        given = [name for name in names if self[name] not in (None, False)]
        if len(given) > 1:
            raise UsageError(self._exclude(*given[:2]))
        if self["focus"] is not None:
            near = {} if self["radius"] is None else {"radius": self["radius"]}
            focused = views.focus_on(self["focus"], **near)
            return [views.hide_bookkeeping, focused, views.clone_shared_leaves]
        if self["radius"] is not None:
            radius, focus = self.spelt.format("radius"), self.spelt.format("focus")
            raise UsageError(f"{radius} says how much to draw around a {focus}, and there is none")
        if self["all"]:
            return [views.hide_bookkeeping, views.clone_shared_leaves]
        if self["depth"] is not None:
            return _at_depth(self["depth"])
        return list(views.DEFAULT) if self["views"] is None else list(_named(self["views"]))

    def without(self, name: str) -> Picture:
        """The same without one option."""
        return Picture({k: each for k, each in self.given.items() if k != name}, self.spelt)

    def with_theme(self, theme: str) -> Picture:
        """The same options with another theme."""
        return Picture({**self.given, "theme": theme}, self.spelt)

    def check_formats(self, formats: Iterable[str]) -> None:
        """Refuse an option that has no effect on any of the formats.

        Raises:
            UsageError: if there is one.

        Example:
            >>> Picture.of({"transparent": True}).check_formats(["html"])
            Traceback (most recent call last):
            gradviz.errors.UsageError: transparent has no effect on html: it is for svg, png, \
pdf, eps, dot
        """
        wanted = list(formats)
        for name, value in self.given.items():
            option = OPTIONS[name]
            if value != option.default and option.formats and not {*wanted} & {*option.formats}:
                called = self.spelt.format(option.called(self.spelt))
                raise UsageError(
                    f"{called} has no effect on {', '.join(wanted)}: it is for "
                    f"{', '.join(option.formats)}"
                )


def _current_name(name: str) -> str:
    """The current name of an option or view; a deprecated name causes a warning."""
    if name in RENAMED:
        said = f"{name} is now called {RENAMED[name]}"
        warnings.warn(said, DeprecationWarning, stacklevel=5)
    return RENAMED.get(name, name)


def _named(names: Sequence[View | str] | str) -> Iterator[View]:
    """Views from a list of them, or from names as in ``top,only_paths_to:fc.weight``."""
    if isinstance(names, str):
        if names.strip() == "none":
            return
        names = names.split(",")
    for each in names:
        yield _view(each) if isinstance(each, str) else _ready(each)


def _ready(view: View) -> View:
    """A view, if it needs no more than the graph."""
    try:
        needed = "" if isinstance(view, functools.partial) else _needed(view)
    except (TypeError, ValueError):  # it has no signature, or takes nothing: applying it tells
        return view
    if needed:
        name = getattr(view, "__name__", repr(view))
        raise UsageError(f"the view {name} needs a {needed}: write {name}({needed})")
    return view


def _view(word: str) -> View:
    from gradviz.views import ALL

    name, _, argument = word.strip().partition(":")
    name = _current_name(name)
    if name == "none":
        raise UsageError("none stands alone: it cannot be combined with other views")
    if name not in ALL:
        raise UsageError(f"there is no view {name!r}; views are none, {', '.join(ALL)}")
    needed = _needed(ALL[name])
    if bool(needed) != bool(argument):
        wrong = f"needs a {needed}: {name}:NAME" if needed else f"takes no {argument!r}"
        raise UsageError(f"the view {name} {wrong}")
    view: View = ALL[name](argument) if needed else ALL[name]
    return view


def _needed(view: View) -> str:
    """The parameter that a view requires, such as ``"target"``; "" when it requires none."""
    _, *others = inspect.signature(view).parameters.values()
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = (each for each in others if each.default is each.empty)
    return next((each.name for each in needed if each.kind not in open_ended), "")


def _at_depth(depth: int) -> list[View]:
    from gradviz import views

    folded, grouped = views.fold_repeats(depth=depth), views.group_by_module(depth=depth)
    # After folding repeats, names say less about the modules around them.
    found = [views.infer_modules, folded, views.hide_bookkeeping, grouped]
    return [*found, views.clone_shared_leaves]


def with_options(function: _Function) -> _Function:
    """Replace ``**options`` in the signature of a function by the options of a picture.

    ``help`` and completion then show each option with its default and its description.
    """
    signature = inspect.signature(function)
    hints = get_type_hints(PictureOptions)
    kept = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=hints[name]
        )
        for name, option in OPTIONS.items()
    ]
    function.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
    before, mark, after = (function.__doc__ or "").partition("        options: ")
    described = "".join(f"        {name}: {option.help}\n" for name, option in OPTIONS.items())
    function.__doc__ = before + described + after.partition("\n")[2] if mark else function.__doc__
    return function
