"""An error, with all that is known of the moment when it was raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context as Moment
from gradviz.diagnosis.lines import locations_of, mention
from gradviz.diagnosis.verdict import Verdict
from gradviz.wording import problem_text

__all__ = ["ResultOrigin", "Trouble"]


class ResultOrigin(NamedTuple):
    """Where a tensor came from, as far as it is known; "" for what is not.

    Args:
        name: what it is called.
        op: what made it.
        line: where.
        key: of that operation in the frames.
    """

    name: str = ""
    op: str = ""
    line: str = ""
    key: str = ""


_NOWHERE = ResultOrigin()


@dataclass(frozen=True, eq=False)
class Trouble:
    """An error to be explained.

    Args:
        kind: its class: ``"RuntimeError"``.
        message: what it says, or what a recording said of it.
        line: the user's line that led to it; may be empty.
        moment: the graph of that moment.
        names: what the tensors are called that were given with it.
        unused: the parameters, given with it, that no gradient comes to.
        error: the exception itself, if it was given.
        origin: where the result of an operation came from that torch has refused.
    """

    kind: str
    message: str
    line: str
    moment: Moment
    names: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    error: BaseException | None = None
    origin: ResultOrigin = _NOWHERE

    @property
    def at(self) -> str:
        """``" at train.py:12 (loss.backward())"``, or nothing."""
        return f" at {mention(self.line)}" if self.line else ""

    @property
    def problem(self) -> tuple[str, str]:
        """The node to which a recording has traced the error, and what it says there."""
        for key, data in self.moment.graph.nodes(data=True):
            if "problem" in data:
                return key, problem_text(data["problem"])
        return "", ""

    def answer(
        self,
        verdict: Verdict,
        reason: str,
        fix: str = "",
        evidence: Sequence[str] = (),
        culprit: str = "",
    ) -> Explanation:
        """The explanation, with the line of the error among the evidence."""
        graph = self.moment.graph
        nodes = tuple(dict.fromkeys(each for each in evidence if each in graph))
        lines = (each for each in (*evidence, self.line) if each not in graph)
        culprit = culprit if culprit in graph else ""
        return Explanation(
            verdict,
            self.kind,
            reason,
            fix,
            nodes,
            locations_of(lines),
            graph,
            culprit,
            self.moment.kept,
        )
