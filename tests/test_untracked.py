"""Inputs to which no gradient goes: what is said of them, and what is only counted."""

import torch
from torch import nn

from gradviz.capture import trace
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


def operation(graph: GradGraph, op: str) -> dict:
    (found,) = [data for _, data in graph.nodes(data=True) if data.get("op") == op]
    return found


def untracked(graph: GradGraph) -> list[dict]:
    return [data for _, data in graph.nodes(data=True) if data["kind"] is NodeKind.UNTRACKED]


def test_inputs_that_the_operation_proves_to_be_tensors_are_cut_off_nodes():
    x, constant = leaf(1, 2), torch.tensor([3.0, 4.0])
    graph = trace(x * constant + constant * x.exp())
    (data,) = untracked(graph)
    assert (data["name"], data["value"].values) == ("constant", (3, 4))
    cuts = [d for *_, d in graph.edges(data=True) if d["kind"] is EdgeKind.CUT]
    assert [(cut["cause"], cut["output"]) for cut in cuts] == [(Cause.NOT_RECORDED, 0)] * 2
    assert sorted(cut["input"] for cut in cuts) == [0, 1]


def test_a_detached_tensor_does_not_take_the_name_of_the_tracked_one():
    x = leaf(1, 2)
    y = x * 2
    (data,) = untracked(trace(x * y.detach()))
    assert "name" not in data


def test_a_frozen_weight_is_recognised_through_its_transpose():
    model = nn.Linear(2, 3)
    model.weight.requires_grad_(False)
    (data,) = untracked(trace(model(leaf(1, 2)), names=model))
    assert (data["name"], data["shape"]) == ("weight.t()", (2, 3))


def test_an_untracked_root_is_the_same_node_as_the_input():
    x, constant = leaf(1, 2), torch.ones(2)
    graph = trace(constant, x * constant)
    assert len(untracked(graph)) == 1
    assert graph.out_degree(graph.find("constant")) == 1


def test_numbers_are_read_where_the_operation_kept_them():
    x = leaf(1, 2)
    assert operation(trace(x * 3), "mul")["options"] == {"other": "3"}
    assert operation(trace(0.1 * x), "mul")["options"] == {"other": "0.1"}
    divided = operation(trace(x / 4), "div")
    assert divided["options"] == {"other": "4"}
    assert "untracked_inputs" not in divided


def test_inputs_about_which_nothing_is_known_are_counted():
    x = leaf(1, 2)
    assert operation(trace(x + 3), "add")["untracked_inputs"] == 1
    assert operation(trace(x + torch.ones(2)), "add")["untracked_inputs"] == 1


def test_absent_arguments_are_not_counted_where_that_is_known():
    image = torch.ones(1, 1, 4, 4)
    conv = trace(nn.Conv2d(1, 2, 3, bias=False)(image))
    assert "untracked_inputs" not in operation(conv, "conv")
    assert [data["name"] for data in untracked(conv)] == ["image"]
    norm = trace(nn.LayerNorm(2, elementwise_affine=False)(leaf(1, 2)))
    assert "untracked_inputs" not in operation(norm, "layer_norm")
