"""The options of a picture, declared once for `draw`, the commands, notebooks and pages.

`PictureOptions` is the table. Python takes the options as keywords; the shell, ``%%gradviz``,
Sphinx and MkDocs take them as text, with ``-`` for ``_``: ``color_by`` is ``--color-by``,
``:color-by:`` and ``color-by=``.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, TypeVar, get_args, get_type_hints

from gradviz.errors import UsageError
from gradviz.renderers.theme import Theme
from gradviz.story import Story
from gradviz.views import RENAMED, View

if TYPE_CHECKING:
    from gradviz.story import Frame

__all__ = [
    "OPTIONS",
    "Option",
    "Picture",
    "PictureOptions",
    "chosen",
    "frame_numbers",
    "with_options",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Option:
    """One option of a picture.

    Args:
        help: a sentence that describes it.
        kind: ``"text"``, ``"flag"``, ``"integer"``, ``"choice"`` or ``"views"``.
        default: the default value.
        choices: the allowed values of a choice.
        least: the smallest allowed number.
        metavar: the placeholder of the value in the help of a command.
        formats: the formats on which it has an effect; empty for all.
        name: set from the table.
    """

    help: str
    kind: str = "text"
    default: Any = None
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    metavar: str = ""
    formats: tuple[str, ...] = ()
    name: str = field(default="", kw_only=True)

    @property
    def word(self) -> str:
        """Its name where options are text: ``color-by``."""
        return self.name.replace("_", "-")

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
            >>> OPTIONS["depth"].read("0", "--{}")
            Traceback (most recent call last):
            gradviz.errors.UsageError: --depth must be an integer >= 1, got '0'
        """
        value: Any = text
        if self.kind == "integer":
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
        raise UsageError(f"{called or self.name} must be {self.allowed}, got {_brief(value)}")

    def _is_allowed(self, value: Any) -> bool:
        if self.kind == "flag":
            return isinstance(value, bool)
        if self.kind == "integer":
            return type(value) is int and value >= self.least
        if self.kind == "choice":
            return isinstance(value, str) and value in self.choices
        if self.kind == "views":
            return isinstance(value, str) or _are_views(value)
        return isinstance(value, str)

    @property
    def allowed(self) -> str:
        """A description of the allowed values."""
        if self.kind == "integer":
            return f"an integer >= {self.least}"
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        return _ALLOWED[self.kind]


_ALLOWED = {
    "flag": "True or False",
    "text": "a string",
    "views": "a list of views from gradviz.views or of their names, or () to show everything",
}


def _are_views(value: Any) -> bool:
    return isinstance(value, Iterable) and all(callable(one) or type(one) is str for one in value)


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]}…"


class PictureOptions(TypedDict, total=False):
    """The options of a picture, by name."""

    views: Annotated[
        Sequence[View | str] | str | None,
        Option(
            "Which views to apply, in order: top,only_paths_to:fc.weight; none shows the graph as "
            "it was recorded.",
            "views",
            metavar="NAMES",
        ),
    ]
    depth: Annotated[
        int | None,
        Option("Draw each module as one box, so many levels deep.", "integer", least=1),
    ]
    focus: Annotated[
        str | None,
        Option(
            "Draw a module, tensor or operation with its neighborhood; * stands for anything.",
            metavar="NAME",
        ),
    ]
    radius: Annotated[
        int | None,
        Option("How many steps around the focus are drawn (2).", "integer", least=0),
    ]
    all: Annotated[bool, Option("Fold nothing, however large the picture gets.", "flag", False)]
    color_by: Annotated[
        str | None,
        Option(
            "Show this on each box and arrow, with a scale.",
            "choice",
            choices=("grad_norm", "saved_bytes", "device", "dtype"),
        ),
    ]
    direction: Annotated[
        str,
        Option(
            "Where the arrows point: with the data, or with the gradient.",
            "choice",
            "data",
            ("data", "gradient"),
        ),
    ]
    theme: Annotated[
        Theme,
        Option(
            "auto follows the reader's color scheme (SVG, HTML); light and dark do not.",
            "choice",
            "auto",
            get_args(Theme),
        ),
    ]
    title: Annotated[str, Option("A line above the picture.", default="", metavar="TEXT")]
    transparent: Annotated[
        bool,
        Option(
            "No page behind the picture: .svg .png .pdf .dot.",
            "flag",
            False,
            formats=("svg", "png", "pdf", "dot"),
        ),
    ]


def _table() -> dict[str, Option]:
    hints = get_type_hints(PictureOptions, include_extras=True)
    return {name: replace(hint.__metadata__[0], name=name) for name, hint in hints.items()}


OPTIONS: dict[str, Option] = _table()
"""Every option of a picture, by its name in Python."""

SELECTION = ("views", "depth", "focus", "radius", "all", "color_by", "direction")
"""The options that select what is drawn of a graph, and what is shown on it."""


@dataclass(frozen=True, repr=False)
class Picture:
    """Checked options of a picture.

    Args:
        given: values by the name of the option.
        spelt: how the user writes an option, for messages.

    Example:
        >>> [view.__name__ for view in Picture.of({"views": "hide_bookkeeping"}).views()]
        ['hide_bookkeeping']
        >>> Picture.of({"depth": 1, "all": True}, ":{}:")
        Traceback (most recent call last):
        gradviz.errors.UsageError: :depth: and :all: exclude each other: give one of them
    """

    given: Mapping[str, Any]
    spelt: str = "{}"

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
            called = spelt.format(name if spelt == "{}" else OPTIONS[name].word)
            if name == "views" and isinstance(value, Iterable) and not isinstance(value, str):
                value = tuple(value)  # it may be an iterator
            checked = OPTIONS[name].check(value, called)
            if value is not None:
                given[name] = checked
        picture = Picture(given, spelt)
        picture.views()
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

    def _selection(self) -> list[View]:
        from gradviz import views

        names = ("depth", "focus", "all", "views")
        given = [self.spelt.format(name) for name in names if self[name] not in (None, False)]
        if len(given) > 1:
            raise UsageError(f"{given[0]} and {given[1]} exclude each other: give one of them")
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
pdf, dot
        """
        wanted = list(formats)
        for name, value in self.given.items():
            option = OPTIONS[name]
            if value != option.default and option.formats and not {*wanted} & {*option.formats}:
                called = self.spelt.format(name if self.spelt == "{}" else option.word)
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
        yield _view(each) if isinstance(each, str) else each


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
    return next((each.name for each in others if each.default is each.empty), "")


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


def frame_numbers(text: str, option: str) -> list[int]:
    """The numbers in ``1,3,5``; none for an empty text.

    Args:
        text: the text that the user wrote.
        option: the name of the option in messages.

    Raises:
        UsageError: if it contains anything but integers >= 1.

    Example:
        >>> frame_numbers("1, 3", "--frames")
        [1, 3]
    """
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"{option} must be integers >= 1, as in 1,3,5, got {text!r}")
    return [int(word) for word in words]


def chosen(story: Story, numbers: Sequence[int], option: str) -> tuple[Story, str]:
    """The frames with the given numbers.

    Args:
        story: the story.
        numbers: counted from 1; none for all.
        option: the name of the option in messages.

    Returns:
        The story with the existing frames, and a line about the missing ones, which are not an
        error; "" if there are none.

    Raises:
        UsageError: if none of the frames exists.

    Example:
        >>> from gradviz.graph import GradGraph
        >>> from gradviz.story import Frame
        >>> story, said = chosen(Story([Frame("forward", GradGraph())]), [1, 2], "--frames")
        >>> len(story), said
        (1, 'there is no frame 2: the recording has 1 frame')
    """
    if not numbers:
        return story, ""
    has = f"the recording has {len(story)} {'frame' if len(story) == 1 else 'frames'}"
    there = [number for number in numbers if number <= len(story)]
    if not there:
        raise UsageError(f"{option} asks for {_listed(numbers)}; {has}")
    missing = [number for number in numbers if number > len(story)]
    said = f"there is no frame {_listed(missing)}: {has}" if missing else ""
    frames = tuple(story[number - 1] for number in there)
    if len(frames) == 1 < len(story) and not story.title:
        # A single frame has no border with its title, so its title becomes that of the picture.
        frame: Frame = replace(frames[0], title="")
        return replace(story, frames=(frame,), title=frames[0].title), said
    return replace(story, frames=frames), said


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
