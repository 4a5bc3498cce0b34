"""What may be passed to draw, and what is said of everything else."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.autograd.graph import GradientEdge

from gradviz.capture.tensors.names import Subject, flatten, shortly
from gradviz.errors import SubjectError

X = torch.ones(3, requires_grad=True)
Y = X * 2


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Output:
    loss: Any = None
    logits: Any = None


@dataclasses.dataclass
class ModelOutput(collections.OrderedDict):  # type: ignore[type-arg]
    """Shaped like the outputs of Hugging Face models: a dataclass that is also a dict."""

    loss: Any = None
    logits: Any = None

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if (value := getattr(self, item.name)) is not None:
                self[item.name] = value


def paths(*subjects: object) -> list[tuple[object, str]]:
    return [(subject.value, subject.path) for subject in flatten(subjects)]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (X, [(X, "")]),
        ([X, Y], [(X, "[0]"), (Y, "[1]")]),
        ((X, [Y, (X,)]), [(X, "[0]"), (Y, "[1][0]"), (X, "[1][1][0]")]),
        ({"loss": X, "parts": [None, Y]}, [(X, "['loss']"), (Y, "['parts'][1]")]),
        ({3: X}, [(X, "[3]")]),
        (Pair(X, 1.0), [(X, ".first")]),
        (Output(logits=Y), [(Y, ".logits")]),
        (ModelOutput(loss=X, logits=(Y, None, "text")), [(X, ".loss"), (Y, ".logits[0]")]),
        (collections.UserDict(loss=X), [(X, "['loss']")]),
        (torch.max(torch.stack([X, Y]), dim=0), None),
    ],
)
def test_finds_tensors_in_order(subject: Any, expected: Any) -> None:
    if expected is None:
        expected = [(subject.values, ".values"), (subject.indices, ".indices")]
    found = paths(subject)
    assert [path for _, path in found] == [path for _, path in expected]
    assert all(a is b for (a, _), (b, _) in zip(found, expected, strict=True))


def test_several_subjects_are_variables_of_their_own() -> None:
    assert [path for _, path in paths(X, [Y], X)] == ["", "[0]", ""]


def test_a_gradient_edge_is_not_taken_for_a_tuple() -> None:
    edge = torch.autograd.graph.get_gradient_edge(Y)
    assert flatten((edge,))[0].value is edge


def test_what_is_no_tensor_in_a_container_is_passed_over() -> None:
    assert paths({"a": 1, "b": None, "c": "text", "d": np.ones(2), "e": object(), "f": X}) == [
        (X, "['f']")
    ]


def test_a_container_that_holds_itself_ends() -> None:
    loop: list[object] = [X]
    loop.append(loop)
    assert [path for _, path in paths(loop)] == ["[0]"]
    empty: dict[str, object] = {}
    empty["self"] = empty
    with pytest.raises(SubjectError, match="no tensor in"):
        flatten((empty,))


def test_depth_is_no_limit() -> None:
    deep: object = X
    for _ in range(20_000):
        deep = [deep]
    assert flatten((deep,))[0].path == "[0]" * 20_000


def test_width_keeps_the_order() -> None:
    assert [subject.path for subject in flatten(([X] * 300,))] == [f"[{i}]" for i in range(300)]


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def _generator() -> Any:
    yield X


COMPLAINTS = [
    ((), "nothing to draw: pass a tensor"),
    ((None,), "pass the loss; loss.backward() returns None"),
    ((3.5,), "cannot draw 3.5 (float): it has left autograd (was .item() called?)"),
    ((True,), "cannot draw True (bool)"),
    ((1j,), "(complex)"),
    ((np.float64(2),), "it has left autograd"),
    (("loss",), "cannot draw 'loss' (str): pass the tensor itself, not its name"),
    ((np.ones(2),), "cannot draw array([1., 1.]) (ndarray): numpy records no gradients"),
    ((torch.nn.Linear(2, 2),), "a Linear (a module): pass its output: draw(model(x), names=model)"),
    ((X.mean,), "did you forget the call: loss.mean()"),
    ((Y.backward,), "did you forget the call: loss.backward()"),
    ((torch.nn.Linear(2, 2).forward,), "pass what it returns"),
    ((torch.relu,), "pass what it returns"),
    ((torch.Tensor,), "it is a class: pass a tensor"),
    ((_generator(),), "pass list(...) of it"),
    ((iter([X]),), "pass list(...) of it"),
    ((torch.optim.SGD([X]),), "(SGD): pass the loss that it minimizes"),
    ((Y.grad_fn,), "or torch.autograd.graph.GradientEdge(node, 0)"),
    (([],), "no tensor in []"),
    (({"a": 1},), "no tensor in {'a': 1}: pass a tensor"),
    ((Output(),), "no tensor in Output(loss=None, logits=None)"),
    ((X.shape,), "no tensor in"),
    (({X},), "(set): pass a tensor"),
    ((object(),), "(object): pass a tensor"),
    ((BadRepr(),), "(BadRepr): pass a tensor"),
    ((X, None), "cannot draw None"),
    (([X, torch.nn.ReLU()],), "at [1]: cannot draw a ReLU (a module): pass its output"),
    (({"loss": X.mean},), "at ['loss']: cannot draw .mean, a method"),
    (([Y.grad_fn],), "at [0]: cannot draw <MulBackw"),
]


@pytest.mark.parametrize(("subjects", "message"), COMPLAINTS, ids=[m for _, m in COMPLAINTS])
def test_says_what_to_pass_instead(subjects: tuple[object, ...], message: str) -> None:
    with pytest.raises(SubjectError) as error:
        flatten(subjects)
    text = str(error.value)
    assert message in text
    assert "\n" not in text
    assert len(text) < 250


def test_a_subject_error_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        flatten((None,))


def test_subjects_compare_by_identity() -> None:
    assert Subject(X, "") != Subject(X, "")
    assert isinstance(flatten((GradientEdge(Y.grad_fn, 0),))[0].value, GradientEdge)  # type: ignore[arg-type]


def test_shortly_is_one_short_line() -> None:
    assert "\n" not in shortly("a\nb") and "\n" not in shortly(torch.ones(30, 30))
    assert len(shortly("x" * 1000)) < 60
    assert "BadRepr" in shortly(BadRepr())
