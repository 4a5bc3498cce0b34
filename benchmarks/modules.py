"""How often the module of an operation is inferred right, where nothing was recorded.

Run ``python benchmarks/modules.py``; ``--only WORD`` for some models, ``--wrong`` to list what is
wrong. Each model runs once under ``record(model)``, which knows in which module every operation
ran; the same graph is traced with ``names=model``, and what `infer_modules` says is compared.

The models are small ones in plain torch, and, where ``torchvision``, ``timm`` and
``transformers`` are installed, some of theirs, all with random weights.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import module_models
import torch
from torch import Tensor, nn

import gradviz
from gradviz.graph import NodeKind
from gradviz.views import infer_modules

Model = tuple[nn.Module, Callable[[nn.Module], Tensor]]

VISION = (
    "alexnet", "vgg11", "vgg11_bn", "resnet18", "squeezenet1_1", "densenet121",
    "googlenet", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5",
    "efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "vit_b_16", "swin_t",
)  # fmt: skip
TIMM = (
    "resnet18d", "mixer_s32_224", "convmixer_768_32", "deit_tiny_patch16_224",
    "efficientvit_b0", "ghostnet_050", "repvgg_a0", "res2net50_14w_8s",
)  # fmt: skip
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 100}
LANGUAGE: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("BertConfig", "BertForMaskedLM", _SMALL),
    ("GPT2Config", "GPT2LMHeadModel", {"n_layer": 2}),
    ("LlamaConfig", "LlamaForCausalLM", _SMALL),
    ("DistilBertConfig", "DistilBertForMaskedLM", {"n_layers": 2}),
    ("RobertaConfig", "RobertaForMaskedLM", _SMALL),
    ("AlbertConfig", "AlbertForMaskedLM", {**_SMALL, "embedding_size": 16}),
    ("OPTConfig", "OPTForCausalLM", {"num_hidden_layers": 2}),
    ("MistralConfig", "MistralForCausalLM", {**_SMALL, "num_key_value_heads": 2}),
)


def image(model: nn.Module) -> Tensor:
    """The loss of a model of images."""
    out: Any = model(torch.randn(2, 3, 224, 224))
    return (out if isinstance(out, Tensor) else out[0]).logsumexp(-1).mean()


def text(model: nn.Module) -> Tensor:
    """The loss of a model of tokens."""
    tokens = torch.arange(16).view(2, 8) + 5
    out: Any = model(input_ids=tokens, labels=tokens)
    loss: Tensor = out.loss
    return loss


def _made(make: Callable[[], nn.Module], loss_of: Callable[[nn.Module], Tensor]) -> Model:
    return make(), loss_of


def _configured(library: Any, config: str, model: str, sizes: dict[str, int]) -> nn.Module:
    made: nn.Module = getattr(library, model)(getattr(library, config)(**sizes))
    return made


def models() -> dict[str, Callable[[], Model]]:
    """Every model, by its name."""
    found: dict[str, Callable[[], Model]] = dict(module_models.MODELS)
    if importlib.util.find_spec("torchvision"):
        vision: Any = importlib.import_module("torchvision").models
        for name in VISION:
            found[f"torchvision {name}"] = partial(_made, getattr(vision, name), image)
    if importlib.util.find_spec("timm"):
        timm: Any = importlib.import_module("timm")
        for name in TIMM:
            found[f"timm {name}"] = partial(_made, partial(timm.create_model, name), image)
    if importlib.util.find_spec("transformers"):
        transformers: Any = importlib.import_module("transformers")
        for config, model, sizes in LANGUAGE:
            configured = partial(_configured, transformers, config, model, sizes)
            found[f"transformers {model}"] = partial(_made, configured, text)
    return found


def compared(
    model: nn.Module, loss_of: Callable[[nn.Module], Tensor]
) -> list[tuple[str, str, str]]:
    """Of each operation: what it is called, its module as recorded, and as inferred."""
    with gradviz.record(model) as run:
        loss = loss_of(model)
        run.mark("now")
        graph = gradviz.trace(loss, names=model)
    known = {
        data["sequence_nr"]: data.get("module", "")
        for _, data in run.frames[-1].graph.nodes(data=True)
        if data["kind"] is NodeKind.OPERATION and data.get("sequence_nr") is not None
    }
    return [
        (data.get("op", ""), known[data["sequence_nr"]], data.get("module", ""))
        for _, data in infer_modules(graph).nodes(data=True)
        if data["kind"] is NodeKind.OPERATION and data.get("sequence_nr") in known
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="a word in the names of the models to run")
    parser.add_argument("--wrong", action="store_true", help="list what is wrong")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"{'model':40} {'operations':>10} {'assigned':>9} {'right':>8}  seconds")
    total = Counter[str]()
    shares = []
    for name, make in models().items():
        if given.only not in name:
            continue
        torch.manual_seed(0)
        began = time.perf_counter()
        try:
            rows = compared(*make())
        except Exception as error:  # another version of a library
            print(f"{name:40} did not run: {type(error).__name__}: {str(error)[:60]}")
            continue
        assigned = [row for row in rows if row[2]]
        right = [row for row in assigned if row[1] == row[2]]
        share = len(right) / max(len(assigned), 1)
        shares.append(share)
        total.update(operations=len(rows), assigned=len(assigned), right=len(right))
        print(
            f"{name:40} {len(rows):10,} {len(assigned) / max(len(rows), 1):9.0%} {share:8.1%}"
            f"  {time.perf_counter() - began:.1f}",
            flush=True,
        )
        if given.wrong:
            counts = Counter(row for row in assigned if row[1] != row[2])
            for (op, recorded, inferred), count in counts.most_common(12):
                print(f"     {count:4} {op}: in {recorded or 'no module'}, said {inferred}")
    print(
        f"{len(shares)} models{'':30} {total['operations']:10,} "
        f"{total['assigned'] / total['operations']:9.0%} {total['right'] / total['assigned']:8.1%}"
        f"  worst {min(shares):.1%}"
    )


if __name__ == "__main__":
    main()
