"""A short form of `make soak`: what a draw and a recording hold is released."""

from __future__ import annotations

import pytest
from soak import draw, grown, held, record


@pytest.mark.parametrize("do", [draw, record])
def test_nothing_grows(do) -> None:
    for number in range(12):
        do(number)
    before = held()
    for number in range(24):
        do(number)
    after = held()
    assert not grown(before, after, memory=1.2)
    assert after.objects < before.objects + 2_000
