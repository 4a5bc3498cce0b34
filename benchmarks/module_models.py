"""Small models in plain torch for ``benchmarks/modules.py``: one for each way to build modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

__all__ = ["MODELS"]

Made = tuple[nn.Module, Callable[[nn.Module], Tensor]]


class Net(nn.Module):
    """Modules, and a function that calls them."""

    def __init__(self, call: Callable[..., Any], **modules: Any) -> None:
        super().__init__()
        self.call = call
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *given: Any) -> Any:
        """Call them."""
        return self.call(self, *given)


def _on(*shape: int) -> Callable[[nn.Module], Tensor]:
    return lambda model: model(torch.randn(*shape)).square().mean()


def _on_tokens(count: int = 12) -> Callable[[nn.Module], Tensor]:
    return lambda model: model(torch.arange(count).view(2, -1) % 10).square().mean()


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def _vgg(norm: bool) -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 3
    for width in (8, "M", 16, "M", 32, 32, "M"):
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            size = int(width)
            layers.append(nn.Conv2d(inputs, size, 3, padding=1))
            layers += [nn.BatchNorm2d(size)] if norm else []
            layers.append(nn.ReLU(inplace=True))
            inputs = size
    head = nn.Sequential(
        nn.Linear(32 * 16, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 32), nn.ReLU(True),
        nn.Dropout(), nn.Linear(32, 5),
    )  # fmt: skip
    return Net(
        lambda self, x: self.classifier(torch.flatten(self.avgpool(self.features(x)), 1)),
        features=nn.Sequential(*layers),
        avgpool=nn.AdaptiveAvgPool2d(4),
        classifier=head,
    )


def _alexnet() -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(True), nn.MaxPool2d(3, 2), nn.Conv2d(8, 16, 3, 1, 1),
        nn.ReLU(True), nn.MaxPool2d(3, 2), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(True),
        nn.Conv2d(16, 8, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d(2),
    )  # fmt: skip
    head = nn.Sequential(
        nn.Dropout(), nn.Linear(8 * 4, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 16),
        nn.ReLU(True), nn.Linear(16, 5),
    )  # fmt: skip
    return Net(
        lambda self, x: self.classifier(torch.flatten(self.avgpool(self.features(x)), 1)),
        features=features,
        avgpool=nn.AdaptiveAvgPool2d(2),
        classifier=head,
    )


class Block(nn.Module):
    """A block of a transformer, before its norms or after them."""

    def __init__(self, size: int = 16, heads: int = 2, *, lora: bool = False) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv: nn.Module = nn.Linear(size, 3 * size)
        self.proj = nn.Linear(size, size)
        self.fc: nn.Module = nn.Linear(size, 2 * size)
        self.out = nn.Linear(2 * size, size)
        self.act, self.drop = nn.GELU(), nn.Dropout(0.1)
        self.heads = heads
        if lora:
            self.requires_grad_(False)
            self.qkv, self.fc = Lora(self.qkv), Lora(self.fc)

    def attention(self, x: Tensor) -> Any:
        """The attention."""
        batch, steps, size = x.shape
        q, k, v = self.qkv(x).view(batch, steps, self.heads, -1).transpose(1, 2).chunk(3, -1)
        scores = (q @ k.transpose(-2, -1) / 4).softmax(-1)
        return self.proj((self.drop(scores) @ v).transpose(1, 2).reshape(batch, steps, size))

    def forward(self, x: Tensor) -> Any:
        """Call it."""
        x = x + self.attention(self.ln_1(x))
        return x + self.drop(self.out(self.act(self.fc(self.ln_2(x)))))


class Lora(nn.Module):
    """A frozen linear layer with a trained low-rank part."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base.out_features, bias=False)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Any:
        """Call it."""
        return self.base_layer(x) + self.lora_B(self.lora_A(self.dropout(x))) * 2


def _gpt(lora: bool = False, tied: bool = False) -> nn.Module:
    def call(self: Any, tokens: Tensor) -> Any:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.head(self.ln_f(x))

    net = Net(
        call,
        wte=nn.Embedding(10, 16),
        wpe=nn.Embedding(20, 16),
        h=nn.ModuleList(Block(lora=lora) for _ in range(3)),
        ln_f=nn.LayerNorm(16),
        head=nn.Linear(16, 10, bias=False),
    )
    if tied:
        net.get_submodule("head").weight = net.get_submodule("wte").weight
    if lora:
        for part in ("wte", "wpe", "ln_f", "head"):
            _frozen(net.get_submodule(part))
    return net


class RmsNorm(nn.Module):
    """A root mean square norm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Any:
        """Call it."""
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Llama(nn.Module):
    """A block with rotary positions, a gated linear unit and root mean square norms."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.input_norm, self.post_norm = RmsNorm(size), RmsNorm(size)
        self.q, self.k, self.v, self.o = (nn.Linear(size, size, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(size, 32, bias=False), nn.Linear(size, 32, bias=False)
        self.down = nn.Linear(32, size, bias=False)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Any:
        """Call it."""
        h = self.input_norm(x)
        q, k, v = (
            each(h).view(*h.shape[:2], 2, 8).transpose(1, 2) for each in (self.q, self.k, self.v)
        )
        angles = torch.arange(h.shape[1])[:, None] * torch.ones(8)
        q, k = (each * angles.cos() + each.roll(4, -1) * angles.sin() for each in (q, k))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(h.transpose(1, 2).reshape(x.shape))
        h = self.post_norm(x)
        return x + self.down(self.act(self.gate(h)) * self.up(h))


def _llama() -> nn.Module:
    def call(self: Any, tokens: Tensor) -> Any:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))

    return Net(
        call,
        embed_tokens=nn.Embedding(10, 16),
        layers=nn.ModuleList(Llama() for _ in range(3)),
        norm=RmsNorm(16),
        lm_head=nn.Linear(16, 10, bias=False),
    )


class Residual(nn.Module):
    """A residual block of two convolutions, with or without squeeze and excitation."""

    def __init__(self, size: int, *, squeeze: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(size, size, 3, 1, 1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(size), nn.BatchNorm2d(size)
        self.relu = nn.ReLU(inplace=True)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(size, 2, 1), nn.ReLU(), nn.Conv2d(2, size, 1),
            nn.Sigmoid(),
        ) if squeeze else None  # fmt: skip

    def forward(self, x: Tensor) -> Any:
        """Call it."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.se is not None:
            y = y * self.se(y)
        return self.relu(x + y)


def _resnet(squeeze: bool = False, frozen: bool = False) -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        *(Residual(8, squeeze=squeeze) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    if frozen:
        for part in list(net)[:5]:
            _frozen(part)
    return net


def _inverted(size: int) -> nn.Module:
    wide = 2 * size
    return Net(
        lambda self, x: x + self.conv(x),
        conv=nn.Sequential(
            nn.Sequential(nn.Conv2d(size, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6()),
            nn.Sequential(
                nn.Conv2d(wide, wide, 3, 1, 1, groups=wide), nn.BatchNorm2d(wide), nn.ReLU6()
            ),
            nn.Conv2d(wide, size, 1),
            nn.BatchNorm2d(size),
        ),
    )


def _mobilenet() -> nn.Module:
    return Net(
        lambda self, x: self.classifier(self.features(x).mean((2, 3))),
        features=nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), *map(_inverted, (8, 8))),
        classifier=nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 5)),
    )


def _dense() -> nn.Module:
    def call(self: Any, x: Tensor) -> Any:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(x.mean((2, 3)))

    sizes = (3, 7, 11)
    return Net(
        call,
        layers=nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 4, 3, 1, 1)) for n in sizes
        ),
        head=nn.Linear(15, 5),
    )


def _inception() -> nn.Module:
    def call(self: Any, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        y = [F.relu(self.b1(x)), F.relu(self.b2b(F.relu(self.b2a(x))))]
        y.append(self.pool(F.avg_pool2d(x, 3, 1, 1)))
        return self.head(torch.cat(y, 1).mean((2, 3)))

    return Net(
        call,
        stem=nn.Conv2d(3, 8, 3),
        b1=nn.Conv2d(8, 4, 1),
        b2a=nn.Conv2d(8, 4, 1),
        b2b=nn.Conv2d(4, 4, 3, 1, 1),
        pool=nn.Conv2d(8, 4, 1),
        head=nn.Linear(12, 5),
    )


def _plain_cnn() -> nn.Module:
    def call(self: Any, x: Tensor) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.5))

    return Net(
        call,
        conv1=nn.Conv2d(3, 8, 3),
        conv2=nn.Conv2d(8, 8, 3),
        fc1=nn.Linear(8 * 36, 16),
        fc2=nn.Linear(16, 5),
    )


def _unet() -> nn.Module:
    def block(i: int, o: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(i, o, 3, 1, 1), nn.BatchNorm2d(o), nn.ReLU(), nn.Conv2d(o, o, 3, 1, 1),
            nn.ReLU(),
        )  # fmt: skip

    def call(self: Any, x: Tensor) -> Any:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        x = self.middle(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)

    return Net(
        call,
        down=nn.ModuleList([block(3, 4), block(4, 8)]),
        pool=nn.MaxPool2d(2),
        middle=block(8, 16),
        up=nn.ModuleList([nn.ConvTranspose2d(16, 8, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)]),
        merge=nn.ModuleList([block(16, 8), block(8, 4)]),
        head=nn.Conv2d(4, 2, 1),
    )


def _recurrent(kind: Callable[..., nn.Module]) -> nn.Module:
    return Net(
        lambda self, t: self.head(self.drop(self.rnn(self.embed(t))[0][:, -1])),
        embed=nn.Embedding(10, 8),
        rnn=kind(8, 16, num_layers=2, batch_first=True),
        drop=nn.Dropout(0.1),
        head=nn.Linear(16, 5),
    )


def _cell() -> nn.Module:
    def call(self: Any, x: Tensor) -> Any:
        h = torch.zeros(2, 16)
        for step in x.unbind(1):
            h = self.cell(self.inner(step).relu(), h)
        return self.head(h)

    return Net(call, inner=nn.Linear(8, 8), cell=nn.GRUCell(8, 16), head=nn.Linear(16, 5))


def _encoder(norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first)
    return Net(
        lambda self, t: self.head(self.encoder(self.embed(t))),
        embed=nn.Embedding(10, 16),
        encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        head=nn.Linear(16, 5),
    )


def _seq2seq() -> nn.Module:
    return Net(
        lambda self, t: self.head(self.model(self.embed(t), self.embed(t.flip(1)))),
        embed=nn.Embedding(10, 16),
        model=nn.Transformer(16, 2, 2, 2, 32, batch_first=True),
        head=nn.Linear(16, 5),
    )


def _vit() -> nn.Module:
    def call(self: Any, x: Tensor) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])

    return Net(
        call,
        patch=nn.Conv2d(3, 16, 8, 8),
        token=nn.Parameter(torch.zeros(1, 1, 16)),
        positions=nn.Parameter(torch.randn(1, 17, 16)),
        blocks=nn.Sequential(Block(), Block()),
        norm=nn.LayerNorm(16),
        head=nn.Linear(16, 5),
    )


def _mixer() -> nn.Module:
    def call(self: Any, x: Tensor) -> Any:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))

    def mlp(size: int) -> nn.Module:
        return nn.Sequential(nn.Linear(size, 32), nn.GELU(), nn.Linear(32, size))

    def one() -> nn.Module:
        parts = {"tokens": mlp(6), "channels": mlp(16)}
        return Net(call, norm1=nn.LayerNorm(16), norm2=nn.LayerNorm(16), **parts)

    return nn.Sequential(one(), one(), nn.LayerNorm(16))


def _vae() -> nn.Module:
    def call(self: Any, x: Tensor) -> Any:
        h = self.encoder(x)
        mean, log = self.mean(h), self.log_var(h)
        z = mean + (0.5 * log).exp() * torch.randn_like(mean)
        return torch.cat([self.decoder(z), mean.square() + log.exp() - log], 1)

    return Net(
        call,
        encoder=nn.Sequential(nn.Linear(8, 16), nn.ReLU()),
        mean=nn.Linear(16, 4),
        log_var=nn.Linear(16, 4),
        decoder=nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.Sigmoid()),
    )


def _gan() -> nn.Module:
    def deconv(i: int, o: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(i, o, 4, 2, 1), nn.BatchNorm2d(o), nn.ReLU(True)]

    def conv(i: int, o: int) -> list[nn.Module]:
        return [nn.Conv2d(i, o, 4, 2, 1), nn.LeakyReLU(0.2)]

    return Net(
        lambda self, z: self.critic(self.generator(z)),
        generator=nn.Sequential(
            *deconv(4, 8), *deconv(8, 8), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()
        ),
        critic=_frozen(nn.Sequential(*conv(3, 8), *conv(8, 8), nn.Flatten(), nn.Linear(8 * 64, 1))),
    )


def _normed(kind: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(
        kind(nn.Linear(8, 16)), nn.ReLU(), kind(nn.Linear(16, 16)), nn.Tanh(), nn.Linear(16, 2)
    )


def _two_towers() -> nn.Module:
    def tower() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    return Net(
        lambda self, x: (F.normalize(self.left(x)) * F.normalize(self.right(x))).sum(-1),
        left=tower(),
        right=tower(),
    )


def _siamese() -> nn.Module:
    return Net(
        lambda self, x: (self.net(x) - self.net(x.flip(0))).abs(),
        net=nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.Sigmoid()),
    )


def _dueling() -> nn.Module:
    def call(self: Any, x: Tensor) -> Any:
        h = self.body(x)
        value, more = self.value(h), self.advantage(h)
        return value + more - more.mean(-1, keepdim=True)

    def head(size: int) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, size))

    return Net(
        call,
        body=nn.Sequential(nn.Linear(8, 16), nn.ReLU()),
        value=head(1),
        advantage=head(4),
    )


def _activations() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 16), nn.PReLU(), nn.Linear(16, 16), nn.Dropout(0.3), nn.ELU(),
        nn.Linear(16, 16), nn.Softplus(), nn.LayerNorm(16), nn.Hardswish(), nn.Linear(16, 16),
        nn.GLU(), nn.Linear(8, 8), nn.Softmax(-1),
    )  # fmt: skip


def _speech() -> nn.Module:
    def call(self: Any, x: Tensor) -> Any:
        for conv, gate in zip(self.convs, self.gates, strict=True):
            x = x + conv(x).tanh() * gate(x).sigmoid()
        return self.out(x)

    def convs() -> nn.ModuleList:
        return nn.ModuleList(nn.Conv1d(8, 8, 3, 1, n, n) for n in (1, 2, 4))

    return Net(
        call,
        convs=convs(),
        gates=convs(),
        out=nn.Sequential(nn.ReLU(), nn.Conv1d(8, 8, 1), nn.ReLU(), nn.Conv1d(8, 2, 1)),
    )


def _wrapped() -> nn.Module:
    inner = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
    return Net(lambda self, x: self.module(x).tanh(), module=inner)


def _feature_extractor() -> nn.Module:
    return Net(
        lambda self, x: self.head(self.body(self.adapter(x))),
        adapter=nn.Conv2d(3, 3, 1),
        body=_frozen(nn.Sequential(*list(_vgg(norm=True).features))),  # type: ignore[arg-type]
        head=nn.Sequential(nn.Flatten(), nn.Linear(32 * 16, 5)),
    )


MODELS: dict[str, Callable[[], Made]] = {
    "vgg": lambda: (_vgg(False), _on(2, 3, 32, 32)),
    "vgg with norms": lambda: (_vgg(True), _on(2, 3, 32, 32)),
    "alexnet": lambda: (_alexnet(), _on(2, 3, 64, 64)),
    "plain cnn": lambda: (_plain_cnn(), _on(2, 3, 30, 30)),
    "resnet": lambda: (_resnet(), _on(2, 3, 32, 32)),
    "resnet, squeeze and excitation": lambda: (_resnet(squeeze=True), _on(2, 3, 32, 32)),
    "resnet, half frozen": lambda: (_resnet(frozen=True), _on(2, 3, 32, 32)),
    "frozen features, trained ends": lambda: (_feature_extractor(), _on(2, 3, 32, 32)),
    "mobilenet": lambda: (_mobilenet(), _on(2, 3, 32, 32)),
    "densenet": lambda: (_dense(), _on(2, 3, 16, 16)),
    "inception": lambda: (_inception(), _on(2, 3, 16, 16)),
    "unet": lambda: (_unet(), _on(2, 3, 32, 32)),
    "gan, frozen critic": lambda: (_gan(), _on(2, 4, 4, 4)),
    "vae": lambda: (_vae(), _on(2, 8)),
    "gpt": lambda: (_gpt(), _on_tokens()),
    "gpt, tied": lambda: (_gpt(tied=True), _on_tokens()),
    "gpt, LoRA": lambda: (_gpt(lora=True), _on_tokens()),
    "llama": lambda: (_llama(), _on_tokens()),
    "encoder, norm first": lambda: (_encoder(True), _on_tokens()),
    "encoder, norm last": lambda: (_encoder(False), _on_tokens()),
    "sequence to sequence": lambda: (_seq2seq(), _on_tokens()),
    "vit": lambda: (_vit(), _on(2, 3, 32, 32)),
    "mixer": lambda: (_mixer(), _on(2, 6, 16)),
    "lstm": lambda: (_recurrent(nn.LSTM), _on_tokens()),
    "gru": lambda: (_recurrent(nn.GRU), _on_tokens()),
    "rnn": lambda: (_recurrent(nn.RNN), _on_tokens()),
    "gru cell, unrolled": lambda: (_cell(), _on(2, 6, 8)),
    "weight norm": lambda: (_normed(nn.utils.parametrizations.weight_norm), _on(2, 8)),
    "spectral norm": lambda: (_normed(nn.utils.parametrizations.spectral_norm), _on(2, 8)),
    "two towers": lambda: (_two_towers(), _on(2, 8)),
    "siamese": lambda: (_siamese(), _on(2, 8)),
    "dueling heads": lambda: (_dueling(), _on(2, 8)),
    "activations": lambda: (_activations(), _on(2, 8)),
    "dilated convolutions": lambda: (_speech(), _on(2, 8, 16)),
    "its own module.": lambda: (_wrapped(), _on(2, 8)),
}
