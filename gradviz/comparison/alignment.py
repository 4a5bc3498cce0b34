"""The longest common part of two sequences that differ in little."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

__all__ = ["align"]


def align(
    before: Sequence[Hashable], after: Sequence[Hashable], most: int = 400
) -> Iterator[tuple[int, int]]:
    """Pair the equal elements of two sequences, in order, with as few left over as can be.

    Args:
        before: one sequence.
        after: the other.
        most: the number of elements without a partner at which it gives up: the work is the
            length times the difference.

    Returns:
        Pairs of indices, from the last to the first; none when the sequences differ in more.

    Note:
        The algorithm is that of E. W. Myers, "An O(ND) difference algorithm and its
        variations", Algorithmica 1 (1986).

    Example:
        >>> list(align("abcd", "abxcd"))
        [(3, 4), (2, 3), (1, 1), (0, 0)]
    """
    furthest = {1: 0}  # per diagonal, how far into ``before`` a path has come
    trail: list[dict[int, int]] = []
    for edits in range(min(most, len(before) + len(after)) + 1):
        trail.append(dict(furthest))
        for diagonal in range(-edits, edits + 1, 2):
            if _is_down(furthest, diagonal, edits):
                x = furthest[diagonal + 1]
            else:
                x = furthest[diagonal - 1] + 1
            y = x - diagonal
            while x < len(before) and y < len(after) and before[x] == after[y]:
                x, y = x + 1, y + 1
            furthest[diagonal] = x
            if x >= len(before) and y >= len(after):
                yield from _back(trail, x, y)
                return


def _is_down(furthest: dict[int, int], diagonal: int, edits: int) -> bool:
    """Whether the best path to a diagonal leaves out an element of ``after``."""
    if diagonal in (-edits, edits):
        return diagonal == -edits
    return furthest[diagonal - 1] < furthest[diagonal + 1]


def _back(trail: list[dict[int, int]], x: int, y: int) -> Iterator[tuple[int, int]]:
    for edits in range(len(trail) - 1, -1, -1):
        diagonal = x - y
        is_down = _is_down(trail[edits], diagonal, edits)
        begin = trail[edits][diagonal + 1] if is_down else trail[edits][diagonal - 1] + 1
        while x > begin:
            x, y = x - 1, y - 1
            yield x, y
        x, y = (x, y - 1) if is_down else (x - 1, y)
