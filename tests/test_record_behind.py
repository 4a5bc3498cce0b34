"""Leaves before a cut, at any distance: each is explained."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import strict
from torch import nn

import gradviz
from gradviz import Explanations, Recording, Verdict
from gradviz.graph import Cause
from gradviz.recording.reachability import Reachability
from gradviz.recording.source_lines import NOWHERE
from gradviz.recording.tensor_records import Ancestors, leaves_in

__all__ = ["strict"]

HERE = "test_record_behind.py"


def layers(count: int) -> nn.Sequential:
    return nn.Sequential(*(m for _ in range(count) for m in (nn.Linear(3, 3), nn.Tanh())))


class Detached(nn.Module):
    """A deep encoder, the data of which is cut off before the head; and a part without use."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head, self.spare = layers(24), nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.encoder(x)
        h = h.detach()  # the cut
        return self.head(h)


class Ungraded(Detached):
    """The same with ``no_grad``."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = layers(70)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            h = self.encoder(x)  # no graph
        return self.head(h)


class CutTwice(Detached):
    """Two deep parts, both cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = layers(24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.encoder(x).detach()  # first
        h = self.middle(h).detach()  # second
        return self.head(h)


def trained(model: nn.Module) -> Recording:
    with gradviz.record(model) as run:
        loss = model(torch.ones(2, 3)).mean()
        loss.backward()
    return run


def told_of(model: nn.Module, **more: Any) -> Explanations:
    told = gradviz.explain(trained(model), **more)
    assert isinstance(told, Explanations)
    return told


def line(text: str) -> str:
    lines = Path(__file__).read_text().splitlines()
    return f"{HERE}:{next(n for n, each in enumerate(lines, 1) if each.endswith(text))}"


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize(
    ("cls", "words", "mark"),
    [
        (Detached, "detach() at {} (h = h.detach())", "# the cut"),
        (Ungraded, "no_grad at {} (h = self.encoder(x))", "# no graph"),
    ],
)
def test_every_parameter_behind_a_cut_is_told_the_line(
    cls: type[nn.Module], words: str, mark: str, is_named: bool
) -> None:
    model = cls()
    told = told_of(model, names=model) if is_named else told_of(model)
    for name, _ in model.named_parameters():
        each = told.of(name)
        if name.startswith("encoder"):
            assert each.verdict is Verdict.CUT
            reason = each.reason.replace("tests/", "")  # as the folder is that it runs in
            assert reason.startswith(f"the path to loss is cut by {words.format(line(mark))}")
            assert ("in force since" in reason) is ("no_grad" in words)
            assert line(mark) in each.fix
            assert each.culprit in each.graph
        elif name.startswith("spare"):
            assert each.verdict is Verdict.NOT_CONNECTED
            unused = "no operation that loss was computed from uses it"
            assert each.reason == f"{unused}: spare was not called"
        else:
            assert each.verdict is Verdict.FINE


def test_the_first_cut_on_the_way_is_told() -> None:
    told = told_of(CutTwice())
    assert line("# first") in told.of("encoder.0.weight").reason
    assert line("# second") not in told.of("encoder.0.weight").reason
    assert line("# second") in told.of("middle.0.weight").reason
    assert line("# first") not in told.of("middle.0.weight").reason


def test_a_cut_that_leads_elsewhere_is_no_reason() -> None:
    first, second = layers(12), layers(12)
    model = nn.ModuleDict({"first": first, "second": second, "head": nn.Linear(3, 1)})

    def forward() -> tuple[torch.Tensor, torch.Tensor]:
        h = first(torch.ones(2, 3))
        beside = second(h).detach().abs()
        return model["head"](h.detach()).mean(), beside

    with gradviz.record(model) as run:
        loss, beside = forward()
        loss.backward()
    told = gradviz.explain(run)
    assert isinstance(told, Explanations)
    assert told.of("first.0.weight").verdict is Verdict.CUT
    unused = "no operation that loss was computed from uses"
    called = f"its module was called, and {unused} what it computed"
    assert told.of("second.0.weight").reason == called
    assert beside.shape == (2, 3)


def test_what_is_also_used_with_a_gradient_is_fine() -> None:
    encoder = layers(24)

    def forward() -> torch.Tensor:
        x = torch.ones(2, 3)
        return (encoder(x).detach() * encoder[0](x)).sum()

    with gradviz.record(encoder) as run:
        loss = forward()
        loss.backward()
    told = gradviz.explain(run)
    assert isinstance(told, Explanations)
    assert told.of("0.weight").verdict is Verdict.FINE
    assert told.of("2.weight").verdict is Verdict.CUT


def test_what_a_leaf_was_made_from_lies_behind_it() -> None:
    encoder = layers(24)

    def forward() -> torch.Tensor:
        return encoder(torch.ones(2, 3)).detach().requires_grad_()

    with gradviz.record(encoder) as run:
        h = forward()
        loss = layers(24)(h * 2).detach().sum() * h.sum()
        loss.backward()
    told = gradviz.explain(run)
    assert isinstance(told, Explanations)
    assert "cut by detach()" in told.of("0.weight").reason


class Steps:
    """Counts the nodes that are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        look = Reachability._of_one

        def counted(*args: Any) -> Any:
            self.count += 1
            return look(*args)

        monkeypatch.setattr(Reachability, "_of_one", counted)


def test_each_node_is_looked_at_once_however_often_data_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = Steps(monkeypatch)
    w = torch.ones(3, requires_grad=True)
    h = w * 1
    with gradviz.record():
        for _ in range(300):
            h = torch.tanh(h * w)
            h.detach()
            h.sum().item()
    assert 600 <= steps.count <= 2 * 600 + 2


def test_truncated_backpropagation_looks_at_each_step_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = Steps(monkeypatch)
    cell = nn.RNNCell(3, 3)
    h = torch.zeros(1, 3)
    with gradviz.record(cell) as run:
        for _ in range(200):
            h = cell(torch.ones(1, 3), h)
            loss = h.sum()
            loss.backward()
            h = h.detach()
    assert steps.count < 200 * 12
    told = gradviz.explain(run)
    assert isinstance(told, Explanations)
    assert {each.verdict for each in told} == {Verdict.ACCUMULATED}
    lost = run._state.provenance.tensors.of(h).cut_leaves  # type: ignore[union-attr]
    assert len(lost) == 1  # the same in every step, and not one more for each


def test_a_wide_node_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradviz.recording.reachability._MOST", 10)
    steps = Steps(monkeypatch)
    w = torch.ones(1, requires_grad=True)
    with gradviz.record():
        torch.stack([w * n for n in range(100)]).detach()
    assert steps.count == 101


WALKED = "gradviz.recording.reachability"
SHARDED = "gradviz.capture.autograd.sharded"


def test_a_growing_sum_is_walked_once_though_little_of_it_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{WALKED}._MOST_BYTES", 1 << 12)
    steps = Steps(monkeypatch)
    h = torch.ones(1, requires_grad=True) * 1
    with gradviz.record():
        for _ in range(600):
            h = h + torch.ones(1, requires_grad=True)
            (h * 2).item()
    assert 1200 <= steps.count <= 1300


@pytest.mark.parametrize("held", [1 << 25, 1])
def test_a_sum_of_many_leaves_takes_memory_in_proportion(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{WALKED}._MOST_BYTES", 1 << 18)
    monkeypatch.setattr(f"{WALKED}._MOST_HELD", held)
    monkeypatch.setattr(f"{SHARDED}._STATES", "not imported")  # if other tests used FSDP

    def peak(count: int) -> int:
        leaves = [torch.ones(1, requires_grad=True) for _ in range(count)]
        with gradviz.record():
            h = leaves[0] * 1
            for each in leaves:
                h = h + each
            tracemalloc.start()
            try:
                h.detach()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    # Twice the leaves take twice the memory; if each node kept its leaves, four times.
    assert min(peak(8_000), peak(8_000)) < 2.3 * min(peak(4_000), peak(4_000))


def test_nothing_lives_longer() -> None:
    encoder = layers(24)
    alive = []
    with gradviz.record(encoder):
        h = encoder(torch.ones(2, 3))
        cut = h.detach().clone()
        alive += [weakref.ref(h), *(weakref.ref(each) for each in encoder.parameters())]
        del h, encoder
        gc.collect()
        assert not any(ref() is not None for ref in alive)
    assert cut.shape == (2, 3)


DEEP = """
import threading, torch, gradviz
def run():
    x = torch.ones(1, requires_grad=True)
    with gradviz.record():
        y = x
        for _ in range({length}):
            y = y * 1.0
        y.detach()
        for _ in range({length}):
            y = y * 1.0
        y.detach()
        del y
threading.stack_size({stack})
thread = threading.Thread(target=run)
thread.start()
thread.join()
print("done")
"""


def test_a_deep_graph_can_be_dropped_after_a_cut() -> None:
    code = DEEP.format(length=30_000, stack=512 * 1024)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("limits", [{}, {"_MOST_BYTES": 1}, {"_MOST_BYTES": 1, "_MOST_HELD": 1}])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 99), st.integers(0, 99)), max_size=70))
def test_random_programs(limits: dict[str, int], steps: list[tuple[int, int, int]]) -> None:
    """Returns with each tensor the leaves reachable from it, and those that were cut off."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(f"{WALKED}.{name}", value)
        check(steps)


def check(steps: list[tuple[int, int, int]]) -> None:
    leaves = [torch.ones(1, requires_grad=True) for _ in range(6)]
    made = [(leaf, {number}, set[int]()) for number, leaf in enumerate(leaves)]
    with gradviz.record() as run:
        for kind, first, second in steps:
            x, live, lost = made[first % len(made)]
            y, other_live, other_lost = made[second % len(made)]
            both = live | other_live, lost | other_lost
            if kind == 0:
                made.append((x.detach().clone(), set(), live | lost))  # no alias of x
            elif kind == 1:
                with torch.no_grad():
                    made.append((x * y, set(), both[0] | both[1]))
            elif kind == 2 and not x.requires_grad and x is not y:
                with torch.no_grad():
                    x.add_(y)
                lost |= other_live | other_lost
            elif kind == 3 and len(made) > 6:
                del made[6 + first % (len(made) - 6)]
            else:
                made.append((x * y, *both))
        state = run._state
        numbers = {state.provenance.leaf(leaf).number: number for number, leaf in enumerate(leaves)}
        for tensor, live, lost in made:
            found = state.input_from(tensor, Cause.DETACH, NOWHERE)
            ancestors = found.ancestors if tensor.requires_grad else Ancestors(0, found.cut_leaves)
            assert {numbers[number] for _, number in leaves_in(ancestors.leaves)} == live
            bits = [bit for each in ancestors.cut_leaves.values() for _, bit in leaves_in(each)]
            assert {numbers[number] for number in bits} == lost


def test_what_flows_into_a_tensor_later_is_not_behind_what_it_went_into() -> None:
    check([(0, 1, 0), (4, 6, 0), (2, 6, 0)])
