"""A short form of `make fuzz`: random programs of which it is known what is cut where."""

from __future__ import annotations

import pytest
from fuzz import wrong
from fuzz_loops import LOOPS
from fuzz_systems import SYSTEMS
from fuzz_training import TRAINING, WIDE, made

TOGETHER = 25


@pytest.mark.parametrize(
    "first",
    [*range(0, 150, TOGETHER), *range(WIDE, WIDE + 50, TOGETHER), TRAINING, LOOPS, SYSTEMS],
)
def test_random_programs(first: int) -> None:
    found = [
        f"seed {seed}: {kind}: {words}"
        for seed in range(first, first + (5 if first >= LOOPS else TOGETHER))
        for kind, words in wrong(made(seed))
    ]
    assert not found, "\n".join(found)


# copies that are none, written off the path, modules that take turns, a cut behind a tracked one,
# numbers in a list that are used, gradients whose norm overflows, numbers in a list that go into
# what is not used, clipping in a wrong place with a limit that is not reached at first
WRONG = [500250, 500547, 500904, 501062, 519684, 1051163, 700692, 701279, 800376]
WRONG += [802201, 912086, 1700589, 5100343, 20000902, 41000629, 42004876]


@pytest.mark.parametrize("seed", [*WRONG, 1001158, 1001355, 1001372, 1002009, 1002067, 1002087])
def test_programs_that_were_explained_wrongly(seed: int) -> None:
    assert not list(wrong(made(seed)))
