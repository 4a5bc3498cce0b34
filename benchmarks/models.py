"""How long it takes to draw real models, and how large the pictures are.

Run ``python benchmarks/models.py``; ``--only NAME`` for some, ``--save FOLDER`` to keep the
pictures (``--as json``: the graphs as they are shown, which the gallery of the site draws),
``--torchviz`` to see torchviz and ``dot`` beside it (60 s each), ``--chain`` for the growth from
1,000 to 1,000,000 operations, and ``--plot FILE`` to draw that. All models have random weights
and are built from their configuration; those of ``transformers`` are left out where it is not
installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plain_models
import torch
from growth import Point, to_svg
from torch import Tensor

import gradviz
from gradviz import views
from gradviz.frontends.drawing import Drawing
from gradviz.renderers.caption import caption

Model = tuple[Tensor, object]
"""The loss, and what to call the tensors."""

LIMIT = 60
WHOLE = (views.hide_bookkeeping, views.clone_shared_leaves)


def transformer(config: str, model: str, *, inputs: str = "input_ids", **sizes: Any) -> Model:
    """A model of ``transformers`` with its default configuration and short sequences."""
    transformers: Any = importlib.import_module("transformers")

    made = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    if inputs == "pixel_values":
        out = made(pixel_values=torch.randn(1, 3, 224, 224))
        return out.logits.logsumexp(-1).mean(), made
    tokens = torch.arange(16).view(1, 16) + 5
    more = {"labels": tokens} if model != "BertForSequenceClassification" else {}
    out = made(input_ids=tokens, **more)
    loss = out.loss if more else out.logits.logsumexp(-1).mean()
    return loss, made


MODELS: dict[str, Callable[[], Model]] = {
    "resnet50": plain_models.resnet50,
    "bert-base": lambda: transformer("BertConfig", "BertForSequenceClassification"),
    "gpt2": lambda: transformer("GPT2Config", "GPT2LMHeadModel"),
    "llama-small": lambda: transformer(
        "LlamaConfig",
        "LlamaForCausalLM",
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=8,
        num_attention_heads=8,
        vocab_size=2000,
    ),
    "t5-small": lambda: transformer(
        "T5Config", "T5ForConditionalGeneration", decoder_start_token_id=0
    ),
    "vit": lambda: transformer("ViTConfig", "ViTForImageClassification", inputs="pixel_values"),
    "lstm-1000": plain_models.lstm,
    "rnn-100": lambda: plain_models.rnn(100),
    "unet": plain_models.unet,
    "mixture": plain_models.mixture,
    "neural-ode": plain_models.neural_ode,
    "maml": plain_models.maml,
    "maml-1": lambda: plain_models.maml(1, inner=0),
    "gpt-plain": plain_models.gpt,
}


def measure(name: str, folder: Path | None, suffix: str) -> str:
    """One row of the table."""
    torch.manual_seed(0)
    try:
        loss, names = MODELS[name]()
        torch.autograd.backward(loss, retain_graph=True)
    except ImportError as error:
        return f"{name:14} left out: {error}"
    torch.autograd.backward(loss, retain_graph=True)
    start = time.perf_counter()
    graph = gradviz.trace(loss, names=names)
    traced = time.perf_counter()
    seen = views.apply(graph)
    viewed = time.perf_counter()
    drawing = Drawing(gradviz.Frame("", seen, caption(graph)), views=())
    svg = drawing.svg
    done = time.perf_counter()
    if folder:
        if suffix == "json":  # as it is drawn, which for a wide graph is folded further
            shown = WHOLE if graph.number_of_nodes() <= 60 else views.DEFAULT
            story, _ = Drawing(gradviz.Frame("", graph, caption(graph)), views=shown)._drawn
            drawing = Drawing(story, views=())
        drawing.save(folder / f"{name}.{suffix}")
    boxes = seen.number_of_nodes()
    times = f"{traced - start:7.2f} {viewed - traced:7.2f} {done - viewed:7.2f} {done - start:7.2f}"
    return f"{name:14} {graph.number_of_nodes():9,} {times} {boxes:7} {len(svg) / 1000:7.0f}"


def torchviz_seconds(name: str) -> str:
    """How long torchviz and ``dot`` take, in a process of their own."""
    if importlib.util.find_spec("torchviz") is None:
        return "not installed"
    code = (
        "import sys, threading, torch, torchviz, models\n"
        "sys.setrecursionlimit(10**7); threading.stack_size(2**29)\n"
        f"loss, _ = models.MODELS[{name!r}]()\n"
        "run = threading.Thread(target=lambda: torchviz.make_dot(loss).pipe('svg'))\n"
        "run.start(); run.join()\n"
    )
    start = time.perf_counter()
    folder = Path(__file__).parent
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that dot ends with it
    )
    try:
        failed = child.wait(LIMIT)
    except subprocess.TimeoutExpired:
        return f"over {LIMIT} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return "failed" if failed else f"{time.perf_counter() - start:.1f} s with import and forward"


def growth(plot: Path | None) -> None:
    """Trace and default views of a chain, per operation; the quickest of a few rounds."""
    head = ("chain", "trace s", "views s", "CPU s", "CPU us/op", "nodes", "peak MB")
    print("".join(f"{word:>11}" for word in head))
    points = []
    for length in (1_000, 10_000, 100_000, 1_000_000):
        rounds = [_round(length) for _ in range(max(1, min(20, 200_000 // length)))]
        clock, spent, nodes = min(rounds, key=lambda each: sum(each[1]))
        points.append(Point(length, *(seconds / length * 1e6 for seconds in spent)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(
            f"{length:11,}{clock[0]:11.2f}{clock[1]:11.2f}{sum(spent):11.2f}"
            f"{points[-1].total:11.1f}{nodes:11}{peak:11.0f}",
            flush=True,
        )
    if plot:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot.write_text(to_svg(points), encoding="utf-8")


def _round(length: int) -> tuple[tuple[float, float], tuple[float, float], int]:
    """Seconds by the clock and of CPU for the trace and the views, and the nodes that remain."""
    loss = plain_models.chain(length)
    start, began = time.perf_counter(), time.process_time()
    graph = gradviz.trace(loss, names={})
    traced, between = time.perf_counter(), time.process_time()
    seen = views.apply(graph)
    done, ended = time.perf_counter(), time.process_time()
    return (traced - start, done - traced), (between - began, ended - between), len(seen)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=MODELS, default=[])
    parser.add_argument("--save", type=Path)
    parser.add_argument("--as", dest="suffix", choices=("svg", "json"), default="svg")
    parser.add_argument("--torchviz", action="store_true")
    parser.add_argument("--chain", action="store_true")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.chain or options.plot:
        growth(options.plot)
        return
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    print("model              nodes   trace   views    draw   total   shown      kB  (seconds)")
    for name in options.only or MODELS:
        row = measure(name, options.save, options.suffix)
        print(row, f"  torchviz: {torchviz_seconds(name)}" if options.torchviz else "", flush=True)


if __name__ == "__main__":
    main()
