"""The garbage collector is paused while a graph is built, and works as before afterwards."""

import gc
import weakref

import pytest

from gradviz.graph.columns import collector_paused


class Node:
    """May be part of a circle."""

    me: object


def circle() -> "weakref.ref[Node]":
    node = Node()
    node.me = node
    return weakref.ref(node)


def test_what_was_garbage_before_does_not_count_as_old() -> None:
    before = circle()
    with collector_paused():
        kept = [[] for _ in range(200_000)]
        within = circle()
    assert before() is None and within() is not None
    assert gc.get_count()[0] < 10_000  # the new lists are not gone through
    gc.collect()
    assert within() is None and kept


def test_frozen_objects_stay_frozen() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with collector_paused():
            kept = [[] for _ in range(200_000)]
        assert gc.get_freeze_count() > frozen - 1_000 and kept  # some may die meanwhile
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("is_on", [True, False])
def test_it_is_left_as_it_was(is_on: bool) -> None:
    (gc.enable if is_on else gc.disable)()
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert gc.isenabled() is is_on
    finally:
        gc.enable()
