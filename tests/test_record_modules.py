"""Recordings know exactly in which module each operation ran."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import pytest
import torch
from recording import modules_of, no_hook_is_left, strict
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradviz
from gradviz.graph import NodeKind
from gradviz.recording.module_stack import ModuleStack
from gradviz.views import fold_repeats, group_by_module, infer_modules

__all__ = ["no_hook_is_left", "strict"]

pytestmark = pytest.mark.usefixtures("no_hook_is_left")


def recorded(model: nn.Module, *inputs: Any) -> dict[str, list[str]]:
    with gradviz.record(model) as run:
        model(*inputs).sum().backward()
    return modules_of(run.frames[0].graph)


class Block(nn.Module):
    """Uses one module twice, and does something itself before, between and after."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.fc(x.sin()))
        return self.act(self.fc(x * 2)).exp()


def test_an_operation_belongs_to_the_innermost_module() -> None:
    model = nn.Sequential(Block(), nn.Sequential(nn.Linear(4, 2), nn.Tanh()))
    assert recorded(model, torch.ones(3, 4).requires_grad_()) == {
        "0": ["sin", "mul", "exp"],
        "0.fc": ["addmm", "addmm"],
        "0.act": ["relu", "relu"],
        "1.0": ["addmm"],
        "1.1": ["tanh"],
        "": ["sum"],
    }


def test_operations_of_the_model_itself_are_not_given_to_a_neighbour() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x).tanh()
            return x

    model = Net()
    found = recorded(model, torch.ones(3, 4))
    assert found == {f"layers.{n}": ["addmm"] for n in range(3)} | {"": [*["tanh"] * 3, "sum"]}
    inferred = infer_modules(gradviz.trace(model(torch.ones(3, 4)), names=model))
    guesses = [d.get("module") for _, d in inferred.nodes(data=True) if d.get("op") == "tanh"]
    assert guesses == [None] * 3  # no layer is said to have run them


def test_repeated_calls_of_one_module_are_one_path() -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(2, 3)

        def forward(self, steps: torch.Tensor) -> torch.Tensor:
            state = torch.zeros(1, 3)
            for step in steps:
                state = self.cell(step, state)
            return state

    found = recorded(Unrolled(), torch.ones(1000, 1, 2))
    assert set(found) == {"cell", ""}
    assert found[""] == ["sum"]
    assert len(found["cell"]) > 5_000


@pytest.mark.parametrize(
    ("model", "inputs", "deepest"),
    [
        (nn.LSTM(2, 3, num_layers=2), (4, 1, 2), ""),
        (
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False
            ),
            (3, 1, 4),
            "layers.1.norm2",
        ),
        (nn.TransformerDecoderLayer(4, 2, 8), (3, 1, 4), "linear2"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()), (1, 1, 5, 5), "2"),
    ],
    ids=["lstm", "encoder", "decoder layer", "conv"],
)
def test_modules_of_torch(model: nn.Module, inputs: tuple[int, ...], deepest: str) -> None:
    data = torch.ones(inputs).requires_grad_()
    take = (data, data) if isinstance(model, nn.TransformerDecoderLayer) else (data,)

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            out = self.inner(*inputs)
            return out[0] if isinstance(out, tuple) else out

    found = recorded(First(), *take)
    paths = {f"inner.{name}" if name else "inner" for name, _ in model.named_modules()}
    assert set(found) <= {*paths, ""}
    assert f"inner.{deepest}".rstrip(".") in found
    assert found[""][-1] == "sum"


class Shared(nn.Module):
    """One module under two names, in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Sequential(nn.Linear(2, 2)), nn.Sequential()
        self.decoder.append(self.encoder[0])
        self.decoder.append(nn.Tanh())
        self.again = self.encoder[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.again(self.decoder(self.encoder(x)))


def test_a_shared_module_is_called_by_its_name_within_the_caller() -> None:
    found = recorded(Shared(), torch.ones(1, 2))
    assert found["encoder.0"] == ["addmm", "addmm"]  # the first name, where nothing is nearer
    assert found["decoder.0"] == ["addmm"]
    assert found["decoder.1"] == ["tanh"]


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_module_in_a_checkpoint_is_not_counted_again(use_reentrant: bool) -> None:
    class Saving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.head = Block(), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(checkpoint(self.block, x, use_reentrant=use_reentrant))

    model = Saving()
    with gradviz.record(model) as run:
        for _ in range(2):
            model(torch.ones(1, 4).requires_grad_()).sum().backward()
    whole = {"block": ["sin", "mul", "exp"], "block.fc": ["addmm"] * 2, "block.act": ["relu"] * 2}
    opaque = {"": ["checkpoint", "sum"]}
    for frame in run.frames:
        found = modules_of(frame.graph)
        assert found.pop("head") == ["addmm"]
        assert found == (opaque if use_reentrant else {**whole, "": ["sum"]})


def test_names_of_wrappers_are_left_out() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.module(x) * 2

    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    for wrapped, prefix in ((Wrapper(model), "module."), (nn.DataParallel(model), "")):
        found = recorded(wrapped, torch.ones(1, 2))
        assert (found[f"{prefix}0"], found[f"{prefix}1"]) == (["addmm"], ["tanh"])
        assert set(found) == {"", f"{prefix}0", f"{prefix}1"}


class OutOfMemory(BaseException):
    """Like Ctrl-C: torch calls no hook for it."""


@pytest.mark.parametrize("error", [ValueError, OutOfMemory])
def test_a_module_that_raises_is_left(error: type[BaseException]) -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.good, self.bad, self.broken = nn.Linear(2, 2), nn.Linear(2, 2), True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.good(x).sin()
            if self.broken:
                raise error
            return self.bad(x).cos()

    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.after = Fragile(), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                x = self.inner(x)
            except error:
                x = self.after(x)
            return x.exp()

    model = Careful()
    with gradviz.record(model) as run:
        model(torch.ones(1, 2)).sum().backward()
        model.inner.broken = False
        model(torch.ones(1, 2)).sum().backward()
    last = modules_of(run.frames[-1].graph)
    assert last == {
        "inner.good": ["addmm"],
        "inner": ["sin", "cos"],
        "inner.bad": ["addmm"],
        "": ["exp", "sum"],
    }


def test_what_comes_after_an_interrupted_model_is_told_right() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())

    def interrupt(*_: object) -> None:
        raise OutOfMemory

    with gradviz.record(model) as run:
        hook = model[1].register_forward_pre_hook(interrupt)
        with pytest.raises(OutOfMemory):
            model(torch.ones(1, 2))
        hook.remove()
        model(torch.ones(1, 2)).sum().backward()
    assert modules_of(run.frames[0].graph) == {"0": ["addmm"], "1": ["tanh"], "": ["sum"]}


def test_a_module_that_calls_itself() -> None:
    class Tree(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor, depth: int = 3) -> torch.Tensor:
            return self.fc(x) if depth == 0 else self(x, depth - 1).sin()

    model = nn.ModuleDict({"tree": Tree()})
    with gradviz.record(model) as run:
        model["tree"](torch.ones(1, 2)).sum().backward()
    assert modules_of(run.frames[0].graph) == {
        "tree.fc": ["addmm"],
        "tree": ["sin"] * 3,
        "": ["sum"],
    }


def test_recordings_within_recordings() -> None:
    outer, inner = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    with gradviz.record(outer) as first:
        with gradviz.record(inner) as second:
            loss = inner(outer(torch.ones(1, 2))).sum()
            loss.backward()
        outer(torch.ones(1, 2)).sum().backward()
    assert modules_of(second.frames[0].graph) == {"": ["addmm", "sum"], "1": ["addmm"]}
    assert modules_of(first.frames[0].graph) == {"0": ["addmm"], "": ["addmm", "sum"]}
    assert modules_of(first.frames[-1].graph) == {"0": ["addmm"], "": ["sum"]}


def test_several_modules_are_told_apart_by_their_variables() -> None:
    encoder, decoder = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    with gradviz.record(encoder, decoder, nn.Tanh()) as run:
        decoder(encoder(torch.ones(1, 2))).sum().backward()
    graph = run.frames[0].graph
    assert modules_of(graph) == {"encoder.0": ["addmm"], "decoder.0": ["addmm"], "": ["sum"]}
    assert {"encoder.0.weight", "decoder.0.bias"} <= {
        data.get("name") for _, data in graph.nodes(data=True)
    }


def test_a_module_that_is_made_during_the_recording() -> None:
    class Lazy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not hasattr(self, "fc"):
                self.fc = nn.Linear(2, 2)
            return self.fc(nn.Tanh()(x))

    found = recorded(Lazy(), torch.ones(1, 2).requires_grad_())
    assert found == {"fc": ["addmm"], "": ["tanh", "sum"]}


def test_threads_that_number_their_nodes_alike_are_not_mixed_up() -> None:
    model = nn.ModuleList([nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Tanh())])
    results: list[torch.Tensor] = []
    with gradviz.record(model) as run:
        first = model[0](torch.ones(1, 2))
        worker = threading.Thread(target=lambda: results.append(model[1](first)))
        worker.start()
        worker.join()
        (first.sum() + results[0].sum()).backward()
    for data in dict(run.frames[0].graph.nodes(data=True)).values():
        if data.get("op") == "tanh":
            assert data.get("module", "unknown") in ("1.1", "unknown")
        if data.get("op") == "addmm":
            assert data.get("module", "unknown") in ("0", "1.0", "unknown")


def test_backward_passes_belong_to_no_module() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    with gradviz.record(model) as run:
        x = torch.ones(1, 2, requires_grad=True)
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        slope.pow(2).sum().backward()
    found = modules_of(run.frames[-1].graph)
    assert (found["0"], found["1"]) == (["addmm"], ["tanh"])
    assert found[""][-2:] == ["pow", "sum"]
    assert "mm" in found["unknown"]


def test_groups_follow_what_was_recorded() -> None:
    model = nn.Sequential(Block(), Block())
    with gradviz.record(model) as run:
        model(torch.ones(1, 4)).sum().backward()
    seen = group_by_module(run.frames[0].graph, depth=1)
    groups = [data for _, data in seen.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    assert sorted((group["module"], group["members"]) for group in groups) == [
        ("0", 8),  # it does not know of the first sin: nothing before it requires grad
        ("1", 9),
    ]
    assert not any("inferred" in group for group in groups)


class Parts(nn.Module):
    """Some parts are called, some are not, and of some the result is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.dropped, self.spare = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.attention = nn.MultiheadAttention(4, 1)
        self.embedding, self.tied = nn.Embedding(3, 4), nn.Linear(4, 3, bias=False)
        self.tied.weight = self.embedding.weight
        self.noise = nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.dropped(x)
        self.attention(x, x, x)
        self.embedding(torch.tensor([0]))
        return self.layers[0](self.used(x))


def reasons(model: nn.Module, run: Any) -> dict[str, str]:
    return {each.name: each.reason for each in gradviz.explain(run, names=model)}


def test_parts_that_were_not_called_are_told_from_results_that_are_not_used() -> None:
    model = Parts()
    with gradviz.record(model) as run:
        loss = model(torch.ones(2, 4)).sum()
        loss.backward()
    said = reasons(model, run)
    unused = "no operation that loss was computed from uses"
    assert said["spare.weight"] == f"{unused} it: spare was not called"
    expected = f"{unused} it: layers.1, layers.2, layers.3 were not called"
    assert said["layers.1.bias"] == said["layers.3.weight"] == expected
    unused = "no operation that loss was computed from uses"
    called = f"its module was called, and {unused} what it computed"
    assert said["dropped.weight"] == said["embedding.weight"] == called
    # Attention reads the weight of its part, and does not call it.
    assert said["attention.out_proj.weight"] == f"{unused} it"
    assert said["used.weight"].startswith("it has a gradient")


def test_of_compiled_modules_no_call_is_said_to_be_missing() -> None:
    model = Parts()
    compiled = torch.compile(model, backend="eager")
    with gradviz.record(model) as run:
        loss = compiled(torch.ones(2, 4)).sum()
        loss.backward()
    assert not [each for each in reasons(model, run).values() if "called" in each]


def test_parts_of_a_model_of_which_only_parts_are_called() -> None:
    model = Parts()
    with gradviz.record(model) as run:
        loss = model.used(torch.ones(2, 4)).sum()
        loss.backward()
    assert "attention, dropped" not in reasons(model, run)["spare.weight"]
    assert reasons(model, run)["spare.weight"].endswith("were not called")


def test_a_wrapper_whose_part_is_called_past_it_is_not_blamed() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = Parts()

    wrapper = Wrapper()
    model = nn.ModuleDict({"wrapper": wrapper})
    with gradviz.record(model) as run:
        loss = wrapper.parts(torch.ones(2, 4)).sum()
        loss.backward()
    said = reasons(model, run)["wrapper.parts.spare.weight"]
    assert said.endswith(": wrapper.parts.spare was not called")


def test_a_sequence_of_which_no_layer_was_called_is_named_itself() -> None:
    experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4)) for _ in range(3))
    model = nn.ModuleDict({"router": nn.Linear(4, 4), "experts": experts})
    with gradviz.record(model) as run:
        hidden = experts[1](model["router"](torch.ones(2, 4)))
        loss = experts[2][1](experts[2][0](hidden)).sum()
        loss.backward()
    said = reasons(model, run)
    assert said["experts.0.0.weight"].endswith(": experts.0 was not called")
    assert said["experts.2.0.weight"].startswith("it has a gradient")


def test_a_part_that_contains_its_module_ends_no_search() -> None:
    model = Parts()
    model.used.owner = model
    with gradviz.record(model) as run:
        loss = model(torch.ones(2, 4)).sum()
        loss.backward()
    assert reasons(model, run)["spare.weight"].endswith(": spare was not called")


def test_a_call_is_seen_of_a_module_with_the_id_of_one_that_is_gone() -> None:
    stack = ModuleStack({"": (model := Parts())})
    stack.begin()
    model(torch.ones(2, 4))
    gone = weakref.ref(nn.Linear(1, 1))
    stack._called[id(model.dropped)] = gone, frozenset()
    model(torch.ones(2, 4))
    stack.end()
    assert not stack.calls_of_parameters([model])[id(model.dropped.weight)].uncalled


class TurnedNorm(nn.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(0, 1))


def test_a_turn_between_two_calls_of_a_module() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = TurnedNorm(4), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.norm(x).transpose(0, 1)))

    model = Turned()
    with gradviz.record(model) as run:
        loss = model(torch.rand(4, 4)).sum()
    graph = group_by_module(run.story.frames[-1].graph, depth=1)
    groups = [data["name"] for _, data in graph.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    assert loss.requires_grad
    assert sorted(groups) == ["head", "norm", "norm"]


class Adapted(nn.Module):
    """A frozen layer with a part of low rank beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(4, 4).requires_grad_(False)
        self.down, self.up = nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.base(x)
        return hidden + self.up(self.down(x))


class AdaptedBody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4).requires_grad_(False)
        self.blocks = nn.ModuleList(Adapted() for _ in range(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(x)
        for block in self.blocks:
            hidden = hidden + block(hidden).tanh()
        return hidden


@pytest.mark.parametrize("folds", [False, True])
def test_what_frozen_layers_ran_tears_no_call_apart(folds: bool) -> None:
    stem, body, head = nn.Linear(3, 4).requires_grad_(False), AdaptedBody(), nn.Linear(4, 1)
    model = nn.Sequential(stem, body, head)
    with gradviz.record(model) as run:
        model(torch.rand(2, 3)).sum().backward()
    graph = run.story.frames[-1].graph
    graph = group_by_module(fold_repeats(graph) if folds else graph, depth=1)
    groups = {data["name"]: data for data in graph.nodes.values() if "members" in data}
    assert sorted(groups) == ["1", "2"]
    assert groups["1"]["module_class"] == "AdaptedBody"
    assert groups["1"]["frozen"] == 8 * (16 + 4) + 8
    drawn = [
        data.get("name") for data in graph.nodes.values() if data["kind"] is NodeKind.UNTRACKED
    ]
    assert "hidden" not in drawn  # the body made it


@pytest.mark.parametrize("inner", [False, True])
def test_of_a_parameter_that_forward_does_not_use_the_result_is_not_blamed(inner: bool) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask, self.fc = nn.Parameter(torch.ones(4)), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return self.fc(x)

    model = nn.Sequential(Masked(), nn.Linear(4, 1)) if inner else Masked()
    with gradviz.record(model) as run:
        loss = model(torch.ones(2, 4)).sum()
        loss.backward()
    said = reasons(model, run)["0.mask" if inner else "mask"]
    assert said == "not used by loss"
