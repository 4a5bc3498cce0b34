"""Programs whose pictures tend to be wide: skip connections, towers, heads, several losses.

Each function returns the module or dict that names the tensors, a function that computes the
loss, and one that runs a training step with its optimizers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional


class Program(NamedTuple):
    """What names the tensors, what computes the loss, and what runs a training step."""

    names: Any
    loss: Callable[[], Any]
    step: Callable[[], None]


def trained(model: nn.Module, loss: Callable[[], Any]) -> Program:
    """A program with one optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return Program(model, loss, step)


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class WaveBlock(nn.Module):
    """A gated dilated convolution with a residual and a skip output."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.filter = nn.Conv1d(width, width, 2, dilation=dilation)
        self.gate = nn.Conv1d(width, width, 2, dilation=dilation)
        self.residual, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)
        self.dilation = dilation

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded = functional.pad(x, (self.dilation, 0))
        z = torch.tanh(self.filter(padded)) * torch.sigmoid(self.gate(padded))
        return x + self.residual(z), self.skip(z)


class WaveNet(nn.Module):
    """Blocks whose skip outputs are added."""

    def __init__(self, width: int = 8, layers: int = 6) -> None:
        super().__init__()
        self.start = nn.Conv1d(1, width, 1)
        self.blocks = nn.ModuleList(WaveBlock(width, 2**n) for n in range(layers))
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU())
        self.out = nn.Conv1d(width, 16, 1)

    def forward(self, x: Tensor) -> Any:
        x, skips = self.start(x), []
        for block in self.blocks:
            x, skip = block(x)
            skips.append(skip)
        return self.out(self.end(torch.stack(skips).sum(0)))


def wavenet() -> Program:
    model, x = WaveNet(), torch.randn(2, 1, 64)
    target = torch.randint(0, 16, (2, 64))
    return trained(model, lambda: functional.cross_entropy(model(x), target))


def wavenet_added() -> Program:
    """Its skip outputs are added one by one, over ten blocks."""

    class Added(WaveNet):
        def forward(self, x: Tensor) -> Any:
            x, total = self.start(x), 0
            for block in self.blocks:
                x, skip = block(x)
                total = total + skip
            return self.out(self.end(total))

    model, x = Added(layers=10), torch.randn(2, 1, 64)
    target = torch.randint(0, 16, (2, 64))
    return trained(model, lambda: functional.cross_entropy(model(x), target))


class Actor(nn.Module):
    """A squashed Gaussian policy."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean, self.log_std = mlp(4, 16, 16), nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(state).relu()
        std = self.log_std(hidden).clamp(-20, 2).exp()
        normal = torch.distributions.Normal(self.mean(hidden), std)
        sample = normal.rsample()
        action = torch.tanh(sample)
        log_prob = normal.log_prob(sample)  # type: ignore[no-untyped-call]
        log_prob = log_prob - torch.log(1 - action.pow(2) + 1e-6)
        return action, log_prob.sum(-1, keepdim=True)


def sac() -> Program:
    """Soft actor-critic: twin critics, their targets, a policy and a temperature."""
    actor = Actor()
    critics = nn.ModuleDict({name: mlp(6, 16, 16, 1) for name in ("q1", "q2")})
    targets = nn.ModuleDict({name: mlp(6, 16, 16, 1) for name in ("q1", "q2")})
    targets.load_state_dict(critics.state_dict())
    log_alpha = nn.Parameter(torch.zeros(1))
    model = nn.ModuleDict({"actor": actor, "critics": critics, "targets": targets})
    model.register_parameter("log_alpha", log_alpha)
    state, action = torch.randn(8, 4), torch.randn(8, 2)
    reward, following = torch.randn(8, 1), torch.randn(8, 4)
    optimizers = [
        torch.optim.Adam(list(part), lr=1e-3)
        for part in (critics.parameters(), actor.parameters(), [log_alpha])
    ]

    def critic_loss() -> Any:
        with torch.no_grad():
            new_action, log_prob = actor(following)
            pair = torch.cat([following, new_action], 1)
            least = torch.min(targets["q1"](pair), targets["q2"](pair))
            goal = reward + 0.99 * (least - log_alpha.exp() * log_prob)
        pair = torch.cat([state, action], 1)
        return functional.mse_loss(critics["q1"](pair), goal) + functional.mse_loss(
            critics["q2"](pair), goal
        )

    def actor_loss() -> tuple[Any, Any]:
        new_action, log_prob = actor(state)
        pair = torch.cat([state, new_action], 1)
        least = torch.min(critics["q1"](pair), critics["q2"](pair))
        entropy = (log_alpha.exp() * (-log_prob.detach() - 2)).mean()
        return (log_alpha.exp().detach() * log_prob - least).mean(), entropy

    def step() -> None:
        for optimizer, loss in zip(optimizers[:1], [critic_loss()], strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for optimizer, loss in zip(optimizers[1:], actor_loss(), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            for kept, new in zip(targets.parameters(), critics.parameters(), strict=True):
                kept.mul_(0.995).add_(new, alpha=0.005)

    def loss() -> Any:
        return critic_loss() + sum(actor_loss())

    return Program(model, loss, step)


class Tower(nn.Module):
    """An encoder of tokens and its projection."""

    def __init__(self, inputs: nn.Module, layers: int = 4) -> None:
        super().__init__()
        self.inputs = inputs
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm, self.project = nn.LayerNorm(16), nn.Linear(16, 8, bias=False)

    def forward(self, x: Tensor) -> Any:
        y = self.inputs(x)
        y = y if y.dim() == 3 else y.flatten(2).transpose(1, 2)
        return functional.normalize(self.project(self.norm(self.encoder(y)[:, 0])), dim=-1)


class CLIP(nn.Module):
    """Two towers and the contrastive loss of both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Tower(nn.Conv2d(3, 16, 8, 8))
        self.text = Tower(nn.Embedding(50, 16))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, tokens: Tensor) -> Any:
        logits = self.logit_scale.exp() * self.image(images) @ self.text(tokens).T
        labels = torch.arange(len(logits))
        return (
            functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)
        ) / 2


def clip() -> Program:
    model, images, tokens = CLIP(), torch.randn(4, 3, 32, 32), torch.randint(0, 50, (4, 8))
    return trained(model, lambda: model(images, tokens))


class MixtureDensity(nn.Module):
    """A network that predicts a mixture of normal distributions."""

    def __init__(self, k: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, 20), nn.Tanh())
        self.pi, self.mu, self.sigma = nn.Linear(20, k), nn.Linear(20, k), nn.Linear(20, k)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        hidden = self.body(x)
        pi = functional.log_softmax(self.pi(hidden), -1)
        mu, sigma = self.mu(hidden), self.sigma(hidden).exp()
        log_prob = -0.5 * ((y - mu) / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)
        return -torch.logsumexp(pi + log_prob, -1).mean()


def mixture_density() -> Program:
    model, x, y = MixtureDensity(), torch.randn(32, 1), torch.randn(32, 1)
    return trained(model, lambda: model(x, y))


class Seq2Seq(nn.Module):
    """An encoder and a decoder with attention, fed with the right token or its own."""

    def __init__(self, words: int = 20, width: int = 16, forced: bool = True) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(words, width), nn.Embedding(words, width)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.attention = nn.Linear(2 * width, width)
        self.score = nn.Linear(width, 1, bias=False)
        self.cell = nn.GRUCell(2 * width, width)
        self.out = nn.Linear(width, words)
        self.forced = forced

    def forward(self, source: Tensor, target: Tensor) -> Any:
        memory, state = self.encoder(self.source(source))
        state, token, losses = state[0], target[:, 0], []
        for step in range(1, target.shape[1]):
            spread = state.unsqueeze(1).expand_as(memory)
            energy = torch.tanh(self.attention(torch.cat([memory, spread], -1)))
            weights = self.score(energy).squeeze(-1).softmax(-1)
            context = (weights.unsqueeze(1) @ memory).squeeze(1)
            state = self.cell(torch.cat([self.target(token), context], -1), state)
            logits = self.out(state)
            losses.append(functional.cross_entropy(logits, target[:, step]))
            token = target[:, step] if self.forced or step % 2 else logits.argmax(-1)
        return torch.stack(losses).mean()


def seq2seq(forced: bool = False) -> Program:
    model = Seq2Seq(forced=forced)
    source, target = torch.randint(0, 20, (4, 7)), torch.randint(0, 20, (4, 6))
    return trained(model, lambda: model(source, target))


def maml(first_order: bool = True, tasks: int = 3) -> Program:
    """Meta-learning: the loss after two inner steps on each of some tasks."""
    model = mlp(1, 16, 16, 1)
    data = [torch.randn(4, 8, 1) for _ in range(tasks)]

    def loss() -> Any:
        losses = []
        for x, y, new_x, new_y in data:
            fast: dict[str, Tensor] = dict(model.named_parameters())
            for _ in range(2):
                inner = functional.mse_loss(functional_call(model, fast, (x,)), y)
                grads = torch.autograd.grad(
                    inner, list(fast.values()), create_graph=not first_order
                )
                new = zip(fast.items(), grads, strict=True)
                fast = {name: value - 0.1 * grad for (name, value), grad in new}
            losses.append(functional.mse_loss(functional_call(model, fast, (new_x,)), new_y))
        return torch.stack(losses).mean()

    return trained(model, loss)


class UNet(nn.Module):
    """A U-Net with levels of two convolutions, perhaps told the time of a diffusion."""

    def __init__(self, levels: int = 5, width: int = 4, times: bool = False) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(self.block(i, o) for i, o in pairwise([3, *sizes]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(o, i, 2, 2) for i, o in pairwise(sizes))
        self.merge = nn.ModuleList(self.block(2 * size, size) for size in sizes[:-1])
        self.head = nn.Conv2d(width, 3, 1)
        self.time = mlp(16, 32, 32) if times else None
        self.shift: Any = nn.ModuleList(nn.Linear(32, size) for size in sizes) if times else []

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for size in (inputs, outputs):
            layers += [nn.Conv2d(size, outputs, 3, 1, 1), nn.GroupNorm(2, outputs), nn.SiLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Any:
        skips, told = [], None
        if self.time is not None and time is not None:
            rates = torch.exp(-torch.arange(8) * 0.5)
            angles = time[:, None] * rates
            told = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        for level, down in enumerate(self.down):
            x = down(functional.max_pool2d(x, 2) if level else x)
            if told is not None:
                x = x + self.shift[level](told)[:, :, None, None]
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = self.merge[level](torch.cat([skips[level], self.up[level](x)], 1))
        return self.head(x)


def unet() -> Program:
    model, x = UNet(), torch.randn(1, 3, 32, 32)
    return trained(model, lambda: model(x).square().mean())


def diffusion() -> Program:
    """The loss of a noise predictor."""
    model, x = UNet(levels=3, times=True), torch.randn(2, 3, 16, 16)

    def loss() -> Any:
        time = torch.rand(2)
        share = torch.cos(time * math.pi / 2)[:, None, None, None]
        noise = torch.randn_like(x)
        noisy = share * x + (1 - share**2).sqrt() * noise
        return functional.mse_loss(model(noisy, time), noise)

    return trained(model, loss)


def gan() -> Program:
    """A training step of a generator and a discriminator."""
    generator, discriminator = mlp(8, 32, 32, 4), mlp(4, 32, 32, 1)
    model = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
    for_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
    for_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    real, noise = torch.randn(16, 4), torch.randn(16, 8)
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    criterion = functional.binary_cross_entropy_with_logits

    def loss_d() -> Any:
        fake = generator(noise).detach()
        return criterion(discriminator(real), ones) + criterion(discriminator(fake), zeros)

    def loss_g() -> Any:
        return criterion(discriminator(generator(noise)), ones)

    def step() -> None:
        for optimizer, loss in ((for_d, loss_d), (for_g, loss_g)):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    return Program(model, lambda: loss_d() + loss_g(), step)


class Heads(nn.Module):
    """A trunk and twelve heads of several sizes, with a weight for each loss."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = mlp(10, 32, 32)
        names = ["age", "sex", "income", "city", "job", "pet", "car", "food", "sport", "hue"]
        names += ["music", "book"]
        self.heads = nn.ModuleDict({name: nn.Linear(32, 1 + n % 4) for n, name in enumerate(names)})
        self.log_vars = nn.ParameterDict({name: torch.zeros(()) for name in names})

    def forward(self, x: Tensor) -> Any:
        hidden, total = self.trunk(x), torch.zeros(())
        for name, head in self.heads.items():
            out, log_var = head(hidden), self.log_vars[name]
            if out.shape[1] == 1:
                loss = out.square().mean()
            else:
                loss = functional.cross_entropy(out, torch.zeros(len(x), dtype=torch.long))
            total = total + (-log_var).exp() * loss + log_var
        return total


def multi_task() -> Program:
    model, x = Heads(), torch.randn(6, 10)
    return trained(model, lambda: model(x))


class DLRM(nn.Module):
    """Dense and sparse features, their products, and a top network."""

    def __init__(self, tables: int = 8) -> None:
        super().__init__()
        self.bottom = mlp(13, 32, 8)
        self.tables = nn.ModuleList(nn.EmbeddingBag(20 + n, 8, mode="sum") for n in range(tables))
        self.top = mlp(8 + tables * (tables + 1) // 2, 32, 1)

    def forward(self, dense: Tensor, sparse: Tensor) -> Any:
        x = self.bottom(dense)
        rows = [x, *(table(sparse[n]) for n, table in enumerate(self.tables))]
        stacked = torch.stack(rows, 1)
        products = stacked @ stacked.transpose(1, 2)
        i, j = torch.tril_indices(len(rows), len(rows), -1)
        return self.top(torch.cat([x, products[:, i, j]], 1))


def dlrm() -> Program:
    model, dense, sparse = DLRM(), torch.randn(4, 13), torch.randint(0, 20, (8, 4, 3))
    labels = torch.ones(4, 1)
    loss = functional.binary_cross_entropy_with_logits
    return trained(model, lambda: loss(model(dense, sparse), labels))


class Relations(nn.Module):
    """A graph network with a weight for each of three relations, in two layers."""

    def __init__(self) -> None:
        super().__init__()
        kinds = ("cites", "writes", "affiliated")
        self.layers: Any = nn.ModuleList(
            nn.ModuleDict({"self": nn.Linear(8, 8), **{kind: nn.Linear(8, 8) for kind in kinds}})
            for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.out = nn.Linear(8, 3)
        self.kinds = kinds

    def forward(self, x: Tensor, edges: dict[str, Tensor]) -> Any:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            total = layer["self"](x)
            for kind in self.kinds:
                sources, targets = edges[kind]
                sent = layer[kind](x)[sources]
                total = total + torch.zeros_like(x).index_add(0, targets, sent)
            x = norm(total).relu() + x
        return self.out(x)


def relations() -> Program:
    model, x = Relations(), torch.randn(10, 8)
    edges = {kind: torch.randint(0, 10, (2, 20)) for kind in model.kinds}
    labels = torch.randint(0, 3, (10,))
    return trained(model, lambda: functional.cross_entropy(model(x, edges), labels))


def triplet() -> Program:
    """One encoder, called for the anchor, the positive and the negative."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(8)
    )
    anchor, positive, negative = torch.randn(3, 4, 1, 10, 10)
    model(anchor)
    loss = nn.TripletMarginLoss()
    return trained(model, lambda: loss(model(anchor), model(positive), model(negative)))


class VAE(nn.Module):
    """A variational autoencoder with two losses."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(12, 32, 32), mlp(4, 32, 12)
        self.mu, self.log_var = nn.Linear(32, 4), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Any:
        hidden = self.encoder(x).relu()
        mu, log_var = self.mu(hidden), self.log_var(hidden)
        z = mu + torch.randn_like(mu) * (0.5 * log_var).exp()
        kl = -0.5 * (1 + log_var - mu.pow(2) - log_var.exp()).sum(1).mean()
        return functional.mse_loss(self.decoder(z), x) + 0.1 * kl


def vae() -> Program:
    model, x = VAE(), torch.randn(8, 12)
    return trained(model, lambda: model(x))


class DenseNet(nn.Module):
    """Layers that each read the results of all layers before them."""

    def __init__(self, layers: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8 + 4 * n, 4) for n in range(layers))
        self.out = nn.Linear(8 + 4 * layers, 2)

    def forward(self, x: Tensor) -> Any:
        found = [x]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)).relu())
        return self.out(torch.cat(found, 1))


def dense_net() -> Program:
    model, x = DenseNet(), torch.randn(4, 8)
    return trained(model, lambda: model(x).square().mean())


def ppo() -> Program:
    """Two epochs over one batch: a clipped policy, a value and an entropy."""
    policy, value = mlp(4, 32, 32, 3), mlp(4, 32, 32, 1)
    model = nn.ModuleDict({"policy": policy, "value": value})
    states, actions = torch.randn(16, 4), torch.randint(0, 3, (16,))
    returns, before = torch.randn(16), torch.randn(16) * 0.1 - 1.1

    def loss() -> Any:
        chosen = torch.distributions.Categorical(logits=policy(states))
        values = value(states).squeeze(-1)
        gains = (returns - values).detach()
        ratio = (chosen.log_prob(actions) - before).exp()  # type: ignore[no-untyped-call]
        gain = torch.min(ratio * gains, ratio.clamp(0.8, 1.2) * gains).mean()
        spread: Any = chosen.entropy()  # type: ignore[no-untyped-call]
        return -gain + 0.5 * functional.mse_loss(values, returns) - 0.01 * spread.mean()

    return trained(model, loss)


def distillation() -> Program:
    """A student that follows a frozen teacher and the labels."""
    student, teacher = mlp(8, 16, 5), mlp(8, 64, 64, 5)
    teacher.requires_grad_(False)
    model = nn.ModuleDict({"student": student, "teacher": teacher})
    x, labels = torch.randn(16, 8), torch.randint(0, 5, (16,))

    def loss() -> Any:
        logits, goal = student(x), teacher(x)
        soft = (
            functional.kl_div(
                functional.log_softmax(logits / 2, -1),
                functional.softmax(goal / 2, -1),
                reduction="batchmean",
            )
            * 4
        )
        return soft + functional.cross_entropy(logits, labels)

    return trained(model, loss)


PROGRAMS: dict[str, Callable[[], Program]] = {
    each.__name__: each
    for each in (
        wavenet,
        wavenet_added,
        sac,
        clip,
        mixture_density,
        seq2seq,
        maml,
        unet,
        diffusion,
        gan,
        multi_task,
        dlrm,
        relations,
        triplet,
        vae,
        dense_net,
        ppo,
        distillation,
    )
}
"""Each by its name."""
