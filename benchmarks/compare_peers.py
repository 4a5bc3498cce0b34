"""What gradviz and four other tools show, change, and take, on the same programs.

Run ``python benchmarks/compare_peers.py`` where torchviz, torchview, torchlens and torchvista are
installed beside torch (a virtual environment of their own is best); it prints the table of
docs/comparison.md as Markdown. Every cell is measured in a process of its own, with 60 s to do it.
Tools that are not installed are left out. ``--sheets FOLDER`` writes the pictures of six programs
by each tool instead, and a page that shows them beside each other.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from plain_models import GPT, ResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LIMIT = 60
TOOLS = ("gradviz", "torchviz", "torchview", "torchlens", "torchvista")
WAYS = ("tracked", "detach", "no_grad", "inference_mode", "frozen")


class Way(nn.Module):
    """One line, tracked or not."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.weight = way, nn.Parameter(torch.ones(3))
        if way == "frozen":
            self.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Any:
        if self.way == "detach":
            return (self.weight.detach() * x).sum()
        modes: dict[str, Any] = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
        with modes.get(self.way, contextlib.nullcontext)():
            return (self.weight * x).sum()


class Rnn(nn.Module):
    """An ``LSTMCell`` of many steps, as it is unrolled."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.cell, self.steps = nn.LSTMCell(4, 4), steps

    def forward(self, x: Tensor) -> Any:
        state = None
        for _ in range(self.steps):
            state = self.cell(x, state)
        assert state
        return state[0].sum()


class Chain(nn.Module):
    """One operation after the other."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.weight, self.length = nn.Parameter(torch.ones(1)), length

    def forward(self, x: Tensor) -> Any:
        x = x * self.weight
        for _ in range(self.length):
            x = x + 1
        return x.sum()


class Checkpointed(nn.Module):
    """A layer that is run again in backward, and counts its runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.runs = nn.Linear(3, 3), 0

    def inner(self, x: Tensor) -> Any:
        self.runs += 1
        return self.layer(x).exp()

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=False).sum()


def draw(
    tool: str, model: nn.Module, x: Tensor, result: Tensor | None = None, **options: Any
) -> Any:
    """A picture by a tool, as bytes: of ``result``, or by a run of the model."""
    module: Any = importlib.import_module(tool)
    if tool in ("gradviz", "torchviz"):
        out = model(x) if result is None else result
        if tool == "gradviz":
            return module.draw(out, names=model).render("svg")
        return module.make_dot(out, dict(model.named_parameters()), **options).pipe("svg")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "picture")
        if tool == "torchview":
            return module.draw_graph(model, input_data=x, device="cpu").visual_graph.pipe("svg")
        if tool == "torchlens":
            seen = module.trace(model, x)
            seen.draw(vis_outpath=path, vis_fileformat="svg", vis_save_only=True)
            return Path(path + ".svg").read_bytes()
        module.trace_model(model, x, export_format="html", export_path=path + ".html")
        return Path(path + ".html").read_bytes()


def without_ids(picture: bytes) -> str:
    """The picture without what differs from run to run: ids and times."""
    return re.sub(
        r"[0-9a-f]{8}(_?-?[0-9a-f]{4}){3}_?-?[0-9a-f]{12}|[\d.]+ ?(ms|µs|us|s)\b|\d{6,}",
        "#",
        picture.decode(),
    )


def ways(tool: str) -> str:
    x = torch.ones(3)
    twice = [without_ids(draw(tool, Way("tracked"), x)) for _ in range(2)]
    assert twice[0] == twice[1], "the same program gives different pictures"
    if tool != "gradviz":
        return f"{len({without_ids(draw(tool, Way(way), x)) for way in WAYS})} of 5"
    gradviz: Any = importlib.import_module("gradviz")
    told: Any = {"alone": set(), "recorded": set()}
    for way in WAYS:
        model = Way(way)
        with gradviz.record(model) as run:
            out = model(x)
        told["alone"].add(gradviz.draw(out, names=model).text)
        told["recorded"].add(gradviz.draw(run).text)
    return f"{len(told['recorded'])} of 5 recorded, {len(told['alone'])} from the graph alone"


def backward(tool: str, before: int, after: int) -> str:
    """Whether the picture changes with backward passes."""
    pictures = []
    for passes in (before, after):
        model, x = Way("tracked"), torch.ones(3)
        result = model(x).exp()
        for number in range(passes):
            result.backward(retain_graph=number < after - 1)
        pictures.append(without_ids(draw(tool, model, x, result)))
    return "yes" if pictures[0] != pictures[1] else "no"


def freed(tool: str) -> str:
    return backward(tool, 0, 1)


def accumulated(tool: str) -> str:
    return backward(tool, 1, 2)


def batch_norm(tool: str) -> str:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    x = torch.randn(4, 2)
    result = model(x).sum()
    counts: Any = model[1].num_batches_tracked
    before = int(counts)
    draw(tool, model, x, result)
    return "unchanged" if int(counts) == before else "updated"


def forwards(tool: str) -> str:
    model, x = Checkpointed(), torch.ones(2, 3, requires_grad=True)
    result = model(x)
    before = model.runs
    draw(tool, model, x, result)
    runs = str(model.runs - before)
    if tool != "torchviz":
        return runs
    before = model.runs
    draw(tool, model, x, result, show_saved=True)
    return f"{runs}, with show_saved {model.runs - before}"


def seconds(tool: str, model: nn.Module, x: Tensor) -> str:
    draw(tool, Way("tracked"), torch.ones(3))  # imports, fonts
    result = model(x) if tool in ("gradviz", "torchviz") else None
    start = time.perf_counter()
    draw(tool, model, x, result)
    return f"{time.perf_counter() - start:.2f} s"


def gpt(tool: str) -> str:
    return seconds(tool, GPT().eval(), torch.arange(32).view(2, 16))


def rnn(tool: str) -> str:
    return seconds(tool, Rnn(100), torch.ones(1, 4))


def chain(tool: str) -> str:
    return seconds(tool, Chain(1000), torch.ones(1))


QUESTIONS: dict[str, Callable[[str], str]] = {
    "five ways to stop tracking: different pictures": ways,
    "the picture changes when backward has freed the saved tensors": freed,
    "the picture changes when a second backward adds to `.grad`": accumulated,
    "running statistics of a BatchNorm in training mode": batch_norm,
    "runs of a checkpointed layer while drawing": forwards,
    "GPT of 12 layers, to a file": gpt,
    "LSTMCell of 100 steps, to a file": rnn,
    "chain of 1,000 operations, to a file": chain,
}


PROGRAMS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "detach": lambda: (Way("detach"), torch.ones(3)),
    "two layers": lambda: (
        nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)),
        torch.ones(4, 2),
    ),
    "checkpoint": lambda: (Checkpointed(), torch.ones(2, 3, requires_grad=True)),
    "LSTMCell of 10 steps": lambda: (Rnn(10), torch.ones(1, 4)),
    "ResNet-50": lambda: (ResNet().eval(), torch.randn(1, 3, 64, 64)),
    "GPT of 12 layers": lambda: (GPT().eval(), torch.arange(32).view(2, 16)),
}


def picture(tool: str, program: str, path: str) -> None:
    """Draw one of the programs into a file."""
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):
        drawn = draw(tool, *PROGRAMS[program]())
    Path(path).write_bytes(drawn)
    print(json.dumps(""))


def sheets(folder: Path, tools: Sequence[str]) -> None:
    """Write the pictures, and a page with a row for each program and a column for each tool."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, program in enumerate(PROGRAMS):
        cells = []
        for tool in tools:
            name = f"{number}-{tool}.{'html' if tool == 'torchvista' else 'svg'}"
            failure = ask(tool, program, str(folder / name))
            shown = f'<img src="{name}">' if name.endswith("svg") else f'<a href="{name}">page</a>'
            cells.append(f"<td>{tool}<br>{failure or shown}</td>")
        rows.append(f"<tr><th>{program}</th>{''.join(cells)}</tr>")
    style = "td { vertical-align: top; width: 19% } img { max-width: 100%; max-height: 900px }"
    text = (
        f"<!doctype html><meta charset=utf-8><style>{style}</style><table>{''.join(rows)}</table>"
    )
    (folder / "peers.html").write_text(text, encoding="utf-8")
    print(f"wrote {folder}/peers.html")


def ask(tool: str, *question: str) -> str:
    """One cell, in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, __file__, tool, *question],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        start_new_session=True,  # so that dot ends with it
    )
    try:
        said, errors = child.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return f"over {LIMIT} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.returncode:
        last = (errors.strip().splitlines() or ["killed"])[-1]
        return f"fails: {last.partition(':')[0].rpartition('.')[2]}"
    return str(json.loads(said.splitlines()[-1]))


def answer(tool: str, question: str) -> None:
    """Print one cell as JSON."""
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):
        said = QUESTIONS[question](tool)
    print(json.dumps(said))


def main() -> None:
    """Print the table."""
    is_sheet = sys.argv[1:2] == ["--sheets"]
    if len(sys.argv) == 4:
        picture(*sys.argv[1:])
        return
    if len(sys.argv) == 3 and not is_sheet:
        answer(*sys.argv[1:])
        return
    versions = {}
    for tool in TOOLS:
        with contextlib.suppress(ImportError, importlib.metadata.PackageNotFoundError):
            module: Any = importlib.import_module(tool)
            versions[tool] = (
                importlib.metadata.version(tool) if tool != "gradviz" else (module.__version__)
            )
    if is_sheet:
        sheets(Path(sys.argv[2]), list(versions))
        return
    print("| |", " | ".join(f"{tool} {version}" for tool, version in versions.items()), "|")
    print("|---" * (len(versions) + 1) + "|")
    for question in QUESTIONS:
        print(
            f"| {question} |", " | ".join(ask(tool, question) for tool in versions), "|", flush=True
        )


if __name__ == "__main__":
    main()
