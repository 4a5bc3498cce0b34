"""What a trace says about a program."""

import dataclasses
import os
import subprocess
import sys

import networkx as nx
import pytest
import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradviz.capture import trace
from gradviz.errors import SubjectError
from gradviz.graph import Buffers, EdgeKind, GradGraph, NodeKind
from gradviz.graph.grad_graph import Insertion


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


def key_of(graph: GradGraph, op: str) -> str:
    (key,) = [key for key, data in graph.nodes(data=True) if data.get("op") == op]
    return key


def operation(graph: GradGraph, op: str) -> dict:
    return graph.nodes[key_of(graph, op)]


def test_a_leaf_an_operation_and_a_result_are_joined_in_the_direction_of_the_data():
    x = leaf(1, 2)
    graph = trace((x * x).sum())
    path = nx.shortest_path(graph, graph.find("x"), graph.roots[0])
    kinds = [graph.nodes[key]["kind"] for key in path]
    assert kinds == [
        NodeKind.LEAF,
        NodeKind.ACCUMULATE,
        NodeKind.OPERATION,
        NodeKind.OPERATION,
        NodeKind.RESULT,
    ]
    assert [graph.nodes[key].get("op") for key in path[1:4]] == ["accumulate_grad", "mul", "sum"]
    assert all(kind is EdgeKind.GRADIENT for *_, kind in graph.edges(data="kind"))


def test_the_facts_of_an_operation():
    x = torch.ones(2, 3, requires_grad=True)
    mul = operation(trace(x * x), "mul")
    assert mul["grad_fn"] == "MulBackward0"
    assert (mul["shape"], mul["dtype"], mul["device"]) == ((2, 3), "float32", "cpu")
    assert mul["buffers"] is Buffers.HELD
    assert "saved_bytes" not in mul  # it keeps the leaf, which lives anyway


def test_the_facts_of_a_leaf():
    x = leaf(1, 2)
    x.register_hook(lambda gradient: gradient)
    x.register_post_accumulate_grad_hook(lambda tensor: None)
    (x * 2).sum().backward()
    with torch.no_grad():
        x += 1
    data = trace(x * 2).nodes["n3"]
    assert (data["name"], data["value"].values, data["grad"].values) == ("x", (2, 3), (2, 2))
    assert (data["version"], data["hooks"]) == (1, 2)


def test_a_leaf_without_a_gradient_has_none_and_another_tensor_has_no_such_line():
    x = leaf(1)
    y = x * 2
    graph = trace(y)
    assert graph.nodes[graph.find("x")]["grad"] is None
    assert "grad" not in graph.nodes[graph.find("y")]


def test_parameters_are_told_from_other_leaves():
    model = nn.Linear(2, 1)
    x = leaf(1, 2)
    graph = trace(model(x), names=model)
    kinds = {graph.nodes[key].get("name"): graph.nodes[key]["kind"] for key in graph.leaves}
    assert kinds == {"weight": NodeKind.PARAMETER, "bias": NodeKind.PARAMETER, "x": NodeKind.LEAF}


def test_a_shared_parameter_shows_all_its_names():
    model = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    model["head"].weight = model["embed"].weight
    out = model["head"](model["embed"](torch.tensor([1])))
    graph = trace(out, names=model)
    (weight,) = graph.leaves
    assert graph.nodes[weight]["name"] == "embed.weight"
    assert graph.nodes[weight]["aliases"] == ("head.weight",)


def test_two_edges_between_the_same_two_nodes():
    y = leaf(3) * 2
    graph = trace(y * y, names={})
    source, target = [key for key, data in graph.nodes(data=True) if data.get("op") == "mul"][::-1]
    assert graph.number_of_edges(source, target) == 2
    assert [data["input"] for data in graph[source][target].values()] == [0, 1]


@pytest.mark.parametrize("take", [lambda x: x.split(1), lambda x: x.unbind(), lambda x: x.chunk(3)])
def test_outputs_are_numbered(take):
    parts = take(leaf(1, 2, 3))
    graph = trace(parts[2] * parts[0], names={})
    edges = graph.in_edges(key_of(graph, "mul"), data=True)
    assert sorted((data["input"], data["output"]) for *_, data in edges) == [(0, 2), (1, 0)]
    assert next(d["outputs"] for _, d in graph.nodes(data=True) if "outputs" in d) == 3


def test_named_outputs_of_one_operation():
    first, last = leaf(1, 2).split(1)
    graph = trace(first + last)
    assert operation(graph, "split")["name"] == "first, last"


def test_named_tensors_along_the_way():
    x = leaf(1, 2)
    hidden = x * 3
    hidden.retain_grad()
    loss = hidden.sum()
    loss.backward()
    graph = trace(loss)
    mul = operation(graph, "mul")
    assert (mul["name"], mul["value"].values) == ("hidden", (3, 6))
    assert (mul["retains_grad"], mul["grad"].values) == (True, (1, 1))
    assert graph.nodes[graph.roots[0]]["name"] == "loss"
    assert "name" not in operation(graph, "sum")  # its tensor is the result, and named there


def test_no_names_when_none_are_wanted():
    x = leaf(1, 2)
    assert not any("name" in data for _, data in trace(x * 2, names={}).nodes(data=True))


def test_names_of_the_caller_not_of_the_module():
    def inner():
        inside = leaf(1)
        return trace(inside * 2)

    assert inner().find("inside")


def test_roots_keep_their_order_and_a_tensor_asked_for_twice_is_one_node():
    x = leaf(1)
    a, b = x * 2, x * 3
    graph = trace(b, a, b, x)
    assert [graph.nodes[key]["name"] for key in graph.roots] == ["b", "a", "x"]
    assert [graph.nodes[key]["root"] for key in graph.roots] == [0, 1, 2]


def test_two_roots_share_their_trunk_and_a_freed_trunk_can_have_a_live_head():
    x = leaf(1, 2)
    trunk = x.exp()
    loss_a, loss_b = trunk.sin().sum(), trunk.cos().sum()
    loss_a.backward()
    graph = trace(loss_a, loss_b)
    found = {op: operation(graph, op)["buffers"] for op in ("exp", "sin", "cos")}
    assert found == {"exp": Buffers.FREED, "sin": Buffers.FREED, "cos": Buffers.HELD}
    assert graph.out_degree(key_of(graph, "exp")) == 2


def test_parts_of_a_container_are_named_by_their_place():
    @dataclasses.dataclass
    class Output:
        logits: torch.Tensor
        past: tuple

    x = leaf(1, 2)
    graph = trace(Output(x * 1, (x * 2, None)), {"loss": x.sum()}, names={})
    names = [graph.nodes[key]["name"] for key in graph.roots]
    assert names == ["logits", "past[0]", "loss"]


def test_a_gradient_edge():
    x = leaf(1, 2, 3)
    graph = trace(get_gradient_edge(x.split(2)[1]), names={})
    result = graph.nodes[graph.roots[0]]
    assert (result["kind"], result["shape"]) == (NodeKind.RESULT, (1,))
    assert trace(get_gradient_edge(x)).nodes["n0"]["kind"] is NodeKind.LEAF
    assert len(trace(x * 2, GradientEdge((y := x * 2).grad_fn, 0), y).roots) == 2


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1, 2]),
        leaf(1).detach(),
        torch.ones(0),
        torch.eye(2).to_sparse(),
        torch.ones(2, device="meta"),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
        torch.ones(2, dtype=torch.complex64),
        torch.ones(2, dtype=torch.bfloat16),
    ],
)
def test_a_tensor_without_history_is_one_node(tensor):
    graph = trace(tensor, names={})
    (data,) = (data for _, data in graph.nodes(data=True))
    assert (data["kind"], data["root"], data["requires_grad"]) == (NodeKind.UNTRACKED, 0, False)
    assert (data["shape"], data["is_leaf"]) == (tuple(tensor.shape), True)
    assert data["value"].dtype == data["dtype"]


def test_a_tensor_made_under_inference_mode_says_so():
    x = leaf(1)
    with torch.inference_mode():
        y = x * 2
        graph = trace(y)
    assert graph.nodes["n0"]["inference"] is True


def test_options():
    x = torch.ones(2, 3, requires_grad=True)
    assert operation(trace(x.softmax(-1)), "softmax")["options"] == {"dim": "-1"}
    assert operation(trace(x**2), "pow")["options"] == {"exponent": "2"}
    assert operation(trace(x.sum((0, 1))), "sum")["options"] == {"dim": "0, 1"}
    assert operation(trace(torch.add(x, x, alpha=3)), "add")["options"] == {"alpha": "3"}
    assert "options" not in operation(trace(x + x), "add")


def test_a_storage_is_counted_once_in_the_graph():
    x = torch.ones(100, requires_grad=True)
    y = x.exp()  # keeps y
    graph = trace(y * y + y.sin(), names={})  # keep y too
    assert graph.saved_bytes == 400


def test_a_custom_function_goes_by_the_name_of_its_class():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x.clone())
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2

    y = Double.apply(leaf(1, 2))
    made = operation(trace(y), "Double")
    assert (made["grad_fn"], made["buffers"], made["saved_bytes"]) == (
        "DoubleBackward",
        Buffers.HELD,
        8,
    )
    y.sum().backward()
    assert operation(trace(y), "Double")["buffers"] is Buffers.FREED


def test_what_cannot_be_looked_into_says_why():
    x = leaf(1, 2)
    checkpointed = torch.utils.checkpoint.checkpoint(torch.exp, x, use_reentrant=True)
    data = operation(trace(checkpointed), "checkpoint")
    assert data["opaque"] == "reentrant checkpoint"
    compiled = torch.compile(lambda x: x.sin() * 2, backend="aot_eager")(x)
    assert operation(trace(compiled), "compiled")["opaque"] == "torch.compile"


def test_a_result_of_torch_compile_that_was_not_compiled_further():
    result = torch.compile(lambda x: x.sin() * 2, backend="eager")(leaf(1, 2))
    assert {"sin", "mul"} <= {data.get("op") for _, data in trace(result).nodes(data=True)}


def test_a_trace_within_a_backward_hook():
    x = leaf(1, 2)
    y = x * 2
    loss = y.sum()
    graphs = []
    y.register_hook(lambda gradient: graphs.append(trace(loss, names={})))
    loss.backward()
    assert len(graphs[0]) == 5


def test_a_trace_within_transforms():
    seen = []

    def function(x):
        y = (x * torch.ones(2) * 2).sum()
        seen.append(trace(y, names={}))
        return y

    torch.func.grad(function)(torch.ones(2))
    torch.func.vmap(function)(torch.ones(3, 2))
    assert [data["op"] for _, data in seen[0].nodes(data=True) if data.get("op") == "sum"]
    assert len(seen[1].roots) == 1


def test_in_place_changes_of_views():
    x = leaf(1, 2, 3)
    y = x * 1
    y[0].mul_(5)
    graph = trace(y)
    assert operation(graph, "copy_slices")["grad_fn"] == "CopySlices"
    assert nx.has_path(graph, graph.find("x"), graph.roots[0])


def test_double_backward():
    x = leaf(2)
    (gradient,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    graph = trace(gradient)
    assert nx.is_directed_acyclic_graph(graph)
    assert nx.has_path(graph, graph.find("x"), graph.roots[0])


def test_networkx_works_on_it():
    x = leaf(1, 2)
    hidden = (x * 2).exp()
    graph = trace((hidden * hidden).sum(), hidden.sin())
    assert nx.is_directed_acyclic_graph(graph)
    assert next(nx.topological_sort(graph)) == graph.find("x")
    assert nx.descendants(graph, graph.find("x")) == set(graph) - {graph.find("x")}
    assert list(graph) == [f"n{number}" for number in range(len(graph))]
    assert all("kind" in data for _, data in graph.nodes(data=True))
    assert graph.copy().reverse().number_of_edges() == graph.number_of_edges()


def test_the_graph_is_one_that_networkx_would_have_made():
    x = leaf(1, 2)
    y = x * x
    made = trace(y * torch.ones(2) + y, x)
    built = GradGraph(**made.graph)
    built.add_nodes_from((key, dict(data)) for key, data in made.nodes(data=True))
    built.add_edges_from(
        (u, v, k, dict(data)) for u, v, k, data in made.edges(keys=True, data=True)
    )
    assert nx.utils.graphs_equal(made, built)
    assert {key: dict(made.pred[key]) for key in made} == {
        key: dict(built.pred[key]) for key in built
    }
    made["n2"]["n1" if made.has_edge("n2", "n1") else "n0"][0]["mark"] = 1
    assert [d for *_, d in made.in_edges("n0", data=True) if "mark" in d]


def test_insertion_keeps_parallel_edges():
    graph = GradGraph()
    insertion = Insertion(graph)
    for key in ("n0", "n1"):
        insertion.add_node(key, {})
    for position in (0, 1):
        insertion.add_edge("n1", "n0", position, {"input": position})
    assert list(graph.edges(keys=True)) == [("n1", "n0", 0), ("n1", "n0", 1)]


def test_bad_subjects_are_refused():
    with pytest.raises(SubjectError, match="backward"):
        trace(leaf(1).sum().backward())


def test_the_same_program_gives_the_same_graph_in_any_process():
    program = """
import torch, gradviz
from gradviz.serialize import to_json
from gradviz.story import Frame, Story
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.LSTM(4, 4))
loss = model(torch.ones(2, 3))[0].sum()
print(to_json(Story((Frame("", gradviz.trace(loss, names=model)),))))
"""
    texts = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert texts[0].count(b'"parameter"') == 6
