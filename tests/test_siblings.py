"""Alike branches drawn once, leaves in one box, and a page that is wide enough for its text."""

import networkx as nx
import pytest
import torch
from torch import nn

import gradviz
from gradviz.graph import GradGraph, NodeKind
from gradviz.views import (
    clone_shared_leaves,
    dock_leaves,
    fit_page,
    fold_chunks,
    fold_siblings,
    hide_bookkeeping,
    infer_modules,
    reverse_flow,
)
from gradviz.views.groups import count_of
from gradviz.views.page import fit_pages, page_size
from gradviz.views.siblings import names_in_short


def ensemble(count: int) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(nn.Linear(4, 4) for _ in range(count))


def stacked(members: nn.ModuleList) -> torch.Tensor:
    x = torch.randn(2, 4)
    return torch.stack([member(x).relu() for member in members]).sum()


def groups(graph):
    return [data for _, data in graph.nodes(data=True) if data["kind"] is NodeKind.GROUP]


def test_alike_branches_become_one():
    members = ensemble(26)
    graph = gradviz.trace(stacked(members), names=members)
    seen = fold_siblings(hide_bookkeeping(graph))
    assert {data.get("repeat") for data in groups(seen)} == {26}
    assert "0…25.weight" in {data.get("name") for data in groups(seen)}
    assert sum(data.get("parameters", 0) for data in groups(seen)) == 26 * 20


def test_a_branch_without_a_gradient_stays_with_its_name():
    members = ensemble(8)
    stacked(members).backward()
    members[3].weight.grad = None
    graph = gradviz.trace(stacked(members), names=members)
    seen = fold_siblings(hide_bookkeeping(graph))
    assert seen.find("3.weight")
    assert "0…2,4…7.weight" in {data.get("name") for data in groups(seen)}


def test_a_branch_with_nan_stays_with_its_name():
    members = ensemble(8)
    stacked(members).backward()
    members[5].bias.grad[0] = float("nan")
    seen = fold_siblings(hide_bookkeeping(gradviz.trace(stacked(members), names=members)))
    assert seen.find("5.bias")


def test_folding_twice_changes_nothing_more():
    members = ensemble(8)
    once = fold_siblings(hide_bookkeeping(gradviz.trace(stacked(members), names=members)))
    assert sorted(fold_siblings(once)) == sorted(once)


def test_a_penalty_over_all_parameters_is_one_branch_and_in_no_module():
    layers = [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)]
    model = nn.Sequential(*layers)
    loss = model(torch.randn(2, 4)).sum()
    loss = loss + sum(weight.pow(2).sum() for weight in model.parameters())
    graph = gradviz.trace(loss, names={"model": model})
    seen = fold_siblings(hide_bookkeeping(graph), shapes=False)
    assert 6 in {data.get("repeat") for data in groups(seen)}
    inferred = gradviz.views.infer_modules(graph)
    modules = [d.get("module") for _, d in inferred.nodes(data=True) if d.get("op") == "pow"]
    assert not any(modules)


def test_leaves_of_one_node_share_a_box():
    model = nn.Sequential(nn.Linear(4, 1))
    seen = dock_leaves(hide_bookkeeping(gradviz.trace(model(torch.ones(4)), names=model)))
    assert [data["name"] for data in groups(seen)] == ["parameters of 0 (2)"]


@pytest.mark.parametrize("count", [3, 26, 100])
def test_a_wide_graph_is_narrow_enough_for_its_text(count):
    members = ensemble(count)
    seen = gradviz.views.fit_page(gradviz.trace(stacked(members), names=members))
    assert page_size(clone_shared_leaves(seen))[0] < 1_500


def test_thousands_of_leaves_in_one_stack_are_one_box():
    leaves = [torch.ones(1, requires_grad=True) for _ in range(5_000)]
    seen = gradviz.views.fit_page(gradviz.trace(torch.stack(leaves).sum(), names={}))
    assert len(seen) < 10
    assert 5_000 in {data.get("repeat") for data in groups(seen)}


class OwnCell(nn.LSTMCell):
    """What it runs is not known from its class."""


def test_boxes_of_parameters_are_drawn_again_instead_of_long_arrows() -> None:
    cell, head = OwnCell(4, 8), nn.Linear(8, 2)
    state, found = None, []
    for step in torch.ones(26, 2, 4):
        state = cell(step, state)
        found.append(head(state[0]))
    graph = (
        gradviz.draw(torch.stack(found).sum(), names={"cell": cell, "head": head}).shown[0].graph
    )
    boxes = {
        key: data["name"]
        for key, data in graph.nodes.data()
        if data["kind"] is NodeKind.GROUP and "parameters" in data and not data.get("members")
    }
    again = [data["clone_of"] for _, data in graph.nodes.data() if "clone_of" in data]
    assert boxes and len(set(boxes.values())) == len(boxes)
    assert set(again) & set(boxes)
    assert sum(data.get("parameters", 0) for _, data in graph.nodes.data()) == 448 + 18


class Detector(nn.Module):
    """Two heads that are called once per level, and a loss with many operations."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 4)
        self.box, self.score = (nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels = [self.trunk(x), self.trunk(x * 2)]
        boxes, scores = ([head(level) for level in levels] for head in (self.box, self.score))
        for row in range(30):
            boxes = [each.sigmoid() * scores[0] + row for each in boxes]
        return (boxes[0] - boxes[1]).square().mean() + scores[1].exp().sum()


def test_operations_outside_of_modules_are_folded_and_modules_stay():
    torch.manual_seed(0)
    model = Detector()
    loss = model(torch.randn(2, 4))
    graph = gradviz.trace(loss, names=model)
    seen = fit_page(graph, most=12)
    assert nx.is_directed_acyclic_graph(seen)
    assert len(seen) <= 24
    names = {str(data.get("name")).partition(".")[0] for data in groups(seen)}
    assert {"trunk", "box", "score"} <= names
    assert count_of(seen) == count_of(graph)


def test_pages_of_several_sizes_are_the_same_at_once_and_one_by_one():
    members = ensemble(40)
    graph = gradviz.trace(stacked(members), names=members)
    sizes = [(60, 1), (60, 3), (60, 5)]
    for seen, (most, pages) in zip(fit_pages(graph, sizes), sizes, strict=True):
        alone = fit_page(graph, most=most, pages=pages)
        assert list(seen.nodes(data=True)) == list(alone.nodes(data=True))
        assert list(seen.edges(keys=True)) == list(alone.edges(keys=True))
    turned = fit_pages(reverse_flow(graph), sizes[:1])[0]
    assert turned.graph["flow"] == "gradient"


def test_leaves_that_nothing_uses_have_no_common_shape_if_theirs_differ():
    graph = GradGraph()
    for key, shape in (("n0", (3, 2)), ("n1", (2,))):
        graph.add_node(key, kind=NodeKind.PARAMETER, name=f"fc.{key}", shape=shape)
    (data,) = dict(dock_leaves(graph).nodes(data=True)).values()
    assert "shape" not in data


def test_what_runs_between_two_calls_of_a_linear_is_not_in_it():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.act = nn.Linear(3, 3), nn.ReLU()

        def forward(self, x):
            for _ in range(3):
                x = self.act(self.layer(x).sin())
            return x

    model = Loop()
    graph = infer_modules(gradviz.trace(model(torch.ones(2, 3)).sum(), names=model))
    found = {data["op"]: data.get("module") for _, data in graph.nodes(data=True) if "op" in data}
    assert (found["addmm"], found["sin"]) == ("layer", None)


def a_differentiated_step() -> tuple[nn.Module, torch.Tensor]:
    """The loss of a network after a step of gradient descent that is differentiated itself."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    x = torch.randn(8, 1)
    named = dict(net.named_parameters())
    slopes = torch.autograd.grad(net(x).square().mean(), list(named.values()), create_graph=True)
    steps = zip(named.items(), slopes, strict=True)
    moved = {name: leaf - 0.1 * slope for (name, leaf), slope in steps}
    return net, torch.func.functional_call(net, moved, (x,)).square().mean()


@pytest.mark.parametrize("tangle", [0, 12, 1_000])
def test_a_box_of_leaves_keeps_the_links_of_their_copies(tangle: int) -> None:
    net, loss = a_differentiated_step()
    graph = hide_bookkeeping(gradviz.trace(loss, names=net))
    copied = clone_shared_leaves(graph, tangle=tangle)
    docked = dock_leaves(copied)
    steps = [key for key, data in graph.nodes(data=True) if data.get("op") == "sub"]
    assert len(steps) == 6
    for step in steps:
        assert docked.in_degree(step) == copied.in_degree(step) == 2


def test_a_step_of_gradient_descent_runs_in_no_module() -> None:
    net, loss = a_differentiated_step()
    graph = infer_modules(gradviz.trace(loss, names=net))
    found = [(data.get("op"), data.get("module", "")) for _, data in graph.nodes(data=True)]
    assert [module for op, module in found if op == "sub"] == [""] * 6
    assert sorted(module for op, module in found if op == "addmm" and module) == ["0", "2", "4"]


def test_a_picture_that_fits_gives_up_at_most_half_of_its_boxes_to_be_narrower() -> None:
    net, loss = a_differentiated_step()
    drawing = gradviz.draw(loss, names=net)
    assert drawing.svg.count("-node ") * 2 >= len(drawing.shown[0].graph)


def test_steps_of_a_loop_that_each_read_a_number_are_folded() -> None:
    """As an agent that samples an action in each step of an episode."""
    policy = nn.Linear(3, 2)
    torch.manual_seed(0)
    with gradviz.record(policy) as run:
        losses = []
        for _ in range(40):
            probs = policy(torch.ones(3)).softmax(0)
            action = torch.multinomial(probs, 1)
            action.item()
            losses.append(probs.gather(0, action))
        loss = torch.cat(losses).sum()
    graph = run.frames[-1].graph
    folded = fold_siblings(graph)
    repeats = {
        data["op"]: data["repeat"] for _, data in folded.nodes(data=True) if "repeat" in data
    }
    words = ("softmax", "multinomial, not tracked", "gather")
    assert all(repeats[word] >= 39 for word in words)  # the variables name those of the last
    page = fit_page(graph)
    alone = [key for key in page if not page.degree(key)]
    assert loss.item() and len(page) < 20 and not alone


def test_numbers_of_other_results_are_not_folded() -> None:
    w = torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        results = [(w * n).sum() + n for n in range(3)] + [w.exp().sum(), w.sin().sum()]
        numbers = [result.item() for result in results]
    folded = fold_siblings(run.frames[-1].graph)
    ends = [data for key, data in folded.nodes(data=True) if not folded.out_degree(key)]
    assert len(numbers) == 5 and len([data for data in ends if "repeat" not in data]) >= 2


def named_groups(drawing, at=-1):
    return {data.get("name"): data.get("repeat") for data in groups(drawing.shown[at].graph)}


class Members(nn.ModuleDict):
    """Members side by side; one is detached, and one has NaN in its gradient."""

    def __init__(self):
        super().__init__({f"m{n}": nn.Sequential(nn.Linear(8, 1)) for n in range(12)})

    def forward(self, x):
        found = [member(x) for member in self.values()]
        found[5] = found[5].detach()
        found[7] = found[7] / 0 * 0
        return torch.stack(found).mean()


def test_recorded_members_that_differ_stay_out_of_the_repetition_and_its_name():
    model = Members()
    with gradviz.record(model) as run:
        model(torch.ones(4, 8)).backward()
    drawing = gradviz.draw(run)
    assert named_groups(drawing, 0)["m1…4,6…11"] == 10
    after = named_groups(drawing)
    assert after["m0…4,6"] == 6
    assert after["m8…11"] == 4
    assert {"m5", "m7"} <= after.keys()


def test_many_separate_numbers_are_no_range():
    assert names_in_short([f"m{n}.w" for n in (0, 2, 4, 6, 8)]) == "m0,2,…,8.w"


def test_leaves_of_alike_branches_are_docked_beside_an_odd_branch():
    torch.manual_seed(0)
    members = nn.ModuleList(
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)) for _ in range(8)
    )
    members[3] = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1))
    x = torch.randn(4, 8)
    loss = torch.stack([member(x) for member in members]).sum()
    (frame,) = gradviz.draw(loss, names={"members": members}).shown
    boxes = {data["name"]: data for data in groups(frame.graph) if not data["members"]}
    first = boxes["parameters of members.0…2,4…7.0 (14)"]
    assert len(first["leaves"]) == 14 and first["parameters"] == 7 * 72
    assert set(boxes) == {
        f"parameters of members.{which}.{layer} ({count})"
        for which, count in (("0…2,4…7", 14), ("3", 2))
        for layer in (0, 2)
    }


def test_boxes_of_leaves_that_chunks_join_are_told_apart():
    graph = GradGraph()
    for part in range(40):
        graph.add_node(f"n{part}", kind=NodeKind.OPERATION, op="add", sequence_nr=part)
        for slot, name in enumerate((f"l{part}.weight", f"l{part}.bias")):
            graph.add_node(name, kind=NodeKind.PARAMETER, name=name, shape=(4,), grad=None)
            graph.add_edge(name, f"n{part}", 0, input=slot)
    seen = fold_chunks(dock_leaves(graph), count=8)
    names = [data["name"] for data in groups(seen) if not data["members"]]
    assert len(names) > 2 and len(set(names)) == len(names), names
    assert names[-1] == "parameters #1 (16)"
