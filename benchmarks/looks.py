"""How large the text of a picture is on a page, and how high the picture: wide and real programs.

Run it as ``python benchmarks/looks.py [NAME ...] [--sizes 3,26,100] [--recorded] [--models]``. For
each program it draws the default picture and prints the smallest text when the SVG is shown 1,400
and 700 pixels wide (a narrower picture is shown as it is), its width in points, its height at 1,400
pixels, and the number of boxes. Goal: text of at least 9 and 7 px, at most 2,000 px high.
``--recorded`` draws the story of two training steps instead of one result; ``--models`` measures
real models with random weights (those of ``transformers`` where it is installed), ``--wide`` the
programs of ``wide_models``; ``--save FOLDER`` keeps the pictures.
``--sheets FOLDER`` draws the examples, the models of the site and the pictures of the README
instead, and writes contact sheets of them as a reader sees them: light and dark, 1,400, 700 and 390
pixels wide; as PNG too where ``chromium`` is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import gradviz
from gradviz.frontends.drawing import Drawing
from gradviz.serialize import loads

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
scene_faults: Any = importlib.import_module("scene_faults")

GOALS = {1_400: 9.0, 700: 7.0}
"""The smallest text in pixels by the width at which a picture is shown."""
WIDTH, HIGHEST = 1_400, 2_000


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


Program = tuple[Any, Callable[[], torch.Tensor]]
"""A model, or a dict of tensors, and what computes the loss."""


def penalty(k: int) -> Program:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, k, enable_nested_tensor=False)
    x = torch.randn(2, 3, 16)
    return model, lambda: model(x).sum() + sum(p.pow(2).sum() for p in model.parameters())


def many_leaves(k: int) -> Program:
    leaves = [torch.ones(1, requires_grad=True) for _ in range(k)]
    named = {f"w{number}": leaf for number, leaf in enumerate(leaves)}
    return named, lambda: torch.cat(leaves).sum()


def programs(k: int) -> Iterator[tuple[str, Program]]:
    """Name and program of each shape with ``k`` branches or steps."""
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
        yield name, (model, lambda model=model, given=given: model(given).sum())  # type: ignore[misc]
    if k <= 12:
        yield "penalty", penalty(k)
    yield "many_leaves", many_leaves(k)


def language(config: str, model: str, **sizes: Any) -> Program:
    """A model of ``transformers`` on a short sequence."""
    transformers: Any = importlib.import_module("transformers")
    made = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    tokens = torch.arange(16).view(1, 16) + 5
    return made, lambda: made(input_ids=tokens)[0].logsumexp(-1).mean()


def encoder(layers: int) -> Program:
    layer = nn.TransformerEncoderLayer(48, 4, 96, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    x = torch.randn(2, 16, 48)
    return model, lambda: model(x).mean(1).logsumexp(-1).mean()


def plain(name: str) -> Program:
    """A network of ``plain_models``; its loss is computed again from the same input."""
    plain_models: Any = importlib.import_module("plain_models")
    if name == "resnet50":
        network, given = plain_models.ResNet(), torch.randn(1, 3, 64, 64)
    elif name == "unet":
        network, given = plain_models.UNet(), torch.randn(1, 3, 64, 64)
    elif name == "mixture":
        network, given = plain_models.Mixture(16, 8), torch.randn(12, 16)
    else:
        network, given = plain_models.GPT(), torch.randint(0, 50, (2, 16))
    return network, lambda: network(given).square().mean()


def image_model(config: str, model: str, **sizes: Any) -> Program:
    """A model of ``transformers`` on two images of 64 × 64 pixels."""
    transformers: Any = importlib.import_module("transformers")
    made = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    images = torch.randn(2, 3, 64, 64)
    return made, lambda: made(images)[0].logsumexp(-1).mean()


def perceiver() -> Program:
    transformers: Any = importlib.import_module("transformers")
    sizes = {"num_latents": 8, "d_latents": 32, "d_model": 32, "max_position_embeddings": 16}
    config = transformers.PerceiverConfig(num_self_attends_per_block=6, vocab_size=50, **sizes)
    made = transformers.PerceiverForMaskedLM(config)
    tokens = torch.arange(16).view(1, 16) + 5
    return made, lambda: made(inputs=tokens).logits.logsumexp(-1).mean()


def detr() -> Program:
    transformers: Any = importlib.import_module("transformers")
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"]
    )
    sizes = {"d_model": 32, "encoder_layers": 6, "decoder_layers": 6, "num_queries": 8}
    config = transformers.DetrConfig(backbone_config=backbone, **sizes)
    made = transformers.DetrForObjectDetection(config)
    images = torch.randn(1, 3, 64, 64)

    def loss() -> Any:
        output = made(images)
        return output.logits.logsumexp(-1).mean() + output.pred_boxes.abs().mean()

    return made, loss


def t5() -> Program:
    transformers: Any = importlib.import_module("transformers")
    config = transformers.T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=6, num_heads=4, decoder_start_token_id=0
    )
    made = transformers.T5ForConditionalGeneration(config)
    tokens = torch.arange(16).view(1, 16) + 5
    return made, lambda: made(input_ids=tokens, labels=tokens).loss


def lora() -> Program:
    """GPT-2 with adapters of ``peft``."""
    peft: Any = importlib.import_module("peft")
    base, loss_of = language("GPT2Config", "GPT2LMHeadModel", n_embd=48, n_layer=12, n_head=4)
    made = peft.get_peft_model(base, peft.LoraConfig(target_modules=["c_attn"], r=2))
    return made, loss_of


def detector(name: str) -> Program:
    """A detection model of ``torchvision``; its losses are added."""
    detection: Any = importlib.import_module("torchvision.models.detection")
    made = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=4)
    images = [torch.randn(3, 96, 96)]
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1])}]
    return made, lambda: sum(made(images, targets).values())


def maxvit() -> Program:
    models: Any = importlib.import_module("torchvision.models.maxvit")
    made = models.MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=2,
        block_channels=[16, 32],
        block_layers=[2, 2],
        head_dim=8,
        stochastic_depth_prob=0.1,
        num_classes=4,
    )
    images = torch.randn(2, 3, 64, 64)
    return made, lambda: made(images).logsumexp(-1).mean()


SMALL = {"hidden_size": 48, "num_hidden_layers": 12, "num_attention_heads": 4}
MODELS: dict[str, Callable[[], Program]] = {
    "encoder-12": lambda: encoder(12),
    "resnet50": lambda: plain("resnet50"),
    "unet": lambda: plain("unet"),
    "mixture": lambda: plain("mixture"),
    "gpt-plain": lambda: plain("gpt"),
    "bert": lambda: language("BertConfig", "BertForSequenceClassification", **SMALL),
    "gpt2": lambda: language("GPT2Config", "GPT2LMHeadModel", n_embd=48, n_layer=12, n_head=4),
    "albert": lambda: language("AlbertConfig", "AlbertForMaskedLM", **SMALL),
    "longformer": lambda: language(
        "LongformerConfig", "LongformerForMaskedLM", attention_window=8, **SMALL
    ),
    "llama": lambda: language("LlamaConfig", "LlamaForCausalLM", **SMALL),
    "distilbert": lambda: language(
        "DistilBertConfig", "DistilBertForMaskedLM", dim=48, n_heads=4, hidden_dim=96
    ),
    "t5": t5,
    "vit": lambda: image_model(
        "ViTConfig", "ViTForImageClassification", image_size=64, patch_size=16, **SMALL
    ),
    "swin": lambda: image_model(
        "SwinConfig", "SwinForImageClassification", image_size=64, embed_dim=12, window_size=2
    ),
    "perceiver": perceiver,
    "detr": detr,
    "lora-gpt2": lora,
    "fcos": lambda: detector("fcos_resnet50_fpn"),
    "retinanet": lambda: detector("retinanet_resnet50_fpn"),
    "maxvit": maxvit,
}


def looks(svg: str, at: float = WIDTH) -> tuple[float, float, float]:
    """The smallest text, the width and the height of an SVG, shown at most so many pixels wide."""
    box = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    width, height = float(box[1]), float(box[2])
    size = re.search(r'<svg[^>]* width="([\d.]+)(px|pt)?"', svg)
    shown = min(float(size[1]) * (4 / 3 if size[2] == "pt" else 1) if size else width, at)
    scale = shown / width
    texts = [float(each) for each in re.findall(r'font-size="([\d.]+)"', svg)]
    return min(texts, default=0.0) * scale, width, height * scale


def drawing_of(program: Program, is_recorded: bool) -> Any:
    """The default picture of a result, or of two recorded training steps."""
    model, loss_of, *steps = program  # type: ignore[var-annotated]
    if not is_recorded:
        return gradviz.draw(loss_of(), names=model)
    if steps:
        with gradviz.record(*[model] * isinstance(model, nn.Module)) as run:
            for _ in range(2):
                steps[0]()
        return gradviz.draw(run)
    leaves = list(model.parameters() if isinstance(model, nn.Module) else model.values())
    optimizer = torch.optim.SGD(leaves, lr=0.1)
    with gradviz.record(*[model] * isinstance(model, nn.Module)) as run:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return gradviz.draw(run)


def row(name: str, k: int, program: Program, options: argparse.Namespace) -> bool:
    """Print the figures of one picture; whether they miss the goal."""
    start = time.perf_counter()
    drawing = drawing_of(program, options.recorded)
    svg = drawing.svg
    took = time.perf_counter() - start
    texts = [looks(svg, at)[0] for at in GOALS]
    _, width, height = looks(svg)
    boxes = sum(len(frame.graph) for frame in drawing.shown)
    found = scene_faults.faults_of(drawing)
    is_small = any(text < goal for text, goal in zip(texts, GOALS.values(), strict=True))
    is_wrong = is_small or height > HIGHEST or bool(found)
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
        (options.save / f"{name}-{k}.svg").write_text(svg, encoding="utf-8")
    figures = f"{k:5}{texts[0]:9.1f}{texts[1]:8.1f}{width:8,.0f}{height:8,.0f}{boxes:7}{took:7.1f}"
    print(f"{name:14}{figures}{len(found):8}{' <-' if is_wrong else ''}", flush=True)
    for fault in found:
        print(f"    {fault}")
    return is_wrong


SHEET = """<!doctype html><meta charset="utf-8"><title>{theme}, {width} px</title>
<style>body {{ margin: 0; padding: 12px; width: {width}px; background: {page}; color: {ink};
font: 14px sans-serif }} img {{ max-width: 100%; display: block; margin-bottom: 24px }}</style>
{pictures}"""
COLORS: dict[Literal["light", "dark"], tuple[str, str]] = {
    "light": ("#ffffff", "#1a1a1a"),
    "dark": ("#0d1117", "#e6edf3"),
}
WIDTHS = (1_400, 700, 390)
HIGHEST_SHEET = 8_000  # pixels


def sheets(folder: Path) -> None:
    """Write contact sheets of the examples, models and the README's pictures into a folder."""
    root = Path(__file__).resolve().parent.parent
    for theme, (page, ink) in COLORS.items():
        inside = folder / theme
        inside.mkdir(parents=True, exist_ok=True)
        for example in sorted((root / "examples").glob("[a-z]*.py")):
            with contextlib.redirect_stdout(io.StringIO()), gradviz.record() as run:
                kept = iter([runpy.run_path(str(example), run_name="__main__")])
            gradviz.draw(run, theme=theme).save(inside / f"{example.stem}.svg")
            del kept  # until now its tensors were alive; an iterator gives them no other names
        for model in (root / "docs" / "gallery").glob("*.json"):
            drawing = Drawing(loads(model.read_text(encoding="utf-8")), views=(), theme=theme)
            drawing.save(inside / f"model-{model.stem}.svg")
        for picture in (root / "docs" / "pictures").glob("*.svg"):
            text = picture.read_text(encoding="utf-8")
            (inside / f"readme-{picture.name}").write_text(text, encoding="utf-8")
        for width in WIDTHS:
            for number, names in enumerate(_parts(inside, width), 1):
                pictures = "\n".join(f'{name}<img src="{theme}/{name}">' for name in names)
                text = SHEET.format(theme=theme, width=width, page=page, ink=ink, pictures=pictures)
                sheet = folder / f"{theme}-{width}-{number}.html"
                sheet.write_text(text, encoding="utf-8")
                photograph(sheet, width + 24, sheet.with_suffix(".png"), theme)
    print(f"wrote {folder}/light-{WIDTHS[0]}-1.html and more")


def _parts(folder: Path, width: int) -> Iterator[list[str]]:
    """The names of pictures, in parts that a browser can photograph."""
    part: list[str] = []
    room = float(HIGHEST_SHEET)
    for path in sorted(folder.glob("*.svg")):
        _, wide, high = looks(path.read_text(encoding="utf-8"))
        needed = high * min(1.0, width / wide) + 60
        if part and needed > room:
            yield part
            part, room = [], float(HIGHEST_SHEET)
        part.append(path.name)
        room -= needed
    yield part


def photograph(page: Path, width: int, to: Path, theme: str) -> None:
    """The page as PNG, as for readers of that theme, if there is a browser for it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += [f"--blink-settings=preferredColorScheme={int(theme == 'light')}"]
    options += [
        f"--window-size={width},{HIGHEST_SHEET}",
        f"--screenshot={to}",
        page.resolve().as_uri(),
    ]
    subprocess.run([browser, *options], stderr=subprocess.DEVNULL, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--sizes", default="3,8,26,100,400")
    parser.add_argument("--recorded", action="store_true")
    parser.add_argument("--models", action="store_true")
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--sheets", type=Path)
    options = parser.parse_args()
    if options.sheets:
        sheets(options.sheets)
        return
    titles = (
        f"{'at 1,400':>9}{'at 700':>8}{'width':>8}{'height':>8}{'boxes':>7}{'s':>7}{'faults':>8}"
    )
    print(f"{'program':14}{'k':>5}{titles}")
    missed = count = 0
    if options.models or options.wide:
        wide: Any = importlib.import_module("wide_models")
        known = {**(MODELS if options.models else {}), **(wide.PROGRAMS if options.wide else {})}
        for name in options.names or known:
            torch.manual_seed(0)
            try:
                program = known[name]()
            except ImportError as error:
                print(f"{name:14} left out: {error}")
                continue
            count, missed = count + 1, missed + row(name, 0, program, options)
    else:
        for k in map(int, options.sizes.split(",")):
            for name, program in programs(k):
                if not options.names or name in options.names:
                    count, missed = count + 1, missed + row(name, k, program, options)
    print(f"{missed} of {count} miss the goal")


if __name__ == "__main__":
    main()
