"""An error, with all that is known of the moment when it was raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradviz.explanation.answers import Explanation
from gradviz.explanation.lines import mention
from gradviz.explanation.moment import Moment
from gradviz.explanation.verdict import Verdict

__all__ = ["Trouble"]


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
    """

    kind: str
    message: str
    line: str
    moment: Moment
    names: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def at(self) -> str:
        """``" at train.py:12 (loss.backward())"``, or nothing."""
        return f" at {mention(self.line)}" if self.line else ""

    @property
    def problem(self) -> tuple[str, str]:
        """The node to which a recording has traced the error, and what it says there."""
        for key, data in self.moment.graph.nodes(data=True):
            if "problem" in data:
                return key, data["problem"]
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
        found = tuple(dict.fromkeys(filter(None, (*evidence, self.line))))
        return Explanation(verdict, self.kind, reason, found, fix, self.moment.graph, culprit)
