"""Changes of gradients by hooks are reported with their line, without changing the program."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recording import events, find, strict
from torch import nn
from torch.utils.hooks import BackwardHook

import gradviz
from gradviz.story import Event, EventKind

__all__ = ["strict"]


def did(run: gradviz.Recording) -> list[Event]:
    """What hooks did, without their registration."""
    return [event for event in events(run, EventKind.HOOK) if event.word == "hook"]


def told(run: gradviz.Recording) -> list[tuple[str, str]]:
    return [(event.name, event.detail) for event in did(run)]


def double(grad: torch.Tensor) -> torch.Tensor:
    return grad * 2


def leaf(size: int = 2) -> torch.Tensor:
    return torch.ones(size, requires_grad=True)


def test_hooks_of_a_leaf_and_of_a_result_in_the_order_in_which_they_ran() -> None:
    with gradviz.record() as run:
        x = leaf()
        y = x * 2
        y.register_hook(lambda grad: grad * 10)
        handle = x.register_hook(double)
        y.sum().backward()
    assert told(run) == [("y", "gradient 1 → 10"), ("x", "gradient 20 → 40 by double")]
    of_y, of_x = did(run)
    registered = [e for e in events(run, EventKind.HOOK) if e.detail == "registered"]
    assert [e.source for e in registered] == [of_y.source, of_x.source]
    assert [e.name for e in registered] == ["y", "x"]
    graph = run.frames[-1].graph
    assert (graph.nodes[of_y.node]["op"], graph.nodes[of_x.node]["name"]) == ("mul", "x")
    kinds = [event.kind.value for event in run.events[-4:]]
    assert kinds == ["backward", "hook", "hook", "accumulate"]
    assert x.grad is not None and x.grad.tolist() == [40.0, 40.0] and handle.id


def test_a_hook_that_altered_nothing_is_not_told() -> None:
    with gradviz.record() as run:
        x, big = leaf(), leaf(100)
        x.register_hook(lambda grad: None)
        x.register_hook(lambda grad: grad)
        x.register_hook(lambda grad: grad.clone())
        big.register_hook(lambda grad: grad.clone())
        (x.sum() * big.sum()).backward()
    assert told(run) == []


@pytest.mark.parametrize("size", [2, 100])
def test_a_hook_that_writes_into_the_gradient(size: int) -> None:
    with gradviz.record() as run:
        x = leaf(size)
        x.register_hook(lambda grad: [grad.mul_(3), None][1])
        (x * torch.arange(1.0, size + 1)).sum().backward()
    expected = "[1 2] → [3 6]" if size == 2 else "norm 581.7 → norm 1745"
    assert told(run) == [("x", f"gradient {expected}")]


def test_nan_and_a_gradient_that_only_changed_its_sign() -> None:
    with gradviz.record() as run:
        x, big = leaf(), leaf(100)
        x.register_hook(lambda grad: grad / 0 * 0)
        big.register_hook(lambda grad: -grad)
        (x.sum() + (big * torch.arange(100.0)).sum()).backward()
    assert sorted(told(run)) == [("big", "gradient changed"), ("x", "gradient 1 → nan")]


def test_hooks_after_the_gradient_was_added() -> None:
    def halve(parameter: torch.Tensor) -> None:
        parameter.grad.mul_(0.5)  # type: ignore[union-attr]

    with gradviz.record() as run:
        x = leaf()
        x.register_post_accumulate_grad_hook(halve)
        (x * 3).sum().backward()
    assert told(run) == [("x", "gradient 3 → 1.5 by halve")]
    assert run.events[-1] == did(run)[0]
    assert find(run.frames[-1].graph, "x")["grad"].values == (1.5, 1.5)  # type: ignore[attr-defined]


def test_a_step_within_backward() -> None:
    """The optimizer runs in the hook and clears the gradient: nothing of it is counted twice."""
    w, v = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizers = {each: torch.optim.SGD([each], lr=0.5) for each in (w, v)}

    def step(parameter: torch.Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad()  # type: ignore[index]

    for each in optimizers:
        each.register_post_accumulate_grad_hook(step)
    with gradviz.record() as run:
        for _ in range(2):
            (w * v).sum().backward()
    assert [frame.title for frame in run.frames] == [
        "forward",
        "after backward 1",
        "forward",
        "after backward 2",
    ]
    words = [event.word for event in events(run)]
    assert words == ["backward", "hook", "hook", "step", "step"] * 2
    assert sorted(told(run)[:2]) == [
        ("v", "gradient 1 → None by step"),
        ("w", "gradient 1 → None by step"),
    ]
    assert find(run.frames[-1].graph, "w")["grad"] is None


def test_hooks_from_before_the_recording_have_the_line_that_defines_them() -> None:
    x = leaf()
    x.register_hook(double)
    x.register_hook(functools.partial(torch.mul, 5))
    with gradviz.record() as run:
        x.sum().backward()
    assert told(run) == [("x", "gradient 1 → 2 by double"), ("x", "gradient 2 → 10")]
    first, second = did(run)
    line = double.__code__.co_firstlineno
    assert first.source.endswith(f"test_record_hooks.py:{line}") and second.source == ""


def test_a_hook_from_before_the_recording_on_a_result_that_a_variable_holds() -> None:
    x = leaf()
    y = x * 3
    y.register_hook(double)
    kept = weakref.ref(y)
    with gradviz.record() as run:
        y.sum().backward()
        del y
        gc.collect()
        assert kept() is None
    assert told(run) == [("y", "gradient 1 → 2 by double")]
    (event,) = did(run)
    assert run.frames[-1].graph.nodes[event.node]["op"] == "mul"
    assert x.grad is not None and x.grad.tolist() == [6.0, 6.0]


def test_hooks_of_a_node_itself_cannot_be_seen() -> None:
    """Torch has no list of them, and Python code cannot find the node of one."""
    with gradviz.record() as run:
        x = leaf()
        y = x * 3
        node: Any = y.grad_fn
        node.register_prehook(lambda grads: (grads[0] * 2,))
        y.sum().backward()
    assert events(run, EventKind.HOOK) == []
    assert gc.get_referents(node) == []
    assert x.grad is not None and x.grad.tolist() == [6.0, 6.0]


def test_full_backward_hooks_of_modules() -> None:
    def before(module: nn.Module, grads: Any) -> Any:
        return (grads[0] * 5,)

    def after(module: nn.Module, grads: Any, _: Any) -> Any:
        return (grads[0] * 2,)

    def looks_only(module: nn.Module, grads: Any, _: Any) -> None:
        pass

    model = nn.Sequential(nn.Flatten(0), nn.Identity())
    model[1].register_full_backward_pre_hook(before)
    model[1].register_full_backward_hook(looks_only)
    model[1].register_full_backward_hook(after)
    with gradviz.record(model) as run:
        x = leaf()
        model(x).sum().backward()
    assert told(run) == [("1", "gradient 1 → 5 by before"), ("1", "gradient 5 → 10 by after")]
    assert x.grad is not None and x.grad.tolist() == [10.0, 10.0]


def test_hooks_are_where_they_were_and_called_as_often() -> None:
    calls: list[str] = []

    def program() -> list[Any]:
        calls.clear()
        x, y = leaf(), leaf() * 1
        handle = x.register_hook(lambda grad: [calls.append("first"), handle.remove()][0])
        x.register_hook(lambda grad: calls.append("second"))
        y.register_hook(lambda grad: grad * 2)
        own = [list(each._backward_hooks.values()) for each in (x, y)]  # type: ignore[union-attr]
        loss = (x * y).sum()
        for _ in range(2):
            loss.backward(retain_graph=True)
        kept = [list(each._backward_hooks.values()) for each in (x, y)]  # type: ignore[union-attr]
        assert kept == [own[0][1:], own[1]]
        return [list(calls), x.grad]

    bare = program()
    with gradviz.record():
        recorded = program()
    assert recorded[0] == bare[0] == ["first", "second", "second"]
    assert torch.equal(recorded[1], bare[1])


def test_nested_recordings_put_every_hook_back() -> None:
    x = leaf()
    x.register_hook(double)
    with gradviz.record() as outer, gradviz.record() as inner:
        x.sum().backward()
    assert told(outer) == told(inner) == [("x", "gradient 1 → 2 by double")]
    assert list(x._backward_hooks.values()) == [double]  # type: ignore[union-attr]


def test_an_error_in_a_hook_is_the_programs_and_leaves_the_hook_in_place() -> None:
    def broken(grad: torch.Tensor) -> torch.Tensor:
        raise ValueError("broken")

    def misshapen(grad: torch.Tensor) -> torch.Tensor:
        return grad[:1]

    x, y = leaf(), leaf()
    x.register_hook(broken)
    y.register_hook(misshapen)
    with pytest.raises(ValueError, match="broken"), gradviz.record():
        x.sum().backward()
    assert list(x._backward_hooks.values()) == [broken]  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="hook 'misshapen' has changed"), gradviz.record():
        y.sum().backward()


def test_torchs_own_is_put_back_and_nothing_lives_longer() -> None:
    original = BackwardHook.__init__
    with gradviz.record() as run:
        assert BackwardHook.__init__ is not original
        x = leaf()
        x.register_hook(double)
        reference = weakref.ref(x)
        x.sum().backward()
        del x
        gc.collect()
        assert reference() is None
    assert BackwardHook.__init__ is original and len(did(run)) == 1


def test_a_module_hook_from_a_recording_works_after_it() -> None:
    model = nn.Identity()
    model.register_full_backward_hook(lambda module, grads, _: (grads[0] * 2,))
    with gradviz.record() as run:
        x = leaf()
        loss = model(x).sum()
    loss.backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0] and not did(run)


def test_a_mistake_of_ours_in_a_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise ArithmeticError("a mistake of ours")

    monkeypatch.delenv("GRADVIZ_DEBUG")
    monkeypatch.setattr("gradviz.recording.hooks._version", wrong)
    with gradviz.record() as run:
        x = leaf()
        x.register_hook(double)
        x.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0]
    assert "a mistake of ours" in run.story.notes[0]


def walks_over(monkeypatch: pytest.MonkeyPatch, factors: dict[int, int | None]) -> int:
    """How often all modules are listed in a pass; the numbers say by how much hooks multiply."""
    model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(20)])
    for number, by in factors.items():
        answer = (lambda grad, by=by: (grad * by,)) if by else lambda grad: None
        model[number].register_full_backward_hook(lambda m, g, _, answer=answer: answer(g[0]))
    walk, calls = nn.Module.named_modules, []

    def counted(module: nn.Module, *args: Any, **more: Any) -> Any:
        calls.append(module is model)  # a list of modules would be searched for names
        return walk(module, *args, **more)

    with gradviz.record(model) as run, monkeypatch.context() as patch:
        loss = model(leaf()[None]).sum()
        patch.setattr(nn.Module, "named_modules", counted)
        loss.backward()
    assert [name for name, _ in told(run)] == [str(n) for n in sorted(factors)[::-1] if factors[n]]
    return sum(calls)


def test_the_paths_of_modules_are_looked_up_once_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    none = walks_over(monkeypatch, {})
    assert walks_over(monkeypatch, dict.fromkeys(range(1, 20))) == none
    assert walks_over(monkeypatch, dict.fromkeys(range(1, 20), 2)) == none + 1


def _stepping(update: Callable[[Any], None]) -> gradviz.Explanations:
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    with gradviz.record(net) as run:
        for _ in range(2):
            net(torch.ones(2, 3)).square().sum().backward()
    return gradviz.explain(run)


def test_an_optimizer_that_steps_in_a_hook_and_clears_is_fine() -> None:
    made: dict[Any, Any] = {}

    def step(parameter: Any, to_none: bool) -> None:
        optimizer = made.setdefault(parameter, torch.optim.SGD([parameter], 0.01))
        optimizer.step()
        optimizer.zero_grad(set_to_none=to_none)

    def by_hand(parameter: Any) -> None:
        with torch.no_grad():
            parameter.sub_(0.01 * parameter.grad)
        parameter.grad = None

    updates = [lambda each: step(each, True), lambda each: step(each, False), by_hand]
    for update in updates:
        assert {each.verdict for each in _stepping(update)} == {gradviz.Verdict.FINE}


def test_a_hook_that_only_clears_the_gradient_is_named() -> None:
    def clear(parameter: Any) -> None:
        parameter.grad = None

    told = _stepping(clear)
    assert {each.verdict for each in told} == {gradviz.Verdict.CLEARED}
    assert "in a hook at" in told[0].reason


def test_gradients_that_a_step_in_a_hook_does_not_clear_are_accumulated() -> None:
    made: dict[Any, Any] = {}

    def step(parameter: Any) -> None:
        made.setdefault(parameter, torch.optim.SGD([parameter], 0.01)).step()

    assert {each.verdict for each in _stepping(step)} == {gradviz.Verdict.ACCUMULATED}
