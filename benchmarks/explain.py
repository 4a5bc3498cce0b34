"""How long ``explain(loss, names=model)`` takes on GPT-2 small, after a backward pass.

Run ``python benchmarks/explain.py``; it takes ``transformers``' GPT-2 where that is installed, and
a plain one of the same sizes where it is not. The aim is 2 s. ``--recorded`` explains a recording
of the same, which has the lines as well.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from typing import Any

import models
import plain_models
import torch

import gradviz

AIM = 2.0


def gpt2() -> tuple[Any, Any, str]:
    """The loss, the model, and which it is."""
    if importlib.util.find_spec("transformers"):
        loss, model = models.MODELS["gpt2"]()
        return loss, model, "transformers' GPT-2 small"
    model = plain_models.GPT(layers=12, width=768, words=50_257)
    return model(torch.arange(16).view(1, 16)).logsumexp(-1).mean(), model, "a plain GPT-2 small"


def explain(loss: Any, model: Any, run: Any) -> tuple[float, Any]:
    """Seconds, and the answer."""
    start = time.perf_counter()
    told = gradviz.explain(loss, *([run] if run else []), names=model)
    text = str(told)
    assert text
    return time.perf_counter() - start, told


def main() -> None:
    """Print the median of some runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="runs (default 5)")
    parser.add_argument("--recorded", action="store_true", help="explain a recording")
    given = parser.parse_args()
    run = gradviz.record() if given.recorded else None
    if run:
        with run:
            loss, model, what = gpt2()
            loss.backward()
    else:
        loss, model, what = gpt2()
        loss.backward()
    timed = [explain(loss, model, run) for _ in range(given.repeat)]
    seconds = statistics.median(each for each, _ in timed)
    verdict = "within" if seconds <= AIM else "over"
    count = f"{len(timed[0][1])} parameters, {len(timed[0][1][0].graph):,} nodes"
    print(f"{what}: {count}")
    print(f"explain: {seconds:.2f} s, {verdict} the {AIM:g} s aimed at")
    print(timed[0][1])


if __name__ == "__main__":
    main()
