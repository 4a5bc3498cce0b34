"""Explaining: why a gradient is None, zero, doubled or NaN, or why backward raised."""

from __future__ import annotations

from gradviz.explanation.answers import Explanation, Explanations
from gradviz.explanation.explain import explain
from gradviz.explanation.verdict import Verdict

__all__ = ["Explanation", "Explanations", "Verdict", "explain"]
