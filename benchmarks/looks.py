"""How large the text of a picture is on a page, and how high the picture: wide and real programs.

Run it as ``python benchmarks/looks.py [NAME ...] [--sizes 3,26,100]``. For each program it draws
the default picture and prints the smallest text when the SVG is shown ``WIDTH`` pixels wide (a
narrower picture is shown as it is), its height then, and the number of boxes. Goal: text of at
least 9 px, at most 2,000 px high.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

import gradviz

WIDTH = 1_400
SMALLEST, HIGHEST = 9.0, 2_000


class Ensemble(nn.Module):
    """Members side by side, whose results are stacked."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)) for _ in range(k)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


class Experts(nn.Module):
    """A gate that weighs experts; their results are added."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.gate = nn.Linear(8, k)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(k))

    def forward(self, x: torch.Tensor) -> Any:
        gate = self.gate(x).softmax(-1)
        return sum(gate[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


class Tables(nn.Module):
    """Embedding tables whose rows are joined."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(10, 4) for _ in range(k))
        self.top = nn.Linear(4 * k, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.top(torch.cat([table(x) for table in self.tables], 1))


class SharedLayer(nn.Module):
    """One layer that is called several times."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.k = k

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.k):
            x = self.layer(x)
        return x


class Steps(nn.Module):
    """A loop over steps whose outputs are stacked."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state: Any = None
        outputs = []
        for step in x:
            state = self.cell(step, state)
            outputs.append(self.head(state[0] if isinstance(state, tuple) else state))
        return torch.stack(outputs)


def frozen_one(k: int) -> nn.Module:
    model = Ensemble(k)
    model.members[k // 2].requires_grad_(False)
    return model


def penalty(k: int) -> Any:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, k, enable_nested_tensor=False)
    loss = model(torch.randn(2, 3, 16)).sum()
    return model, loss + sum(p.pow(2).sum() for p in model.parameters())


def many_leaves(k: int) -> Any:
    leaves = [torch.ones(1, requires_grad=True) for _ in range(k)]
    return {f"w{number}": leaf for number, leaf in enumerate(leaves)}, torch.cat(leaves).sum()


def programs(k: int) -> Iterator[tuple[str, Any, Any]]:
    """Name, model and loss of each program with ``k`` branches or steps."""
    torch.manual_seed(0)
    x = torch.randn(4, 8)
    layer = nn.Linear(4, 4)
    cases: dict[str, tuple[Any, Any]] = {
        "ensemble": (Ensemble(k), x),
        "experts": (Experts(k), x),
        "tables": (Tables(k), torch.zeros(4, dtype=torch.long)),
        "shared_layer": (SharedLayer(k), torch.randn(2, 3, 8)),
        "lstm_steps": (Steps(nn.LSTMCell), torch.randn(k, 2, 4)),
        "gru_steps": (Steps(nn.GRUCell), torch.randn(k, 2, 4)),
        "rnn_steps": (Steps(nn.RNNCell), torch.randn(k, 2, 4)),
        "aliases": (nn.Sequential(*[layer] * k), torch.randn(2, 4)),
        "frozen_one": (frozen_one(k), x),
    }
    for name, (model, given) in cases.items():
        yield name, model, model(given).sum()
    if k <= 12:
        yield "penalty", *penalty(k)
    yield "many_leaves", *many_leaves(k)


def looks(svg: str) -> tuple[float, float, float]:
    """The smallest text, the width and the height of an SVG, shown at most ``WIDTH`` wide."""
    box = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    width, height = float(box[1]), float(box[2])
    size = re.search(r'<svg[^>]* width="([\d.]+)(px|pt)?"', svg)
    shown = min(float(size[1]) * (4 / 3 if size[2] == "pt" else 1) if size else width, WIDTH)
    scale = shown / width
    texts = [float(each) for each in re.findall(r'font-size="([\d.]+)"', svg)]
    return min(texts, default=0.0) * scale, width, height * scale


def main() -> None:
    arguments = sys.argv[1:]
    sizes = [3, 8, 26, 100, 400]
    if "--sizes" in arguments:
        at = arguments.index("--sizes")
        sizes = [int(each) for each in arguments[at + 1].split(",")]
        del arguments[at : at + 2]
    print(f"{'program':14}{'k':>5}{'text px':>9}{'width':>8}{'height':>8}{'boxes':>7}{'s':>7}")
    for k in sizes:
        for name, model, loss in programs(k):
            if arguments and name not in arguments:
                continue
            start = time.perf_counter()
            drawing = gradviz.draw(loss, names=model)
            text, width, height = looks(drawing.svg)
            seen = gradviz.views.apply(gradviz.trace(loss, names=model))
            took = time.perf_counter() - start
            wrong = " <-" if text < SMALLEST or height > HIGHEST else ""
            print(
                f"{name:14}{k:5}{text:9.1f}{width:8,.0f}{height:8,.0f}{len(seen):7}{took:7.1f}"
                f"{wrong}",
                flush=True,
            )


if __name__ == "__main__":
    import gradviz.views

    main()
