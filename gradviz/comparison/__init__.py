"""Comparing: what one graph has that another has not, and what has changed from frame to frame."""

from __future__ import annotations

from gradviz.comparison.compare import Comparison, compare
from gradviz.comparison.differences import Change
from gradviz.comparison.frames import mark_stale_leaves
from gradviz.comparison.news import mark_changes

__all__ = ["Change", "Comparison", "compare", "mark_changes", "mark_stale_leaves"]
