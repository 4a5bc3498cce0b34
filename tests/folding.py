"""Graphs to fold: random ones with names and modules, loops, stacked layers."""

from __future__ import annotations

import torch
from graphs import graphs
from hypothesis import strategies as st
from torch import nn

from gradviz.graph import EdgeKind, GradGraph, NodeKind

_MODULES = ("", "a", "a.0", "a.1", "a.1.fc", "b", "b.10")


@st.composite
def folded_graphs(draw: st.DrawFn, most_nodes: int = 24) -> GradGraph:
    """A random graph, with modules, sizes and order numbers on some of its nodes."""
    graph = draw(graphs(most_nodes))
    numbered = draw(st.booleans())
    for number, (key, data) in enumerate(list(graph.nodes(data=True))):
        if data["kind"] is NodeKind.OPERATION:
            if numbered:
                data["sequence_nr"] = number
            if module := draw(st.sampled_from(_MODULES)):
                data["module"] = module
            if data["op"] in ("mul", "exp"):
                data["saved_bytes"] = draw(st.integers(0, 3))
        elif data["kind"] is NodeKind.PARAMETER and draw(st.booleans()):
            data["name"] = f"{draw(st.sampled_from(_MODULES))}.weight{key}"
    return graph


def loop_graph(steps: int, period: int) -> GradGraph:
    """A chain in which ``period`` different operations come ``steps`` times."""
    graph = GradGraph()
    for number in range(steps * period):
        op = f"op{number % period}"
        graph.add_node(f"n{number}", kind=NodeKind.OPERATION, op=op, sequence_nr=number)
        if number:
            edge = {"kind": EdgeKind.GRADIENT, "input": 0, "output": 0}
            graph.add_edge(f"n{number - 1}", f"n{number}", 0, **edge)
    return graph


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.widen, self.narrow = nn.Linear(16, 8), nn.Linear(8, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.narrow(self.widen(self.norm(x)).relu())
        return x + y


class Stack(nn.Module):
    """Layers one after another, as in a transformer, between an entry and a head."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.entry = nn.Linear(4, 16)
        self.layers = nn.ModuleList(_Layer() for _ in range(layers))
        self.head = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        for layer in self.layers:
            x = layer(x)
        y: torch.Tensor = self.head(x)
        return y


def stack(layers: int) -> tuple[torch.Tensor, Stack]:
    """The loss of such a model, and the model."""
    model = Stack(layers)
    return model(torch.ones(3, 4)).square().mean(), model
