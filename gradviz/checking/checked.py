"""What `check` answers: both gradients of each input, and what is wrong, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradviz.checking.numeric import NumericOutcome
from gradviz.graph import GradGraph
from gradviz.graph.text import number_text
from gradviz.shown import Shown
from gradviz.story import Frame, Story

__all__ = ["Check", "Checked", "Culprit"]

_FEW = 4


@dataclass(frozen=True)
class Checked:
    """What became of one input.

    Args:
        index: which argument of the function it is.
        name: what the function calls it.
        shape: its sizes.
        outcome: the verdict.
        places: the elements that were compared, counted in row-major order.
        autograd: autograd's gradient there; of an output with several elements, that of a sum
            in which each has a fixed weight.
        numeric: the central differences there.
        is_none: autograd gave no gradient at all; ``autograd`` holds zeros then.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    outcome: NumericOutcome
    places: tuple[int, ...]
    autograd: tuple[float, ...]
    numeric: tuple[float, ...]
    is_none: bool = False

    @property
    def max_abs_error(self) -> float:
        """How far both are apart where they are farthest; 0 when there is nothing to compare."""
        pairs = zip(self.autograd, self.numeric, strict=True)
        return max((_unless_nan(abs(a - n)) for a, n in pairs), default=0.0)

    @property
    def max_rel_error(self) -> float:
        """The same as a share of the larger of the two, at most 1 when their signs agree."""
        pairs = zip(self.autograd, self.numeric, strict=True)
        apart = (abs(a - n) / (max(abs(a), abs(n)) or 1.0) for a, n in pairs)
        return max(map(_unless_nan, apart), default=0.0)

    @property
    def values(self) -> str:
        """Both gradients in a few words; of many elements, the one with the largest error."""
        if not self.places:
            return "no elements"
        shown = list(range(len(self.places)))
        where = ""
        if len(shown) > _FEW:
            errors = [
                _unless_nan(abs(a - n)) for a, n in zip(self.autograd, self.numeric, strict=True)
            ]
            shown = [errors.index(max(errors))]
            where = f"at {_index(self.places[shown[0]], self.shape)}: "
        autograd = "None" if self.is_none else numbers([self.autograd[each] for each in shown])
        return (
            f"{where}autograd {autograd}, differences {numbers([self.numeric[i] for i in shown])}"
        )


def numbers(values: Sequence[float]) -> str:
    """Numbers in a row, six digits each; rounding leaves no ``-0`` and no ``1e-12`` beside 1.

    Example:
        >>> numbers([11.9999999999, -1e-13])
        '12 0'
    """
    size = max((abs(value) for value in values), default=0.0)
    rounded = (0.0 if abs(value) <= 1e-9 * max(size, 1.0) else value for value in values)
    return " ".join(map(number_text, rounded)).replace("nan", "NaN")


def _unless_nan(error: float) -> float:
    return float("inf") if error != error else error


def _index(place: int, shape: Sequence[int]) -> str:
    """Where an element lies: ``[1,2]``."""
    found: list[str] = []
    for size in reversed(shape):
        place, position = divmod(place, size)
        found.insert(0, str(position))
    return f"[{','.join(found)}]"


@dataclass(frozen=True)
class Culprit:
    """The first custom Function whose backward does not fit its forward.

    Args:
        name: of its class.
        source: the line that called it: ``"train.py:12"``; empty when there is none.
        reason: what it gives, and what differences say.
        node: its key in the graph.
    """

    name: str
    source: str
    reason: str
    node: str


@dataclass(frozen=True, eq=False)
class Check(Shown):
    """The answer of `check`: one `Checked` per input; ``str()`` is a small table.

    Args:
        inputs: the inputs that were compared, in order.
        culprit: the custom Function that is wrong, if one is.
        cuts: where data left the graph inside the function, when an input is wrong and no custom
            Function is: ``"detach, train.py:3"``.
        graph: what autograd recorded, with what is wrong marked.
        elements: how many numbers the function returns.
    """

    inputs: tuple[Checked, ...]
    culprit: Culprit | None
    cuts: tuple[str, ...]
    graph: GradGraph
    elements: int

    @property
    def ok(self) -> bool:
        """Whether all inputs could be compared, and none is wrong; a kink is not wrong."""
        return all(each.outcome in (NumericOutcome.OK, NumericOutcome.KINK) for each in self.inputs)

    def __bool__(self) -> bool:
        """Whether it passed: the same as ``ok``."""
        return self.ok

    @property
    def reason(self) -> str:
        """What is wrong, in one sentence; "" when nothing is known to be."""
        if self.culprit:
            source = f" ({self.culprit.source})" if self.culprit.source else ""
            return f"{self.culprit.reason}{source}"
        wrong = [each.name for each in self.inputs if each.outcome is NumericOutcome.WRONG]
        if wrong and self.cuts:
            return f"no custom Function is wrong, but data leaves the graph by {self._listed_cuts}"
        if wrong:
            return "neither a custom Function nor a cut explains it"
        return ""

    @property
    def _listed_cuts(self) -> str:
        return " and by ".join(self.cuts)

    @property
    def story(self) -> Story:
        """The graph as a story of one frame; ``draw`` draws it."""
        said = [f"{each.name} {each.outcome.value}: {each.values}." for each in self.inputs]
        caption = " ".join([*said, *([f"{self.reason}."] if self.reason else [])])
        return Story((Frame("", self.graph, caption),))

    def __str__(self) -> str:
        rows = [(each.name, each.outcome.value, each.values) for each in self.inputs]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join([*map(str.ljust, row, widths), f"off by {each.max_abs_error:.0e}"])
            for row, each in zip(rows, self.inputs, strict=True)
        ]
        if self.elements != 1:
            several = f"the output has {self.elements:,} elements"
            lines.append(f"({several}: gradients are those of their sum, with fixed weights)")
        return "\n".join([*lines, *([self.reason] if self.reason else [])])
