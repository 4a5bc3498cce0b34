"""`explain`: why a gradient is None, zero, accumulated or NaN, or why backward raised."""

from __future__ import annotations

from gradviz.diagnosis.answers import Explanation, Explanations, Verdict
from gradviz.diagnosis.explain import explain

__all__ = ["Explanation", "Explanations", "Verdict", "explain"]
