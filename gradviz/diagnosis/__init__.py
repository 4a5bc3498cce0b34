"""Explaining: why a gradient is None, zero, doubled or NaN, or why backward raised."""

from __future__ import annotations

from gradviz.diagnosis.answers import Explanation, Explanations
from gradviz.diagnosis.explain import explain
from gradviz.diagnosis.verdict import Verdict

__all__ = ["Explanation", "Explanations", "Verdict", "explain"]
