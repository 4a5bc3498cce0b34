"""How large and how fast the viewer is: ``python benchmarks/viewer.py [--only NAME,NAME]``.

Pages are opened in headless Chromium (``chromium`` on PATH) through Playwright. Times are those
of the browser: from the start of navigation to the first frame in which the drawing stands.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from gradviz import Drawing
from gradviz.graph import EdgeKind, GradGraph, NodeKind

_TIMES = 5
"""How often each page of the comparison is opened; the median counts."""
_READY = """() => new Promise(done => {
  const look = () => window.gradvizViewer
    ? requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))
    : setTimeout(look, 5);
  look();
})"""
_PAN = """() => new Promise(done => {
  const times = []; let last = performance.now(); let count = 0;
  const stage = window.gradvizViewer.stage;
  const step = now => {
    times.push(now - last); last = now;
    stage.pan(Math.sin(count / 6) * 30, 12);
    if (count % 10 === 9) stage.zoom(count % 20 === 9 ? 1.15 : 1 / 1.15);
    count += 1;
    if (count < 60) requestAnimationFrame(step);
    else { times.sort((a, b) => a - b); done([times[30], times[54]]); }
  };
  requestAnimationFrame(step);
})"""
_TOGGLE = """() => {
  const viewer = window.gradvizViewer, worst = [0, 0];
  const closed = viewer.picture.nodes.filter(node => node.group >= 0).slice(0, 40);
  for (const { id } of closed) {
    const start = performance.now(); viewer.toggle(id); viewer.stage.draw();
    const opened = performance.now(); viewer.close(); viewer.stage.draw();
    worst[0] = Math.max(worst[0], opened - start);
    worst[1] = Math.max(worst[1], performance.now() - opened);
  }
  return worst;
}"""
"""Opens and closes each group of the first picture, and returns the longest times."""


def network(blocks: int, grouped: bool = True) -> GradGraph:
    """A graph like that of a transformer: 20 operations and 4 parameters a block."""
    graph = GradGraph()
    tensor: dict[str, Any] = {"shape": (8, 64), "dtype": "float32"}
    graph.add_node("x", kind=NodeKind.LEAF, name="x", grad=None, **tensor)
    before, skip, number = "x", "x", 0
    for block in range(blocks):
        module = {"module": f"h.{block}"} if grouped else {}
        for step in range(20):
            key = f"n{number}"
            word = ("linear", "mul", "softmax", "view", "add")[step % 5]
            graph.add_node(
                key, kind=NodeKind.OPERATION, op=word, sequence_nr=number, **tensor, **module
            )
            graph.add_edge(before, key, 0, kind=EdgeKind.GRADIENT, input=0, output=0)
            if step % 5 == 0:
                leaf = f"w{number}"
                name = f"h.{block}.w{step}"
                graph.add_node(leaf, kind=NodeKind.PARAMETER, name=name, grad=None, **tensor)
                graph.add_edge(leaf, key, 1, kind=EdgeKind.GRADIENT, input=1, output=0)
            if step % 10 == 9:
                graph.add_edge(skip, key, 1, kind=EdgeKind.GRADIENT, input=1, output=0)
                skip = key
            before, number = key, number + 1
    graph.add_node("loss", kind=NodeKind.RESULT, name="loss", root=0, shape=(), dtype="float32")
    graph.add_edge(before, "loss", 0, kind=EdgeKind.GRADIENT, input=0, output=0)
    return graph


def gpt2() -> GradGraph:
    """The graph of a model of the shape of GPT-2 small, with small layers."""
    import torch
    from torch import nn

    import gradviz

    layer = nn.TransformerEncoderLayer(48, 4, 96, batch_first=True, norm_first=True)
    model = nn.Sequential(nn.Embedding(50, 48), nn.TransformerEncoder(layer, 12), nn.Linear(48, 50))
    loss = model(torch.randint(0, 50, (2, 16))).pow(2).mean()
    loss.backward()
    return gradviz.trace(loss, names=model)


def lstm(steps: int = 1_000) -> GradGraph:
    """The graph of an LSTM cell that runs many steps."""
    import torch
    from torch import nn

    import gradviz

    cell = nn.LSTMCell(8, 16)
    h, c = torch.zeros(4, 16), torch.zeros(4, 16)
    for _ in range(steps):
        h, c = cell(torch.randn(4, 8), (h, c))
    return gradviz.trace(h.sum(), names=cell)


def mlp() -> GradGraph:
    """A network of three layers."""
    import torch
    from torch import nn

    import gradviz

    model = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)
    )
    return gradviz.trace(model(torch.randn(4, 8)).mean(), names=model)


CASES: dict[str, tuple[Callable[[], GradGraph], dict[str, Any]]] = {
    "nothing": (GradGraph, {}),
    "mlp": (mlp, {}),
    "gpt2": (gpt2, {}),
    "lstm-1000": (lstm, {}),
    "5000": (lambda: network(208), {}),
    "10000-visible": (lambda: network(500), {"all": True}),
    "100000-visible": (lambda: network(5_000), {"all": True}),
}


@contextmanager
def browser_page() -> Iterator[Any]:
    """A page of Chromium, 1,400 × 900 pixels."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        sys.exit("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(120_000)
        yield page
        browser.close()


def measure(page: Any, name: str, folder: Path) -> str:
    """One line of the table."""
    make, options = CASES[name]
    graph = make()
    start = time.perf_counter()
    path = Drawing(graph, **options).save(folder / f"{name}.html")
    written = time.perf_counter() - start
    page.goto(path.as_uri())
    first = page.evaluate(_READY)
    drawn = page.evaluate("window.gradvizViewer.picture.nodes.length")
    usual, worst = page.evaluate(_PAN)
    cells = [name, f"{len(graph):,}", f"{path.stat().st_size / 1000:,.0f} kB", f"{written:.1f} s"]
    cells += [f"{drawn:,}", f"{first / 1000:.2f} s", f"{usual:.0f} / {worst:.0f} ms"]
    can_open = "window.gradvizViewer.picture.nodes.some(node => node.group >= 0)"
    if page.evaluate(can_open):
        opened, closed = page.evaluate(_TOGGLE)
        cells.append(f"{opened:.0f} / {closed:.0f} ms")
    return "| " + " | ".join(cells) + " |"


_PEER_READY = """() => new Promise(done => {
  const look = () => document.querySelector('g[class^="node_"]')
    ? requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))
    : setTimeout(look, 5);
  look();
})"""
_PEER_OPEN = """() => new Promise(done => {
  const button = document.querySelector('[class^="collapse-button_"]');
  if (!button) { done(null); return; }
  const texts = () => document.querySelectorAll('g[class^="node_"]').length;
  const before = document.querySelector('g[class^="node_"]'), count = texts();
  const start = performance.now();
  button.dispatchEvent(new MouseEvent('click', {bubbles: true}));
  const look = () => texts() && document.querySelector('g[class^="node_"]') !== before
    && texts() !== count ? done(performance.now() - start) : setTimeout(look, 2);
  look();
})"""
_OPEN_ONE = """() => {
  const viewer = window.gradvizViewer;
  const closed = viewer.picture.nodes.filter(node => node.group >= 0);
  if (!closed.length) return null;
  const start = performance.now();
  viewer.toggle(closed[0].id); viewer.stage.draw();
  return performance.now() - start;
}"""


def beside(page: Any, folder: Path) -> Iterator[str]:
    """Lines of a table: our page of a model, and that of torchvista."""
    import torch
    import torchvista  # type: ignore[import-not-found, unused-ignore]
    from viewer_models import MODELS

    import gradviz

    for name, make in MODELS.items():
        torch.manual_seed(0)
        model, data = make()
        theirs = folder / f"{name}-torchvista.html"
        torchvista.trace_model(model, data, export_format="html", export_path=str(theirs))
        ours = gradviz.draw(model(data).mean(), names=model).save(folder / f"{name}.html")
        for tool, path, ready, open_one in (
            ("gradviz", ours, _READY, _OPEN_ONE),
            ("torchvista", theirs, _PEER_READY, _PEER_OPEN),
        ):
            runs = []
            for _ in range(_TIMES):
                page.goto("about:blank")
                page.goto(path.as_uri())
                runs.append((page.evaluate(ready), page.evaluate(open_one)))
            first = median(run[0] for run in runs)
            opened = None if runs[0][1] is None else median(run[1] for run in runs)
            told = "nothing to open" if opened is None else f"{opened:.0f} ms"
            size = path.stat().st_size / 1000
            yield f"| {name} | {tool} | {size:,.0f} kB | {first / 1000:.2f} s | {told} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--beside", action="store_true", help="compare with torchvista")
    asked = parser.parse_args()
    if asked.beside:
        print("| model | tool | file | first picture | a block opened |\n|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder, browser_page() as page:
            for line in beside(page, Path(folder)):
                print(line, flush=True)
        return
    names = asked.only.split(",")
    print(
        "| graph | nodes | file | written in | drawn | first picture | pan: median / 90 % "
        "| open / close a group, slowest |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, browser_page() as page:
        for name in names:
            print(measure(page, name, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
