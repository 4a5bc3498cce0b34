"""First step of the layered layout: which row each box goes to, so that every link goes down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Pair", "acyclic", "cost", "rank"]

Pair = tuple[int, int]


def acyclic(count: int, pairs: Sequence[Pair]) -> list[Pair]:
    """Turn the links that close a cycle around; the others stay as they are.

    Args:
        count: number of nodes, which are 0, 1, ...
        pairs: (source, target) of each link, none from a node to itself.

    Returns:
        One pair per link, in the same order, without cycles.
    """
    if len(_topological(count, pairs)) == count:
        return list(pairs)
    outgoing = _lists(count, ((source, index) for index, (source, _) in enumerate(pairs)))
    state = [0] * count  # 0: not seen, 1: on the path from the root, 2: done
    turned = list(pairs)
    for root in range(count):
        stack = [root] if state[root] == 0 else []
        while stack:
            node = stack[-1]
            state[node] = 1
            while outgoing[node]:
                index = outgoing[node].pop()
                target = pairs[index][1]
                if state[target] == 1:
                    turned[index] = (target, node)
                elif state[target] == 0:
                    stack.append(target)
                    break
            else:
                state[node] = 2
                stack.pop()
    return turned


def rank(count: int, pairs: Sequence[Pair]) -> list[int]:
    """Give each node a row number, 0 at the top, such that links are short and all go down.

    Of three ways the one with the shortest links is taken: everything as early as possible, as
    late as possible, and early but with sources next to what uses them.

    Args:
        count: number of nodes, which are 0, 1, ...
        pairs: (source, target) of each link, without cycles.

    Example:
        >>> rank(4, [(0, 1), (1, 2), (3, 2)])
        [0, 1, 2, 1]
    """
    order = _topological(count, pairs)
    targets = _lists(count, pairs)
    early = [0] * count
    for node in order:
        below = early[node] + 1
        for target in targets[node]:
            if early[target] < below:
                early[target] = below
    late = [max(early, default=0)] * count
    for node in reversed(order):
        if targets[node]:
            late[node] = min(late[target] for target in targets[node]) - 1
    incoming = [0] * count
    for _, target in pairs:
        incoming[target] += 1
    pulled = early.copy()
    for node in reversed(order):
        if len(targets[node]) >= max(1, incoming[node]):
            pulled[node] = min(pulled[target] for target in targets[node]) - 1
    best = min((pulled, early, late), key=lambda ranks: _span(ranks, pairs))
    top = min(best, default=0)
    return [row - top for row in best]


def cost(count: int, pairs: Sequence[Pair]) -> int:
    """Estimate what dot has to work on: the nodes, and the rows that long links pass through.

    Args:
        count: number of nodes, which are 0, 1, ...
        pairs: (source, target) of each link, without cycles.

    Example:
        >>> cost(3, [(0, 1), (1, 2), (0, 2)])
        4
    """
    return count + _span(rank(count, pairs), pairs) - len(pairs)


def _topological(count: int, pairs: Sequence[Pair]) -> list[int]:
    """Order the nodes so that links go forward; nodes on or behind a cycle are left out."""
    targets = _lists(count, pairs)
    waiting = [0] * count
    for _, target in pairs:
        waiting[target] += 1
    order = [node for node in range(count) if not waiting[node]]
    for node in order:
        for target in targets[node]:
            waiting[target] -= 1
            if not waiting[target]:
                order.append(target)
    return order


def _lists(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    lists: list[list[int]] = [[] for _ in range(count)]
    for key, value in pairs:
        lists[key].append(value)
    return lists


def _span(ranks: Sequence[int], pairs: Sequence[Pair]) -> int:
    return sum(ranks[target] - ranks[source] for source, target in pairs)
