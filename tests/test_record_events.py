"""What a recording sees, and on which line: every kind of event."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys

import pytest
import torch
from recording import cuts, events, find, strict
from torch import nn

import gradviz
from gradviz.errors import UsageError
from gradviz.recording.source_lines import _is_users
from gradviz.story import EventKind

__all__ = ["strict"]


def here() -> str:
    """The source of the line that calls this, as a recording writes it."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return f"tests/test_record_events.py:{frame.f_back.f_lineno}"


@pytest.fixture(autouse=True)
def in_the_repository(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(request.config.rootpath)


def words(run: gradviz.Recording) -> list[str]:
    return [event.word for event in run.events]


def test_operations_have_their_line_and_the_variable_they_went_to() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        y, line = (x * 2).exp(), here()
        a, b = x + 1, y.sum()
    mul, exp, add, total = run.events[1:]
    assert (mul.word, mul.source, mul.name) == ("mul", line, "")
    assert (exp.word, exp.source, exp.name) == ("exp", line, "y")
    assert (add.word, add.name, total.word, total.name) == ("add", "a", "sum", "b")
    assert [event.number for event in run.events] == [0, 1, 2, 3, 4]
    assert a.shape and b.ndim == 0


def test_the_node_of_an_operation_is_in_the_frame() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        loss = (x * 3).sum()
        loss.backward()
    graph = run.frames[0].graph
    by_word = {event.word: event for event in run.events}
    assert graph.nodes[by_word["mul"].node]["op"] == "mul"
    assert graph.nodes[by_word["sum"].node]["source"] == by_word["sum"].source
    assert graph.nodes[by_word["ones"].node]["name"] == "x"


def test_a_variable_gets_the_last_of_the_operations_of_a_module() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with gradviz.record() as run:
        y = model(torch.ones(1, 2))
    assert [(e.word, e.name) for e in run.events[1:]] == [("linear", ""), ("relu", "y")]
    assert y.grad_fn is not None


def test_attributes_and_augmented_assignments_are_names_too() -> None:
    class Holder:
        h: torch.Tensor

    holder = Holder()
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        holder.h = x * 2
        y = x + 1
        y += x
    assert [e.name for e in run.events[1:]] == ["holder.h", "y", "y"]


def test_gradient_mode() -> None:
    @torch.no_grad()  # type: ignore[untyped-decorator]
    def frozen(t: torch.Tensor) -> torch.Tensor:
        return t * 2

    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        with torch.no_grad():
            x + 1
        torch.set_grad_enabled(False)
        torch.set_grad_enabled(True)
        frozen(x)
        with torch.inference_mode():
            x + 2
    found = [(e.word, e.detail) for e in events(run, EventKind.MODE)]
    off, on = "gradients off", "gradients on"
    assert found == [
        ("no_grad", off),
        ("no_grad", on),
        ("set_grad_enabled", off),
        ("set_grad_enabled", on),
        ("no_grad", off),
        ("no_grad", on),
        ("inference_mode", off),
        ("inference_mode", on),
    ]


def test_inference_mode_is_told_where_it_is_entered_and_left() -> None:
    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def frozen(t: torch.Tensor) -> torch.Tensor:
        return t * 2

    enter = torch.inference_mode.__enter__
    with gradviz.record(nn.Linear(2, 2)) as run:
        x = torch.ones(2, requires_grad=True)
        with torch.inference_mode():
            first = here()
            with torch.inference_mode():
                x + 1
        with torch.inference_mode(False):
            x + 2
        frozen(x)
        with torch.no_grad(), torch.inference_mode():
            pass
    file, _, line = first.rpartition(":")
    found = [e for e in events(run, EventKind.MODE) if e.word == "inference_mode"]
    off, on = "gradients off", "gradients on"
    assert [e.detail for e in found] == [off, on, off, on, off, off]
    assert [e.source for e in found[:2]] == [f"{file}:{int(line) - 1}"] * 2
    assert torch.inference_mode.__enter__ is enter


def test_torch_switching_gradient_mode_for_itself_is_no_event() -> None:
    w = nn.Parameter(torch.ones(2))
    with gradviz.record() as run:
        (w * 2).sum().backward()
        nn.utils.clip_grad_norm_([w], 1.0)
        nn.init.zeros_(torch.empty(2))
    assert not events(run, EventKind.MODE)


def test_requires_grad() -> None:
    model = nn.Linear(2, 2)
    with gradviz.record() as run:
        x = torch.ones(2)
        x.requires_grad_()
        x.requires_grad = False
        x.requires_grad_(False)
        model.requires_grad_(False)
    found = [(e.name, e.detail) for e in events(run, EventKind.REQUIRES_GRAD)]
    assert found == [("x", "on"), ("x", "off"), ("model", "off, 2 tensors")]


@pytest.mark.parametrize(
    ("leave", "word"),
    [
        (lambda t: t.detach(), "detach"),
        (lambda t: t.data, "data"),
        (lambda t: t.sum().item(), "item"),
        (lambda t: t.tolist(), "tolist"),
        (lambda t: float(t.sum()), "float"),
        (lambda t: int(t.sum()), "int"),
        (lambda t: t.detach().numpy(), "numpy"),
        (lambda t: t.detach().__array__(), "numpy"),
        (lambda t: torch.tensor(t), "tensor"),
        (lambda t: t.detach_(), "detach_"),
    ],
)
@pytest.mark.filterwarnings("ignore:To copy construct", "ignore:Converting a tensor with requires")
def test_ways_out_of_the_graph(leave: object, word: str) -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True) * 1
        result = leave(x)  # type: ignore[operator]
    assert events(run, EventKind.CUT)[-1].word == word
    assert result is not None


def test_plain_data_is_no_way_out() -> None:
    with gradviz.record() as run:
        data = torch.ones(3)
        data.sum().item(), data.numpy(), data.tolist(), data.detach()
    assert not events(run)


def test_changes_in_place_tell_their_versions() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        y.add_(1)
        y[0] = 0.0
        z = torch.zeros(2)
        z += 1
        torch.add(z, 1, out=z)
        h = nn.functional.relu(y * 1, inplace=True)
        with torch.no_grad():
            x.mul_(2)
    found = [(e.word, e.name, e.detail) for e in events(run, EventKind.IN_PLACE)]
    assert found == [
        ("add_", "y", "version 0 → 1"),
        ("setitem_", "y", "version 1 → 2"),
        ("add_", "z", "version 0 → 1"),
        ("add out=", "", "version 1 → 2"),
        ("relu_", "h", "version 0 → 1"),
        ("mul_", "x", "version 0 → 1"),
    ]
    assert h.grad_fn is not None


def test_an_operation_in_place_has_its_underscore_in_the_graph() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        y.add_(1)
        y.sum().backward()
    assert {"add_", "mul"} <= {data.get("op") for _, data in run.frames[0].graph.nodes(data=True)}


def test_backward_tells_how_it_was_called() -> None:
    x = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        y = x * 3
        y.backward(torch.ones(2), retain_graph=True)
        y.sum().backward(inputs=[x])
        loss = (x**2).sum()
        torch.autograd.backward(loss)
        torch.autograd.grad((x**2).sum(), x, create_graph=True)
    found = [(e.word, e.name, e.detail) for e in events(run, EventKind.BACKWARD)]
    assert found == [
        ("backward", "y", "gradient given, retain_graph"),
        ("backward", "", "inputs: 1"),
        ("backward", "loss", ""),
        ("grad", "", "create_graph"),
    ]


def test_hooks_are_registered_and_exceptions_end_it() -> None:
    with pytest.raises(KeyError, match="gone"), gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        x.register_hook(lambda grad: grad)
        line = here()
        raise KeyError("gone")
    hook, error = events(run)
    assert (hook.kind, hook.name, hook.detail) == (EventKind.HOOK, "x", "registered")
    file, _, number = line.rpartition(":")
    assert (error.word, error.source) == ("KeyError", f"{file}:{int(number) + 1}")
    assert run.frames[-1].title == "KeyError"


def test_marks() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        run.mark("here")
        assert run.frames[-1].title == "mark: here"
        assert find(run.frames[-1].graph, "y")["kind"] == "result"
        z = y + 1
    assert [e.name for e in events(run, EventKind.MARK)] == ["here"]
    assert [frame.title for frame in run.frames] == ["mark: here", "end"]
    assert find(run.frames[-1].graph, "z")["shape"] == tuple(z.shape)


def test_events_can_be_read_while_it_runs() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        assert words(run) == ["ones"]
        x.sum().backward()
        assert words(run) == ["ones", "sum", "backward", "accumulate_grad"]
        assert [frame.title for frame in run.frames] == ["forward", "after backward 1 (x.grad +1)"]


def test_too_many_events_leave_a_gap_in_the_middle() -> None:
    with gradviz.record(max_events=10) as run:
        x = torch.ones(2, requires_grad=True)
        for _ in range(50):
            x = x * 2
    assert [event.number for event in run.events] == [0, 1, 2, 3, 4, 46, 47, 48, 49, 50]
    assert "41 events in the middle are left out" in run.story.notes


def test_a_recording_is_used_once() -> None:
    run = gradviz.record()
    with pytest.raises(UsageError, match="outside of the recording"):
        run.mark("too early")
    with run, pytest.raises(UsageError, match="already open"), run:
        pass
    with pytest.raises(UsageError, match=r"already closed: call gradviz.record\(\)"), run:
        pass
    with pytest.raises(UsageError, match="outside"):
        run.mark("too late")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3,), {}, "record takes torch.nn.Module objects or nothing, got 3"),
        ((), {"max_frames": 0}, "max_frames must be an integer >= 1, got 0"),
        ((), {"max_events": -1}, "max_events must be an integer >= 0, got -1"),
        ((), {"max_frames": "many"}, "max_frames must be an integer >= 1, got 'many'"),
    ],
)
def test_wrong_arguments(arguments: tuple, options: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UsageError, match=re.escape(message)):
        gradviz.record(*arguments, **options)


def test_nothing_happened() -> None:
    with gradviz.record() as run:
        pass
    assert not run.events
    assert [frame.title for frame in run.frames] == ["end"]
    assert len(run.frames[0].graph) == 0
    assert repr(run) == "Recording(closed, 0 events, 1 frames)"


def test_repeated_calls_are_events_of_their_own() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        plain, total = torch.zeros(2), (x * 2).sum()
        for _ in range(4):
            total.detach()
        numbers = [total.item() for _ in range(4)]
        for _ in range(4):
            plain.add_(1)
        kept = [x.detach() for _ in range(3)]
        torch.detach(input=x)
    assert [words(run).count(word) for word in ("detach", "item", "add_")] == [8, 4, 4]
    changes = [event.details for event in run.events if event.word == "add_"]
    assert [(each.before, each.after) for each in changes] == [(0, 1), (1, 2), (2, 3), (3, 4)]  # type: ignore[union-attr]
    assert [event.number for event in run.events] == list(range(len(run.events)))
    assert numbers == [4.0] * 4
    assert len({run.key_of(each) for each in kept}) == 3


def test_the_result_of_a_repeated_call_is_known_when_it_is_used() -> None:
    with gradviz.record() as run:
        x, w = (torch.ones(2, requires_grad=True) for _ in range(2))
        y = x * 2
        total = y.sum()
        for _ in range(4):
            data = y.detach()
        for _ in range(4):
            number = total.item()
        scale = torch.tensor([number, number])
        loss = (data * w * scale).sum()
        loss.backward()
    expected = {
        ("y", "data", "detach"),
        ("data", "mul", "detach"),
        ("total", "number", "item"),
        ("number", "scale", "item"),
        ("scale", "mul", "item"),
    }
    assert cuts(run.frames[-1].graph) == expected


@pytest.mark.process
def test_without_columns_a_name_is_that_of_the_variable_that_is_stored() -> None:
    """As with Python 3.10, whose code objects have no columns."""
    program = """
import torch, gradviz
w = torch.ones(3, requires_grad=True)
def train():
    with gradviz.record() as run:
        loss = w.exp().sum(); twice = loss * 2
        for each in (w.sin(),):
            w.cos()
    return run
print([(event.word, event.name) for event in train().events])
"""
    command = [sys.executable, "-X", "no_debug_ranges", "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    names = [("exp", ""), ("sum", "loss"), ("mul", "twice"), ("sin", ""), ("cos", "")]
    assert ast.literal_eval(done.stdout) == names


def test_code_without_a_file_has_the_line_that_ran_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the methods that ``dataclasses`` generates, in a library that calls them."""
    monkeypatch.setattr(sys, "argv", ["train.py"])  # workers of pytest run by ``python -c``
    _is_users.cache_clear()
    loss = torch.ones(3, requires_grad=True).sum()
    with gradviz.record() as run:
        exec("cut = loss.detach()", {"loss": loss})
        after = here()
    (source,) = (event.source for event in run.events if event.word == "detach")
    assert int(source.rpartition(":")[2]) == int(after.rpartition(":")[2]) - 1
