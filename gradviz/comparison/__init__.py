"""Compare two graphs, and find the changes from frame to frame."""

from __future__ import annotations

from gradviz.comparison.changes import Change, mark_changes, mark_shares, mark_stale_leaves
from gradviz.comparison.compare import Comparison, compare

__all__ = ["Change", "Comparison", "compare", "mark_changes", "mark_shares", "mark_stale_leaves"]
