"""Models in plain torch, of the shapes that pictures of graphs find hard.

Each function returns a loss, and the module or dict that names its tensors.
"""

from __future__ import annotations

from itertools import pairwise
from trace import Block, chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = [
    "chain",
    "gpt",
    "lstm",
    "maml",
    "mixture",
    "neural_ode",
    "resnet50",
    "rnn",
    "unet",
]

Model = tuple[Tensor, object]


class Bottleneck(nn.Module):
    """The block of ResNet-50."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Any:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """ResNet-50."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for number, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
            stage = nn.Sequential()
            for block in range(blocks):
                stride = 2 if block == 0 and number > 1 else 1
                stage.append(Bottleneck(inputs, width, stride))
                inputs = 4 * width
            setattr(self, f"layer{number}", stage)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(2048, 1000)

    def forward(self, x: Tensor) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def resnet50() -> Model:
    """ResNet-50 on 2 small images."""
    model = ResNet()
    logits = model(torch.randn(2, 3, 64, 64))
    return nn.functional.cross_entropy(logits, torch.tensor([1, 2])), model


class UNet(nn.Module):
    """A U-Net with 4 levels."""

    def __init__(self, width: int = 8, levels: int = 4) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(
            self.block(i, o) for i, o in zip([3, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(o, i, 2, 2) for i, o in pairwise(sizes))
        self.merge = nn.ModuleList(self.block(2 * size, size) for size in sizes[:-1])
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        """Two convolutions."""
        layers: list[nn.Module] = []
        for size in (inputs, outputs):
            layers += [nn.Conv2d(size, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Any:
        skips = []
        for level, down in enumerate(self.down):
            x = down(nn.functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = self.merge[level](torch.cat([skips[level], self.up[level](x)], 1))
        return self.head(x)


def unet() -> Model:
    """A U-Net on one small image."""
    model = UNet()
    return model(torch.randn(1, 3, 32, 32)).square().mean(), model


class Mixture(nn.Module):
    """A layer that sends each token to two of its experts."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.norm, self.gate = nn.LayerNorm(width), nn.Linear(width, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Any:
        y = self.norm(x)
        weights, chosen = self.gate(y).softmax(-1).topk(2)
        for number, expert in enumerate(self.experts):
            share = (weights * (chosen == number)).sum(-1, keepdim=True)
            x = x + share * expert(y)
        return x


def mixture() -> Model:
    """Six layers of eight experts."""
    model = nn.Sequential(nn.Linear(4, 16), *(Mixture(16, 8) for _ in range(6)), nn.Linear(16, 4))
    return model(torch.randn(12, 4)).square().mean(), model


class GPT(nn.Module):
    """A language model as GPT-2, small."""

    def __init__(self, layers: int = 12, width: int = 64, words: int = 100) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(32, width)
        self.h = nn.ModuleList(Block(width, 4) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Any:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for layer in self.h:
            x = layer(x)
        return self.lm_head(self.ln_f(x))


def gpt() -> Model:
    """Twelve layers, tied embeddings."""
    model = GPT()
    tokens = torch.arange(32).view(2, 16)
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()), model


def lstm(steps: int = 1000) -> Model:
    """An ``LSTMCell``, unrolled."""
    model = nn.ModuleDict({"cell": nn.LSTMCell(8, 8), "head": nn.Linear(8, 2)})
    inputs = torch.randn(steps, 2, 8)
    h = c = torch.zeros(2, 8)
    for x in inputs:
        h, c = model["cell"](x, (h, c))
    return model["head"](h).square().mean(), model


def rnn(steps: int) -> Model:
    """An ``RNNCell``, unrolled, with a loss at every step."""
    cell = nn.RNNCell(4, 4)
    h, loss = torch.zeros(1, 4), torch.zeros(())
    for x in torch.randn(steps, 1, 4):
        h = cell(x, h)
        loss = loss + h.square().mean()
    return loss, {"cell": cell}


def neural_ode(steps: int = 5000) -> Model:
    """Euler's method by hand through a small network."""
    field = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    y = torch.ones(1, 2)
    for _ in range(steps):
        y = y + 1e-3 * field(y)
    return y.square().sum(), {"field": field}


def maml(steps: int = 5, inner: int = 1) -> Model:
    """A loss after some steps of gradient descent that are themselves differentiated."""
    hidden = [layer for _ in range(inner) for layer in (nn.Linear(16, 16), nn.Tanh())]
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), *hidden, nn.Linear(16, 1))
    x, y = torch.randn(8, 1), torch.randn(8, 1)
    fast: dict[str, Tensor] = dict(model.named_parameters())
    for _ in range(steps):
        loss = (functional_call(model, fast, (x,)) - y).square().mean()
        slopes = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
        fast = {name: p - 0.1 * g for (name, p), g in zip(fast.items(), slopes, strict=True)}
    return (functional_call(model, fast, (x,)) - y).square().mean(), model
