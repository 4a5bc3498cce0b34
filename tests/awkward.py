"""The table of awkward subjects: how one is entered, with its expected picture or error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from gradviz import Drawing

__all__ = ["AWKWARD", "Expected", "fails", "leaf_of_ones", "shows"]

AWKWARD: list[Any] = []


@dataclass(frozen=True)
class Expected:
    """What the picture says: the nodes and edges of its graph, and facts about named nodes.

    A fact is an attribute of a node, or of a summary on it: ``"version"``, ``"value.note"``.
    """

    graph: str
    facts: dict[str, dict[str, Any]]


def shows(
    graph: str, **facts: dict[str, Any]
) -> Callable[[Callable[[], Drawing]], Callable[[], Drawing]]:
    """Register a subject with its expected picture; ``facts`` go by the nodes' names."""

    def register(make: Callable[[], Drawing]) -> Callable[[], Drawing]:
        AWKWARD.append(pytest.param(make, Expected(f"GradGraph({graph})", facts), id=make.__name__))
        return make

    return register


def fails(name: str, make: Callable[[], object], message: str) -> None:
    """Register a subject with its expected error."""
    AWKWARD.append(pytest.param(make, message, id=name))


def leaf_of_ones(*shape: int, **options: Any) -> Tensor:
    """A leaf that requires grad."""
    return torch.ones(*shape, requires_grad=True, **options)
