"""Explanations: the case table, the property that ties them to torch, and how they read."""

from __future__ import annotations

import subprocess
import sys
import time

import explain_cases_blame  # noqa: F401  (registers its cases)
import explain_cases_errors  # noqa: F401
import explain_cases_hooks  # noqa: F401
import explain_cases_misused  # noqa: F401
import explain_cases_present  # noqa: F401
import explain_cases_refused  # noqa: F401
import explain_cases_values  # noqa: F401
import pytest
import torch
from explain_cases import CASES, Case, leaf
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import strict  # noqa: F401
from torch import nn

import gradviz
from gradviz import Explanation, Explanations, Verdict
from gradviz.errors import SubjectError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:To copy construct")
CONNECTED = {Verdict.NOT_RUN}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    told = case.run()
    assert isinstance(told, Explanation)
    assert told.verdict is case.verdict, told
    assert case.says in told.reason
    assert case.fix in told.fix
    assert bool(case.fix) == bool(told.fix)
    if case.line:
        assert case.line in [line.rpartition("/")[2] for line in told.lines]
        assert case.line in told.reason
    assert 2 <= len(str(told).splitlines()) <= 4
    assert "\n" not in told.reason + told.fix


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_picture_of_a_case(case: Case) -> None:
    told = case.run()
    assert isinstance(told, Explanation)
    assert all(each in told.graph or ":" in each for each in told.evidence)
    drawing = gradviz.draw(told)
    if told.culprit and told.verdict is not Verdict.FINE:
        data = drawing.graph.nodes[told.culprit]
        assert data["verdict"]
        assert "problem" not in told.graph.nodes[told.culprit] or told.verdict.is_error
    assert drawing.text


# Random programs.

KINDS = ("leaf", "constant", "mul", "detach", "no_grad", "split", "where", "write", "stop", "exp")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    min_size=1,
    max_size=20,
)


def run_program(steps: list[tuple[str, int, int]]) -> tuple[list[torch.Tensor], torch.Tensor]:
    leaves = [leaf(1.0, 2.0), leaf(3.0, 4.0)]
    pool = list(leaves)
    for what, first, second in steps:
        a, b = pool[first % len(pool)], pool[second % len(pool)]
        if what == "leaf":
            leaves.append(leaf(0.5, 0.5))
            pool.append(leaves[-1])
        elif what == "constant":
            pool.append(torch.ones(2))
        elif what == "mul":
            pool.append(a * b)
        elif what == "exp":
            pool.append(a.exp())
        elif what == "detach":
            pool.append(a.detach())
        elif what == "no_grad":
            with torch.no_grad():
                pool.append(a + b)
        elif what == "split":
            one, two = a.split(1)
            pool.append(torch.cat([one, two]) if second % 2 else torch.cat([one, one]))
        elif what == "where":
            pool.append(torch.where(a > 1, b, a.detach()))
        elif what == "write":
            fresh = b.clone()
            fresh[0] = a[0]
            pool.append(fresh)
        else:
            pool = [*pool[: 1 + first % len(pool)]]
    return leaves, pool[-1].sum()


@settings(max_examples=120, deadline=None)
@given(STEPS, st.booleans())
def test_a_leaf_is_connected_if_and_only_if_torch_finds_a_gradient(
    steps: list[tuple[str, int, int]], recorded: bool
) -> None:
    with gradviz.record() as run:
        leaves, loss = run_program(steps)
    recording = [run] if recorded else []
    told = [gradviz.explain(each, *recording, loss=loss, names={}) for each in leaves]
    said = [each.verdict in CONNECTED for each in told]
    if loss.requires_grad:
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)
        assert said == [grad is not None for grad in grads]
    else:
        assert not any(said)


# Models.


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head, self.spare = nn.Linear(2, 3), nn.Linear(3, 1), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.encoder(x)
        h = h.detach()
        return self.head(h)


def test_a_model_is_told_in_a_table() -> None:
    model = Net()
    with gradviz.record() as run:
        loss = model(torch.ones(4, 2)).mean()
        loss.backward()
    told = gradviz.explain(run, names=model)
    assert isinstance(told, Explanations)
    assert [each.verdict for each in told.wrong] == [Verdict.CUT] * 2 + [Verdict.NOT_CONNECTED] * 2
    first, *_, last = str(told).splitlines()
    assert first.startswith(
        "encoder.weight      no gradient  the path to loss is cut by detach() at"
    )
    assert first.endswith("(h = h.detach())")
    assert last == "2 other parameters  fine"
    assert told.of("spare.bias").reason == "not used by loss"
    assert [told.of("head.bias")] == [told[-1]]
    with pytest.raises(KeyError, match="nothing is called 'foot'"):
        told.of("foot")


def test_a_model_without_a_recording() -> None:
    model = Net()
    loss = model(torch.ones(4, 2)).mean()
    loss.backward()
    for told in (gradviz.explain(loss, names=model), gradviz.explain(model, loss)):
        assert isinstance(told, Explanations)
        assert len(told) == 6
        assert {each.verdict for each in told.wrong} == {Verdict.NOT_CONNECTED}
    assert str(told).splitlines()[0].startswith("encoder.weight and 3 more  no gradient")


def test_a_gradient_a_thousand_times_larger() -> None:
    a, b = leaf(1.0), leaf(1.0)
    loss = (a * 1e6 * b.detach() + b).sum()
    loss.backward()
    told = gradviz.explain([a, b], loss)
    assert (told.of("a").verdict, told.of("b").verdict) == (Verdict.EXPLODING, Verdict.FINE)
    assert "clip_grad_norm_" in told.of("a").fix


def test_gradients_ten_thousand_times_apart() -> None:
    a, b, c = leaf(1.0), leaf(1.0), leaf(1.0)
    loss = ((a * 1e-6 + b) * c).sum()
    loss.backward()
    told = gradviz.explain([a, b, c], loss)
    assert [told.of(name).verdict for name in "abc"] == [
        Verdict.VANISHING,
        Verdict.FINE,
        Verdict.FINE,
    ]
    assert (
        "over 10,000 times smaller than that of c; it changes most between a and b"
        in told.of("a").reason
    )


def test_gradients_a_few_thousand_times_apart_are_fine() -> None:
    a, b, c = leaf(1.0), leaf(1.0), leaf(1.0)
    loss = ((a * 2e-4 + b) * c).sum()
    loss.backward()
    assert gradviz.explain(a, loss).verdict is Verdict.FINE


def test_a_recording_that_ended_in_an_error() -> None:
    w = leaf()
    with pytest.raises(RuntimeError), gradviz.record() as run:
        y = w * 2
        y.backward()
    told = gradviz.explain(run)
    assert isinstance(told, Explanations)
    assert [each.verdict for each in told] == [Verdict.NOT_SCALAR, Verdict.NOT_RUN]
    assert str(told).splitlines()[0] == "RuntimeError: error (not a scalar)"


DDP = """
import torch, torch.distributed as dist
from torch import nn
import gradviz
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(2, 2), nn.Linear(2, 2)
    def forward(self, x):
        return self.used(x)
net = Net()
parallel = nn.parallel.DistributedDataParallel(net)
try:
    for _ in range(2):
        loss = parallel(torch.ones(1, 2)).sum()
        loss.backward()
except RuntimeError as error:
    print(gradviz.explain(error, loss, net))
    print(gradviz.explain(error))
"""


def test_distributed_training_with_unused_parameters() -> None:
    done = subprocess.run([sys.executable, "-c", DDP], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # The second time without the model: the traceback holds it.
    assert done.stdout.count("the loss did not use: spare.weight and spare.bias") == 2
    assert "find_unused_parameters=True" in done.stdout


def test_what_cannot_be_explained() -> None:
    with pytest.raises(SubjectError, match="nothing to explain"):
        gradviz.explain()
    with pytest.raises(SubjectError, match="cannot explain 3 "):
        gradviz.explain(3)
    with pytest.raises(UsageError, match="two errors"):
        gradviz.explain(ValueError(), ValueError())


def test_nothing_is_changed_by_asking() -> None:
    w = leaf()
    loss = (w * 2).sum()
    gradviz.explain(w, loss)
    assert w.grad is None
    loss.backward()
    assert w.grad is not None
    version = w._version, w.grad._version
    gradviz.explain(w)
    assert (w._version, w.grad._version) == version


@pytest.mark.parametrize("is_cut", [False, True])
def test_many_leaves_are_explained_in_time(is_cut: bool) -> None:
    leaves = [leaf(1.0) for _ in range(1500)]
    with gradviz.record() as run:
        h = leaves[0] * 1
        for each in leaves:
            h = h + each * 2
        ((h.detach() if is_cut else h) * leaves[0]).sum().backward()
    begun = time.process_time()
    told = gradviz.explain(run, names={})
    assert time.process_time() - begun < 4  # walking all for each leaf took 5 and 40
    assert len(told) == 1500
    assert sum(each.verdict is Verdict.CUT for each in told) == (1499 if is_cut else 0)


# Pictures.


def test_the_picture_of_one_answer_shows_its_way_alone() -> None:
    w, others = leaf(), [leaf() for _ in range(20)]
    h = w.sin()
    loss = (h + torch.stack([each.exp().cos() for each in others]).sum()).sum()
    loss.backward()
    told = gradviz.explain(w, loss)
    assert len(told.graph) > 60
    drawing = told.draw(theme="dark", title="why")
    assert len(drawing.graph) < 20
    assert drawing.story.title == "why"
    assert "left out" in "".join(drawing.graph.notes)


def test_the_picture_of_a_long_way_is_folded_away_from_the_culprit() -> None:
    w = leaf(-1.0, -2.0)
    h = torch.relu(w)
    y = h
    for _ in range(40):
        y = y.sin()
    loss = y.sum()
    loss.backward()
    told = gradviz.explain(w, loss)
    assert told.verdict is Verdict.ZERO
    drawing = told.draw()
    assert drawing.graph.nodes[told.culprit]["verdict"] == "zero"
    assert len(drawing.graph) < 12


def test_the_picture_of_what_is_not_in_the_graph() -> None:
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        loss = (v * 2).sum()
        loss.backward()
    told = gradviz.explain(w, run)
    assert told.draw().graph.nodes[told.culprit]["name"] == "w"
    assert gradviz.explain([w, v], run).draw().graph.find("w") == told.culprit


# Memory.


def test_saved_memory_of_one_result_and_of_a_recording() -> None:
    w = torch.ones(50, requires_grad=True)
    loss = w.exp().sum()
    other = w.sin().sum()
    table = gradviz.explain(loss).saved
    assert [row.what for row in table.rows] == ["output of exp"]
    assert table.total == 200
    both = gradviz.explain([loss, other]).saved  # of sin the leaf alone is saved
    assert ([row.what for row in both.rows], both.leaves) == (["output of exp"], ("w",))
    with gradviz.record() as run:
        loss = w.exp().sum()
        loss.backward()
    told = gradviz.explain(run)
    assert told.saved.total == told[0].saved.total == 200
    assert "f32[50]  200 B  output of exp  tests/test_explain.py:" in str(told.saved)


@pytest.mark.parametrize("recorded", [False, True])
def test_what_is_asked_for_twice_is_told_once(recorded: bool) -> None:
    with gradviz.record() as run:
        w = leaf(1.0, 2.0)
        loss = (w * 2).sum()
        loss.backward()
    more = (run,) if recorded else ()
    for asked in ([loss, loss], {"a": loss, "b": loss}, [w, loss, w]):
        told = gradviz.explain(asked, *more)
        assert isinstance(told, Explanations)
        names = [each.name for each in told]
        assert names == list(dict.fromkeys(names))
        assert "loss" in names
    assert str(gradviz.explain(w, [loss, loss])).startswith("w: fine")


def test_a_leaf_that_was_saved_and_changed_without_a_recording() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = model(torch.ones(3, 2, requires_grad=True)).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError) as caught:
        loss.backward()
    told = gradviz.explain(caught.value, loss, names=model)
    assert "needs 2.weight, which addmm saved with shape [4, 1], as it was" in told.reason
    assert "before the change" in told.fix


def test_a_view_of_a_changed_tensor_is_not_called_as_strided() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    y = x * 2
    z = (y.view(-1) ** 2).sum()
    y.add_(1)
    with pytest.raises(RuntimeError) as caught:
        z.backward()
    assert "needs a view of shape [6] as it was" in gradviz.explain(caught.value).reason
