"""A trace changes nothing: not the program, not its memory, not its random numbers."""

import gc
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import gradviz
from gradviz.capture import trace
from gradviz.graph import Buffers


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


def facts(graph):
    return dict(graph.nodes(data=True)), list(graph.edges(keys=True, data=True))


def test_a_checkpointed_forward_pass_is_not_run_again():
    calls = []

    def forward(x):
        calls.append(1)
        return x.exp().sin()

    x = leaf(1, 2)
    y = checkpoint(forward, x, use_reentrant=False)
    graph = trace(y.sum())
    assert calls == [1]
    assert {d["buffers"] for _, d in graph.nodes(data=True) if d.get("op") in ("exp", "sin")} == {
        Buffers.HELD
    }
    y.sum().backward()
    assert calls == [1, 1]


def test_saved_tensor_hooks_do_not_run():
    packed, unpacked = [], []

    def pack(tensor):
        packed.append(1)
        return [tensor]

    def unpack(held):
        unpacked.append(1)
        return held[0]

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        x = leaf(1, 2)
        loss = (x.exp() * torch.ones(2)).sum()
        count = len(packed)
        graph = trace(loss)
    assert (len(packed), unpacked) == (count, [])
    assert Buffers.HELD in {d.get("buffers") for _, d in graph.nodes(data=True)}


def test_what_was_offloaded_stays_where_it_is():
    with torch.autograd.graph.save_on_cpu():
        loss = leaf(1, 2).exp().sum()
    graph = trace(loss)
    assert Buffers.HELD in {d.get("buffers") for _, d in graph.nodes(data=True)}
    assert graph.saved_bytes == 0  # how it was packed is the hook's own affair


def test_hooks_do_not_run():
    fired = []
    x = leaf(1, 2)
    x.register_hook(lambda gradient: fired.append("leaf"))
    x.register_post_accumulate_grad_hook(lambda tensor: fired.append("accumulated"))
    y = x * 2
    y.register_hook(lambda gradient: fired.append("tensor"))
    y.grad_fn.register_hook(lambda *gradients: fired.append("node"))
    y.grad_fn.register_prehook(lambda gradients: fired.append("before node"))
    graph = trace(y.sum())
    assert fired == []
    assert graph.nodes[graph.find("y")]["hooks"] == 1


def test_version_counters_and_random_numbers_stay():
    torch.manual_seed(0)
    x = leaf(1, 2)
    y = x * 2
    y.add_(1)
    state, versions = torch.get_rng_state(), (x._version, y._version)
    created = torch.autograd._get_sequence_nr()
    trace(y.sum(), x)
    assert torch.equal(torch.get_rng_state(), state)
    assert (x._version, y._version) == versions
    assert torch.autograd._get_sequence_nr() == created + 1  # the sum, made above


def test_gradients_are_the_same_with_and_without():
    def gradients(looked_at):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        for _ in range(2):
            loss = model(torch.randn(5, 3)).square().mean()
            if looked_at:
                trace(loss, names=model)
            loss.backward(retain_graph=looked_at)
            if looked_at:
                trace(loss, names=model)
        return [p.grad for p in model.parameters()] + list(model.buffers())

    for one, other in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(one, other)


def test_no_tensor_and_no_node_is_kept_alive():
    class Mark:
        pass

    x = leaf(1, 2)
    constant = torch.ones(2)
    y = x * constant
    mark = y.grad_fn.metadata["mark"] = Mark()
    watched = [weakref.ref(thing) for thing in (x, y, constant, mark)]
    watched += [weakref.ref(tensor.untyped_storage()) for tensor in (x, y)]
    graph = trace(y.sum(), y)
    del x, y, constant, mark
    gc.collect()
    assert [ref() for ref in watched] == [None] * len(watched)
    assert graph.nodes[graph.find("x")]["value"].values == (1, 2)


def test_nothing_is_warned_about():
    x = leaf(1, 2)
    y = x * 2
    z = torch.complex(y, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(z, z.abs().sum(), y.detach())


class Seen(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.calls.append(function)
        return function(*args, **(kwargs or {}))


class Dispatched(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls.append(function)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Seen, Dispatched])
def test_the_modes_of_the_user_see_nothing(mode):
    x = leaf(1, 2)
    y = x * torch.arange(2.0)
    loss = (y * 3).sum()
    loss.backward(retain_graph=True)
    plain = facts(trace(loss, y, x, y.detach()))
    detached = y.detach()
    with mode() as watching:
        watched = facts(trace(loss, y, x, detached))
    assert watching.calls == []
    assert [sorted(d) for d in watched[0].values()] == [
        sorted({*d, "name"}) if d.get("root") == 3 else sorted(d) for d in plain[0].values()
    ]


def test_subclasses_of_the_user_see_nothing():
    calls = []

    class Loud(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            calls.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    x = torch.ones(2).as_subclass(Loud).requires_grad_()
    loss = (x * 2).sum()
    calls.clear()
    graph = trace(loss)
    assert calls == []
    assert graph.nodes[graph.find("x")]["value"].values == (1, 1)


def test_the_second_trace_equals_the_first():
    x = leaf(1, 2)
    y = (x * x).exp()
    loss = y.sum()
    first = facts(trace(loss))
    assert facts(trace(loss)) == first
    loss.backward()
    assert facts(trace(loss)) != first


def test_the_graph_does_not_change_when_training_goes_on():
    x = leaf(1, 2)
    loss = (x * x).sum()
    graph = trace(loss)
    before = repr(facts(graph))
    loss.backward()
    with torch.no_grad():
        x.zero_()
    assert repr(facts(graph)) == before


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled):
    x = leaf(1)
    (gc.enable if enabled else gc.disable)()
    try:
        trace(x * 2)
        assert gc.isenabled() is enabled
        with pytest.raises(TypeError):
            trace(None)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_storages_can_still_be_resized() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    x = torch.ones(5, 4)
    with gradviz.record(model) as run:
        hidden = model[0](x)
        loss = model[2](model[1](hidden)).square().mean()
        loss.backward()
    gradviz.explain(run)
    gradviz.explain(model, loss)
    gradviz.draw(loss).render("txt")
    gradviz.summary(loss)
    tensors = [x, hidden, loss, *model.parameters(), *(each.grad for each in model.parameters())]
    assert all(each is not None and each.untyped_storage().resizable() for each in tensors)
    hidden.untyped_storage().resize_(0)  # as FSDP frees what it gathered
