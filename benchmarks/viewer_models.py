"""The three models on which the viewer is compared with torchvista: an MLP, ResNet-50, a GPT."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["MODELS"]


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut."""

    def __init__(self, width: int, inner: int, stride: int) -> None:
        super().__init__()
        out = 4 * inner
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2, self.bn3 = nn.BatchNorm2d(inner), nn.BatchNorm2d(out)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.downsample = nn.Sequential()
        if stride > 1 or width != out:
            short = nn.Conv2d(width, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(short, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Of a batch of images."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(nn.Module):
    """The layers of ResNet-50, an eighth as wide."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, 1)
        width = 8
        for number, (blocks, inner) in enumerate(((3, 8), (4, 16), (6, 32), (3, 64)), 1):
            layer = []
            for block in range(blocks):
                layer.append(Bottleneck(width, inner, 2 if number > 1 and block == 0 else 1))
                width = 4 * inner
            setattr(self, f"layer{number}", nn.Sequential(*layer))
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Of a batch of images."""
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and a network of two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of a batch of rows of tokens."""
        q, k, v = self.attn(self.ln_1(x)).chunk(3, -1)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + self.proj(weights @ v)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """Twelve blocks."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(50, width), nn.Embedding(16, width)
        self.h = nn.Sequential(*[Block(width) for _ in range(12)])
        self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        """Of a batch of rows of tokens."""
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        return self.head(self.ln_f(self.h(x)))  # type: ignore[no-any-return]


def _mlp() -> tuple[nn.Module, Tensor]:
    layers = [nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)]
    return nn.Sequential(*layers), torch.randn(4, 8)


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "mlp": _mlp,
    "resnet50": lambda: (ResNet50(), torch.randn(2, 3, 32, 32)),
    "gpt": lambda: (GPT(), torch.randint(0, 50, (2, 16))),
}
"""By name, a function that gives a model and its input."""
