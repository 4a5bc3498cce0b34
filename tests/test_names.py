"""What a tensor is called: by module, dict or the caller's variables."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import gradviz
from gradviz.capture.tensors import names as names_module
from gradviz.capture.tensors.names import Names
from gradviz.errors import SubjectError, UsageError

t = torch.ones  # a short way to make tensors; no tensor itself


def told(names: Names) -> dict[str, tuple[str, ...]]:
    return {name: aliases for _, name, aliases in names}


def here(depth: int = 1) -> Names:
    return Names.of(None, sys._getframe(depth))


def seen_in(source: str, **variables: object) -> dict[str, tuple[str, ...]]:
    """The names that a module-level script would give."""
    namespace = {"__name__": "script", "here": here, **variables}
    exec(f"{source}\nfound = here()", namespace)
    found = namespace["found"]
    assert isinstance(found, Names)
    return told(found)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 2, bias=False)
        self.decoder = nn.Linear(2, 2, bias=False)
        self.decoder.weight = self.encoder.weight
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("absent", None)

    def draw(self) -> Names:
        return here()


def test_module_names_parameters_and_buffers_in_order() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert list(told(Names.of(model, None))) == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    ]


def test_shared_parameter_shows_all_its_names() -> None:
    found = told(Names.of(Tied(), None))
    assert found == {"encoder.weight": ("decoder.weight",), "mean": ()}


def test_dict_of_tensors_modules_and_containers() -> None:
    a, b, c, d = t(1), t(1), t(1), t(1)
    found = told(
        Names.of(
            {"a": a, "net": nn.Linear(2, 2), "list": [b], "dict": {"w": c}, "tuple": (d,)}, None
        )
    )
    assert list(found) == [
        "a",
        "net.weight",
        "net.bias",
        "list[0]",
        "dict['w']",
        "tuple[0]",
    ]


def test_dict_takes_the_first_name_of_a_tensor() -> None:
    a = t(1)
    assert told(Names.of({"long_name": a, "a": a}, None)) == {"long_name": ("a",)}


def test_empty_dict_means_no_names() -> None:
    x = t(1)
    assert len(Names.of({}, sys._getframe())) == 0
    assert x is not None


def test_no_frame_means_no_names() -> None:
    assert len(Names.of(None, None)) == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([t(1)], "names cannot be [tensor("),
        ("loss", "names cannot be 'loss': pass an nn.Module, a dict"),
        (t(1), "names cannot be tensor("),
        (nn.Linear(1, 1).named_parameters(), "names cannot be <generator"),
        ({1: t(1)}, "names has the key 1: a name must be a string"),
        ({"a": 3}, "names gives 'a' for 3, which is not a tensor"),
        ({"a": None}, "names gives 'a' for None"),
        ({"a": [t(1), 3]}, "names gives 'a[1]' for 3"),
        ({"a": [[t(1)]]}, "names gives 'a[0]' for [tensor("),
    ],
)
def test_other_names_are_errors(names: object, message: str) -> None:
    with pytest.raises(UsageError) as error:
        Names.of(names, None)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_variables_of_the_caller() -> None:
    x = t(1)
    params = {"w": t(1), "n": 3}
    layers = [t(1), None, t(1)]
    model = nn.Linear(2, 2)
    found = told(here())
    assert {"x", "params['w']", "layers[0]", "layers[2]", "model.weight", "model.bias"} <= set(
        found
    )
    assert x is not None and params and layers and model


def test_deeper_containers_and_optimizers_are_left_alone() -> None:
    found = seen_in(
        "deep = [[t(1)]]\nw = t(1, requires_grad=True)\nopt = torch.optim.SGD([w])",
        t=t,
        torch=torch,
    )
    assert list(found) == ["w"]


def test_self_is_a_module() -> None:
    found = told(Tied().draw())
    assert found["self.encoder.weight"] == ("self.decoder.weight",)
    assert "self.mean" in found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("xyz = x = t(1)", "x"),
        ("b = a = t(1)", "a"),
        ("_ = _x = t(1)\nlong_name = _x", "long_name"),
        ("_x = t(1)", "_x"),
        ("params = [t(1)]\nx = params[0]", "x"),
        ("ab = t(1)\np = [ab]", "ab"),
        ("x = t(1)\n__secret = x", "x"),
        ("x = t(1)\nIn = ['', x]\nOut = {1: x}\n_1 = __ = _i = _oh = x", "x"),
    ],
)
def test_which_name_wins(source: str, expected: str) -> None:
    assert seen_in(source, t=t) == {expected: ()}


def test_history_of_ipython_and_dunders_give_no_names() -> None:
    source = (
        "Out = {1: t(1)}\nIn = [t(1)]\n_ = __ = ___ = _1 = _i2 = _ii = _oh = t(1)\n__x__ = t(1)"
    )
    assert seen_in(source, t=t) == {}


def test_a_tensor_called_out_is_the_users_own() -> None:
    assert seen_in("Out = t(1)", t=t) == {"Out": ()}


def test_locals_win_over_globals_of_the_same_length_and_hide_them() -> None:
    shared, hidden = t(1), t(1)
    namespace: dict[str, Any] = {"here": here, "gg": shared, "same": hidden, "t": t}
    exec("def f(ll, same=3):\n    return here()\ndef g(longer):\n    return here()", namespace)
    assert told(namespace["f"](shared)) == {"ll": ()}
    assert set(told(namespace["g"](shared))) == {"gg", "same"}


def test_module_names_against_variables() -> None:
    source = "model = Tied()\nw = model.encoder.weight\nm = model.mean"
    assert seen_in(source, Tied=Tied) == {
        "model.encoder.weight": ("model.decoder.weight",),
        "model.mean": (),
    }


def test_what_a_loop_left_behind_names_nothing() -> None:
    model = "model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1, bias=False))"
    loops = "for layer in model: pass\nfor p in model.parameters(): pass"
    expected = {"model.0.weight", "model.0.bias", "model.1.weight"}
    assert set(seen_in(f"{model}\n{loops}", nn=nn)) == expected


def test_the_shortest_of_two_modules_gives_the_aliases() -> None:
    found = seen_in("model = Tied()\nnet = model", Tied=Tied)
    assert found["net.encoder.weight"] == ("net.decoder.weight",)
    assert len(found) == 2


def test_the_order_is_that_of_the_variables() -> None:
    assert list(seen_in("c = t(1)\na = t(1)\nb = t(1)", t=t)) == ["c", "a", "b"]


def test_a_namespace_is_like_the_variables_of_a_script() -> None:
    x = t(1)
    found = Names.of_namespace({"x": x, "longer": x, "__doc__": t(1), "model": Tied()})
    assert list(told(found)) == ["x", "model.encoder.weight", "model.mean"]


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"asked for {name}")


class HostileModule(nn.Module):
    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        raise RuntimeError("not now")


class HostileDict(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError("not now")


def test_odd_objects_among_the_variables_do_no_harm() -> None:
    half_built = nn.Linear.__new__(nn.Linear)
    source = "a = odd[0]\nb = odd[1]\nc = odd[2]\nd = odd[3]\nx = t(1)"
    odd = (Hostile(), HostileModule(), HostileDict(a=1), half_built)
    assert seen_in(source, t=t, odd=odd) == {"x": ()}


def test_a_module_that_holds_itself_ends() -> None:
    model = nn.Linear(2, 2, bias=False)
    model.me = model
    assert "weight" in told(Names.of(model, None))


def test_large_containers_are_looked_at_in_part() -> None:
    data = list(range(1_000_000))
    data_of_tensors = [t(1)] * 5 + [t(1) for _ in range(3000)]
    found = seen_in("", data=data, tensors=data_of_tensors, x=t(1))
    assert "x" in found and "tensors[0]" in found
    assert len(found) < 1_100


def test_names_are_returned_as_they_are() -> None:
    odd = 'a"<b>|\n\N{FIRE}'
    assert list(told(Names.of({odd: t(1)}, None))) == [odd]


def test_the_frame_and_its_variables_are_let_go() -> None:
    class Marker:
        pass

    def caller() -> tuple[weakref.ref[torch.Tensor], bool]:
        x = t(1)
        ref = weakref.ref(x)
        names = here()
        assert any(tensor is x for tensor, _, _ in names)
        del names, x
        # Still inside the call: looking at the variables must not have pinned them.
        return ref, ref() is None

    gc.collect()
    gc.disable()
    try:
        ref, freed_inside = caller()
        assert freed_inside
        assert ref() is None
    finally:
        gc.enable()


def test_locals_that_the_user_took_stay_as_they_were() -> None:
    x = t(1)
    mine = locals()
    here()
    assert mine["x"] is x


def test_works_at_the_module_level_without_emptying_it() -> None:
    namespace = {"here": here, "x": t(1)}
    exec("here()", namespace)
    assert "x" in namespace


def test_what_a_module_does_not_hold_is_called_by_its_variable():
    model = torch.nn.Linear(2, 1, bias=False)
    loss = model(torch.ones(1, 2)).sum()
    graph = gradviz.trace(loss, names=model)
    assert {graph.nodes[key]["name"] for key in (*graph.leaves, *graph.roots)} == {"weight", "loss"}


def test_a_tensor_that_torch_tells_nothing_of_is_left_out() -> None:
    h = torch.ones(2, 2, requires_grad=True).exp()
    one, _ = h.unbind()
    h.mul_(2)
    with pytest.raises(RuntimeError, match="is a view and its base"):
        _ = one.grad_fn
    names = Names.of_namespace({"h": h, "one": one})
    assert [named.name for named in names] == ["h"]


def test_a_trace_makes_no_node_for_a_view_whose_base_was_changed() -> None:
    base = torch.ones(4, requires_grad=True) * 1
    view, fine = base[:2], base[2:]
    base.mul_(2)
    later = base.view(2, 2)
    loss = base.sum()
    for names in (None, {"view": view, "base": base, "loss": loss}):
        before = torch.autograd._get_sequence_nr()
        graph = gradviz.trace(loss, names=names)
        assert torch.autograd._get_sequence_nr() == before
        assert graph.find("base") and graph.nodes[graph.roots[0]]["name"] == "loss"
    assert gradviz.trace(later).nodes["n0"]["name"] == "later"  # a root keeps its name
    assert fine.shape == (2,)


def test_a_recording_makes_no_node_for_a_view_whose_base_was_changed() -> None:
    def made(is_recorded: bool) -> int:
        with gradviz.record() if is_recorded else contextlib.nullcontext():
            before = torch.autograd._get_sequence_nr()
            base = torch.ones(4, requires_grad=True) * 1
            view = base[:2]
            view.register_hook(lambda grad: None)
            base.mul_(2)
            loss = base.sum()
            loss.backward()
            return torch.autograd._get_sequence_nr() - before

    assert made(True) == made(False)


def test_what_torch_refuses_to_tell_is_left_without_a_name_or_refused_in_one_line() -> None:
    w = torch.ones(4, requires_grad=True)
    base = w * 1
    with torch.no_grad():
        view = base[:2]
    base.mul_(2)
    named = gradviz.trace(base.sum(), names={"view": view, "w": w})
    assert named.find("w") and not any(d.get("name") == "view" for _, d in named.nodes(data=True))
    for ask in (gradviz.trace, gradviz.draw, gradviz.explain):
        with pytest.raises(SubjectError, match=r"shape \(2,\).*changed in place.*pass its base$"):
            ask(view)
    assert gradviz.explain(w, base.sum())


def test_a_view_made_after_the_change_is_drawn_as_what_was_recorded() -> None:
    w = torch.ones(4, requires_grad=True)
    with gradviz.record() as run:
        out = torch.relu_(w * 1).view(2, 2)
    graph = run.frames[-1].graph
    assert [graph.nodes[key]["name"] for key in graph.roots] == ["out"]
    assert out.shape == (2, 2)


def test_the_variable_of_a_loop_is_not_the_name_of_a_tensor_that_has_another() -> None:
    weight = torch.ones(2, requires_grad=True)
    bias = torch.ones(2, requires_grad=True)
    for w in (weight, bias):
        w.grad = None
    for _, b in enumerate([weight, bias]):
        b.grad = None
    named = {each.name for each in Names.of(None, sys._getframe())}
    assert named == {"weight", "bias"}


def test_given_names_are_those_of_a_recording() -> None:
    w = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        loss = (w * 2).sum()
        loss.backward()
    assert [each.name for each in gradviz.explain(run, names={"scale": w})] == ["scale"]
    assert [each.name for each in gradviz.explain(run)] == ["w"]


def test_modules_in_a_container_name_their_parameters() -> None:
    models = {"critic": nn.Linear(2, 1, bias=False)}
    layers = [nn.Linear(1, 1, bias=False)]
    found = {name for name in told(here()) if name != "t"}
    assert found == {"models['critic'].weight", "layers[0].weight"}
    assert len(models) == len(layers)


def test_several_variables_are_not_the_name_of_one_result() -> None:
    w, b = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
    with gradviz.record() as run:
        inner = (w.sum() + b).pow(2).sum()
        gw, gb = torch.autograd.grad(inner, [w, b], create_graph=True)
        left, right = (gw * 2).split(1)
        (left + right + gb).sum().backward()
    names = {n["name"] for f in run.frames for _, n in f.graph.nodes(data=True) if "name" in n}
    assert "gw, gb" not in names and {"gw", "gb", "left, right"} <= names


def test_names_follow_a_model_that_changes_between_passes() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    x = t(1, 2)
    with gradviz.record(model) as recording:
        model(x).sum().backward()
        model.append(nn.Linear(2, 1, bias=False))
        model.extras = [nn.Linear(1, 1, bias=False)]
        model.extras[0](model(x)).sum().backward()
        model[0] = nn.Linear(2, 2, bias=False)
        type(model).factor = nn.Parameter(t(1))
        try:
            (model(x) * model.factor).sum().backward()
        finally:
            del type(model).factor
    forwards = [each.graph for each in recording.frames if each.title.startswith("forward")]
    found = [{graph.nodes[key]["name"] for key in graph.leaves} for graph in forwards]
    assert found == [
        {"0.weight"},
        {"0.weight", "1.weight", "extras[0].weight"},
        {"0.weight", "1.weight", "factor"},
    ]


def test_a_module_that_names_a_trace_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    search = names_module._of_module
    count = lambda module, prefix: searched.append(id(module)) or search(module, prefix)
    monkeypatch.setattr(names_module, "_of_module", count)
    model, other = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    found = gradviz.trace(other(model(t(1))), names=model)
    assert searched.count(id(model)) == 1
    assert {found.nodes[key]["name"] for key in found.leaves} == {"weight", "other.weight"}


def test_keys_of_a_dict_are_written_only_for_tensors_and_modules() -> None:
    written: list[str] = []

    class Key:
        def __repr__(self) -> str:
            written.append("a key")
            return "Key()"

    vocabulary = {Key(): number for number in range(3)}
    found = seen_in("x = {'a': t(1)}", vocabulary=vocabulary, t=t)
    assert found == {"x['a']": ()} and not written
