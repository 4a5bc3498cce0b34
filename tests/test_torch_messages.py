"""PyTorch's exception texts: each pattern is provoked with the real torch, and parsed."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import torch
import torch_errors_more  # noqa: F401  (registers its programs)
from torch_errors import PROVOKED, Provoked

import gradviz
from gradviz import Explanation, Verdict
from gradviz.diagnosis.plain_errors import OUTSIDE
from gradviz.torch_messages import MessageKind, TorchMessage, read_message

pytestmark = pytest.mark.filterwarnings("ignore")
CASES = [
    pytest.param(kind, each, id=f"{kind.name.lower()}-{number}")
    for kind in MessageKind
    for number, each in enumerate(PROVOKED.get(kind, ()))
]


@pytest.mark.parametrize(("kind", "provoked"), CASES)
def test_a_text_is_provoked_and_parsed(kind: MessageKind, provoked: Provoked) -> None:
    program, expected = provoked
    with pytest.raises(Exception) as caught:
        program()
    assert read_message(str(caught.value)) == TorchMessage(kind, **expected)


@pytest.mark.parametrize(("kind", "provoked"), CASES)
def test_a_text_is_explained(kind: MessageKind, provoked: Provoked) -> None:
    caught: Exception | None = None
    try:
        provoked[0]()
    except Exception as error:
        caught = error
    told = gradviz.explain(caught)
    assert isinstance(told, Explanation)
    assert told.name == type(caught).__name__
    assert told.verdict.is_error
    # Of another None than a gradient nothing more is known; hooks of saved tensors are our own.
    if not kind.name.startswith(("NONE_", "HOOKS_ON_")):
        assert told.fix
        assert told.verdict is not Verdict.OTHER_ERROR or kind in OUTSIDE


def test_every_pattern_has_a_program_that_provokes_it() -> None:
    assert set(PROVOKED) == set(MessageKind)


def test_every_pattern_names_the_versions_that_it_was_seen_in() -> None:
    here = ".".join(torch.__version__.split(".")[:2])
    for kind in MessageKind:
        assert here in kind.value.seen
        assert all(re.fullmatch(r"\d+\.\d+", version) for version in kind.value.seen)


def test_every_group_is_a_field() -> None:
    known = {field.name for field in fields(TorchMessage)}
    for kind in MessageKind:
        assert set(kind.value.pattern.groupindex) <= known


@pytest.mark.parametrize(
    "text",
    ["", "The size of tensor a (3) must match the size of tensor b (4)", "No such file: 'x'", "🦆"],
)
def test_other_texts_are_none_of_them(text: str) -> None:
    assert read_message(text) is None


def test_a_name_with_spaces_quotes_and_emoji_is_read_whole() -> None:
    found = read_message("hook 'my 'own' hook 🦆' has changed the size of value")
    assert found is not None
    assert found.name == "my 'own' hook 🦆"
