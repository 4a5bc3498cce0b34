"""Inputs to which no gradient goes: what is said of them, and what is only counted."""

import torch
from torch import nn

import gradviz
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


def test_a_number_that_is_divided_stands_before_the_sign():
    x = torch.tensor([2.0, 4.0], requires_grad=True)
    divided, divides = (torch.tensor(5.0) / x).sum(), (x / torch.tensor(5.0)).sum()
    assert "div  5 ÷" in str(gradviz.draw(divided))
    assert "div  ÷5" in str(gradviz.draw(divides))


def test_a_recorded_where_has_each_of_its_inputs_once():
    with gradviz.record() as run:
        x = torch.tensor([2.0, -4.0], requires_grad=True)
        loss = torch.where(x > 0, x, torch.tensor(9.0)).sum()
    assert loss.requires_grad
    assert "constant" not in str(gradviz.draw(run)).split("where")[1].splitlines()[0]


def test_data_that_was_replaced_before_backward_is_marked():
    with gradviz.record() as run:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        loss = (w * w).sum()
        w.data = torch.tensor([7.0, 8.0])
    assert loss.item() == 5
    assert "7 8  changed since" in str(gradviz.draw(run))


def test_a_leaf_behind_a_cut_that_did_not_change_has_its_value():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with gradviz.record(model) as run:
        hidden = model[0](torch.ones(1, 2)).detach()
        model[1](hidden).sum().backward()
    assert "  now  " not in str(gradviz.explain(model[0].bias, run).draw())


def test_what_a_module_makes_inside_does_not_have_the_name_of_its_result():
    lstm, two = nn.LSTM(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    with gradviz.record() as run:
        with torch.no_grad():
            given = two(torch.ones(1, 1, 2))
        outputs, state = lstm(given)
        outputs.sum().backward()
    names = [
        (data["op"], data.get("name", ""))
        for _, data in run.frames[0].graph.nodes(data=True)
        if data["kind"] is NodeKind.UNTRACKED
    ]
    expected = ("zeros", ""), ("zeros", ""), ("linear", "given"), ("linear", ""), ("tanh", "")
    assert sorted(names) == sorted(expected)
    assert state[0].shape == (1, 1, 2)


def test_a_tensor_that_is_gone_keeps_the_version_that_it_had() -> None:
    buffer = torch.zeros(4)
    buffer.add_(1)
    weights = leaf(1, 2)

    def loss() -> torch.Tensor:
        part = buffer[:2]  # a view has the version of its base
        return (weights * part).sum()

    with gradviz.record() as run:
        result = loss()
        result.backward()  # type: ignore[no-untyped-call]
    versions = [[d.get("version") for d in untracked(frame.graph)] for frame in run.story]
    assert versions == [[1], [1]]
    assert "tensor changed in place" not in gradviz.draw(run).svg


def test_values_that_an_average_used_are_not_called_copied():
    model = nn.ModuleDict({"teacher": nn.Linear(2, 1), "student": nn.Linear(2, 1)})
    x = torch.ones(1, 2)
    with gradviz.record(model) as run:
        with torch.no_grad():
            model["teacher"].weight.mul_(0.9).add_(model["student"].weight, alpha=0.1)
            model["teacher"].bias.copy_(model["student"].bias)
        loss = (model["teacher"](x) - model["student"](x)).sum()
    text = str(gradviz.draw(run))
    assert "values used by add_" in text and "values copied" in text
    assert loss.requires_grad


def test_tensors_of_one_call_have_the_names_of_their_variables() -> None:
    with gradviz.record() as run:
        x = torch.tensor([[0.5, 2.0], [0.1, 0.2]], requires_grad=True)
        for _ in range(2):
            rows, columns = (x > 0.3).nonzero(as_tuple=True)
            best, where = x.max(1)
            loss = x[rows, columns].sum() + best.sum() + x[:, where].sum()
        loss.backward()
    names = {
        data.get("name")
        for frame in run.story
        for _, data in frame.graph.nodes(data=True)
        if data["kind"] is NodeKind.UNTRACKED
    }
    assert {"rows", "columns"} <= names
    assert not any(name and "," in name for name in names)
