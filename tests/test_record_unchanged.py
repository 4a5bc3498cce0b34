"""A recording changes nothing: the same bits, and nothing lives longer for it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cases import CASES, Case
from hypothesis import given, settings
from recording import strict
from test_record_random import STEPS, Made, Program, run_step
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import gradviz
from gradviz.recording.intercept.calls import Handlers
from gradviz.recording.state import RecordingState

__all__ = ["strict"]


def bits(value: object) -> object:
    """What can be compared bit for bit."""
    if isinstance(value, torch.Tensor):
        if value.is_sparse:
            return bits(value.to_dense())
        raw = value.detach().contiguous()
        raw = torch.view_as_real(raw) if raw.is_complex() else raw
        return tuple(raw.shape), str(raw.dtype), raw.double().numpy().tobytes()
    return value


def facts(subjects: tuple[torch.Tensor, ...], named: Iterator[torch.Tensor]) -> list[object]:
    found: list[object] = []
    for tensor in (*subjects, *named):
        gradient = tensor.grad if tensor.is_leaf or tensor.retains_grad else None
        version = 0 if tensor.is_inference() else tensor._version
        found.append((bits(tensor), bits(gradient), tensor.requires_grad, version))
    return [*found, bits(torch.get_rng_state())]


def outcome(case: Case) -> list[object]:
    torch.manual_seed(7)
    program = case.build()
    names = program.names
    named = names.parameters() if isinstance(names, nn.Module) else iter(names.values())
    return facts(program.subjects, named)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_programs_of_the_table_give_the_same_bits(case: Case) -> None:
    bare = outcome(case)
    with gradviz.record() as run:
        recorded = outcome(case)
    assert recorded == bare
    assert run.frames and not run._state.notes


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_random_programs_give_the_same_bits(steps: list[tuple[str, int, int]]) -> None:
    def outcome() -> list[object]:
        program = Program()
        program.variables.append(Made(torch.ones(2, requires_grad=True), None))
        for step in steps:
            run_step(program, step)
        tracked = [each.tensor for each in program.variables if each.cause is None]
        torch.stack(tracked).sum().backward()
        return facts((), (each.tensor for each in program.variables))

    bare = outcome()
    with gradviz.record():
        recorded = outcome()
    assert recorded == bare


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_training_gives_the_same_bits(kind: type) -> None:
    def train() -> list[object]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.BatchNorm1d(8), nn.Linear(8, 1))
        optimizer = kind(model.parameters(), lr=0.1)
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = model(torch.randn(16, 4)).pow(2).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
        return [losses, *facts((), model.parameters())]

    bare = train()
    with gradviz.record():
        recorded = train()
    assert recorded == bare


def test_no_tensor_lives_longer() -> None:
    freed: list[str] = []

    def watch(name: str, tensor: torch.Tensor) -> None:
        weakref.finalize(tensor, freed.append, name)

    w = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        gc.disable()
        try:
            h = w.exp()
            z = h.detach()
            with torch.no_grad():
                g = w + 1
            loss = (h * z).sum()
            for name, tensor in (("h", h), ("z", z), ("g", g), ("loss", loss)):
                watch(name, tensor)
            loss.backward()
            watch("grad", w.grad)  # type: ignore[arg-type]
            run.mark("now")
            del tensor
            del g
            assert freed == ["g"]
            del loss
            assert freed == ["g", "loss"]
            del h, z
            assert set(freed) == {"g", "loss", "h", "z"}
            w.grad = None
            assert freed[-1] == "grad"
        finally:
            gc.enable()
    assert run.frames


def test_a_graph_is_freed_when_its_root_is() -> None:
    """The memory that an operation saved goes with the graph, not with the recording."""
    saved = torch.ones(2)
    storage = saved.untyped_storage()
    reference = weakref.ref(storage)
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        loss = (x * saved).sum()
        loss.backward(retain_graph=True)
        del saved, storage
        gc.collect()
        del loss
        gc.collect()
        dead = [data.ref() is None for data in run._state.provenance.tensors.values()]
        assert run.frames
    del reference
    assert not all(dead)  # x is alive
    assert len(dead) == 1


def test_frames_that_are_dropped_leave_nothing_to_the_garbage_collector() -> None:
    """Else thousands of dictionaries wait for it, and the process grows for hundreds of steps."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record(max_frames=2) as run:
        for number in range(6):
            optimizer.zero_grad()
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            if number == 3:
                gc.collect()
                gc.disable()
        found = gc.collect()
        gc.enable()
    assert found == 0 and run.frames


def test_a_deep_graph_dies_in_peace() -> None:
    program = """
import torch, gradviz
with gradviz.record() as run:
    x = torch.ones(1, requires_grad=True)
    y = x
    for step in range(120_000):
        y = y * 1.0
        if step % 100 == 0:
            y.detach()
    y.sum().backward()
    del y
print(len(run.frames[0].graph))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 120_000


def test_everything_is_put_back() -> None:
    before = torch.autograd._engine_run_backward  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError), gradviz.record():
        assert torch.autograd._engine_run_backward is not before  # type: ignore[attr-defined]
        1 / 0  # noqa: B018
    assert torch.autograd._engine_run_backward is before  # type: ignore[attr-defined]
    assert not torch.overrides._get_current_function_mode_stack()
    assert not _global_optimizer_pre_hooks and not _global_optimizer_post_hooks


def test_recordings_nest() -> None:
    x = torch.ones(2, requires_grad=True)
    with gradviz.record() as outer:
        y = x * 2
        with gradviz.record() as inner:
            (y * 3).sum().backward()
        (x * 5).sum().backward()
    assert [event.word for event in inner.events] == ["mul", "sum", "backward", "accumulate_grad"]
    assert [event.word for event in outer.events] == [
        "mul",
        "mul",
        "sum",
        "backward",
        "accumulate_grad",
        "mul",
        "sum",
        "backward",
        "accumulate_grad",
    ]
    assert inner.events[0].source == outer.events[1].source
    assert len(outer.frames) == 4 and len(inner.frames) == 2


def test_only_the_thread_that_enters_is_recorded() -> None:
    def work() -> None:
        (torch.ones(2, requires_grad=True) * 2).sum().backward()

    def work_recorded() -> None:
        with gradviz.record() as run:
            work()
        runs.append(run)

    runs: list[gradviz.Recording] = []
    with gradviz.record() as run:
        for target in (work, work_recorded):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert not run.events
    titles = [frame.title for frame in runs[0].frames]
    assert titles == ["forward", "after backward 1 (a leaf's .grad +2)"]


def broken(*_: object) -> None:
    raise ArithmeticError("a mistake of ours")


@pytest.mark.parametrize(
    "place",
    ["add_mixed_inputs", "outside", "input_from", "log", "flush", "location", "add_untracked"],
)
def test_a_mistake_of_ours_never_reaches_the_program(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRADVIZ_DEBUG")
    monkeypatch.setattr(RecordingState, place, broken)
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        z = x.detach()
        with torch.no_grad():
            z.add_(1)
        y = x * z
        y.sum().backward()
        x.grad = None
        x.requires_grad_(False)
        x.register_hook if x.requires_grad else None  # noqa: B018
    assert x.grad is None
    assert isinstance(run.story.notes, tuple)


def test_a_mistake_of_ours_becomes_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADVIZ_DEBUG")
    monkeypatch.setattr(RecordingState, "outside", broken)
    with gradviz.record() as run:
        torch.ones(3)
    assert run.story.notes == (
        "the recording missed something: ArithmeticError: a mistake of ours",
    )


def test_every_function_of_torch_has_one_handler_or_none() -> None:
    handlers = Handlers()
    found: list[Callable[..., object] | None] = [handlers[torch.add], handlers[torch.Tensor.detach]]
    assert found[0] is None and found[1] is not None
    assert len(handlers) == 2


def encoder() -> tuple[nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    padding = torch.tensor([[False, False, True], [False, False, True]])
    return (
        nn.TransformerEncoder(layer, 2),
        (torch.randn(2, 3, 8),),
        {"src_key_padding_mask": padding},
    )


def encoder_layer() -> tuple[nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (torch.randn(2, 3, 8),), {}


def attention() -> tuple[nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    return nn.MultiheadAttention(8, 2, batch_first=True), (torch.randn(2, 3, 8),) * 3, {}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("build", [encoder, encoder_layer, attention])
def test_transformers_in_evaluation_keep_to_their_fast_path(build: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    module, given, named = build()
    module.eval()
    asks = torch.overrides.has_torch_function

    def run() -> object:
        with torch.no_grad():
            out = module(*given, **named)
        return bits(out[0] if isinstance(out, tuple) else out)

    bare = run()
    with gradviz.record() as outer:
        once = run()
        with gradviz.record(module):
            twice = run()
    assert bare == once == twice
    words = {event.word for event in outer.events}
    assert words & {"_transformer_encoder_layer_fwd", "_native_multi_head_attention"}
    assert torch.overrides.has_torch_function is asks


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jit_trace_works_in_a_recording() -> None:
    module, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), torch.ones(2, 4)
    bare = torch.jit.trace(module, x)
    with gradviz.record(module):
        recorded = torch.jit.trace(module, x)
    assert bits(bare(x)) == bits(recorded(x))
    kinds = [[node.kind() for node in each.inlined_graph.nodes()] for each in (bare, recorded)]
    assert kinds[0] == kinds[1]


class Looks(torch.overrides.TorchFunctionMode):
    """A mode of the user's own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_a_mode_of_the_users_counts_as_without_a_recording() -> None:
    with gradviz.record(), Looks():
        assert torch.overrides.has_torch_function((torch.ones(1),))
    with gradviz.record():
        assert not torch.overrides.has_torch_function((torch.ones(1),))
        assert torch.overrides.has_torch_function((torch.ones(1).as_subclass(Own),))


class Own(torch.Tensor):
    """A subclass with a ``__torch_function__``."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs)


def _modes() -> int:
    return len(torch.overrides._get_current_function_mode_stack())


def _clip(optimizer: Any, *_: object) -> None:
    nn.utils.clip_grad_norm_([each for g in optimizer.param_groups for each in g["params"]], 0.1)


@pytest.mark.parametrize("way", ["plain", "hook", "closure"])
def test_only_a_step_of_torch_alone_runs_without_the_mode(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    module: Any = sys.modules[torch.optim.SGD.__module__]
    original = module._single_tensor_sgd

    def watched(*args: Any, **kwargs: Any) -> None:
        seen.append(_modes())
        original(*args, **kwargs)

    monkeypatch.setattr(module, "_single_tensor_sgd", watched)
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.1, foreach=False)
    if way == "hook":
        optimizer.register_step_pre_hook(_clip)
    with gradviz.record() as run:
        (w * w).sum().backward()
        optimizer.step(*([lambda: 1.0] if way == "closure" else []))
        assert _modes() == 1
    assert seen == [0 if way == "plain" else 1]
    assert _modes() == 0 and not run._state.notes
    clipped = [event for event in run.events if event.word == "clip_grad_norm_"]
    assert bool(clipped) is (way == "hook")


def test_a_step_that_raises_does_not_end_the_recording_of_calls() -> None:
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.1)
    with gradviz.record() as run:
        (w * 2).sum().backward()
        grad, w.data = w.grad, torch.ones(3)
        with pytest.raises(RuntimeError):
            optimizer.step()
        w.data, w.grad = torch.ones(2), grad
        (w * 3).sum().backward()
        assert _modes() == 1
        (w * 4).exp().sum().backward()
        optimizer.step()
        assert _modes() == 1
    assert _modes() == 0
    assert [event.word for event in run.events][-6:-2] == ["mul", "exp", "sum", "backward"]


def test_the_step_of_another_thread_leaves_the_modes_of_both_as_they_are() -> None:
    w = torch.ones(2, requires_grad=True)
    v = torch.ones(2, requires_grad=True)
    one, other = torch.optim.SGD([w], 0.1), torch.optim.SGD([v], 0.1)
    seen: list[int] = []

    def elsewhere() -> None:
        v.grad = torch.ones(2)
        other.step()
        seen.append(_modes())

    def step_elsewhere(*_: object) -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    w.register_post_accumulate_grad_hook(step_elsewhere)
    with gradviz.record():
        (w * 2).sum().backward()
        one.step()
        assert _modes() == 1
    assert seen == [0] and _modes() == 0
