"""Whole training loops, put together from parts of which it is known what each does.

A third of the programs are healthy. The others have one fault, and it is known which verdicts are
right for each parameter, and which lines. Seeds from `LOOPS` on make these programs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fuzz_parts import Program

import gradviz

__all__ = ["LOOPS", "LoopMaker", "LoopProgram", "wrong_answers"]

LOOPS = 1_000_000
RICHER = 1_010_000  # seeds from here on: more parts, drawn from a generator of their own


class Right(NamedTuple):
    """What is right about a parameter.

    Args:
        verdicts: any of these.
        lines: one of these lines is named, and no other; none if any line may be named.
    """

    verdicts: tuple[str, ...]
    lines: frozenset[int] = frozenset()


@dataclass
class LoopProgram(Program):
    """A training loop.

    Args:
        right: by the beginning of a parameter's name; "" is of all others.
        fault: what is wrong with it; "" if nothing is.
        is_cleared: whether gradients are cleared after the step that used them.
    """

    is_cleared: bool = False
    right: dict[str, Right] = field(default_factory=dict)
    fault: str = ""

    @property
    def copies(self) -> set[int]:
        """The lines that copy the parameters, or use copies: true cuts as well."""
        words = ["target", "ema", "        p.", "self.mean.", "torch.no_grad()"]
        if any("h - self.mean" in line for line in self.lines):  # data of an evaluation goes on
            words.append("self.enc(x)")
        return {n for n, line in enumerate(self.lines, 1) if any(word in line for word in words)}

    def of(self, name: str) -> Right:
        """What is right about a parameter."""
        fits = [each for each in self.right if name.startswith(each)]
        return self.right[max(fits, key=len)]


_NONE = ("cut", "not connected")
_OUT = ("left out of the optimizer",)
_CUTS = {
    "detach": ("h = h.detach()",),
    "no_grad": ("with torch.no_grad():", "    h = h * 2"),
    "data": ("h = h.data + 0.1",),
    "item": ("h = torch.linspace(-1, 1, 6).expand(len(x), 6) * h.mean().item()",),
    "argmax": ("h = nn.functional.one_hot(h.argmax(1), 6).float()",),
    "numpy": ("h = torch.from_numpy(h.detach().numpy() * 2)",),
    "round": ("h = (h * 10).round().long() / 10",),
}
_FORWARD = {
    **_CUTS,
    "nan": ("h = (h.tanh() - 2).log()",),
    "changed": ("h = h.sigmoid()", "h += 1"),
    "changed later": ("kept = h.exp()", "out = kept * h", "kept.mul_(0.5)", "h = out + kept"),
}
_ERRORS = {
    "changed": "changed in place",
    "changed later": "changed in place",
    "second backward": "backward a second time",
    "gradients off": "nothing to differentiate",
    "all frozen": "nothing to differentiate",
    "number as loss": "nothing to differentiate",
}
_OTHERS = (
    *("missing zero_grad", "zeroed before step", "head only", "unused", "clipped early"),
    *("clipped late", "missing step", "mask", "hook", "loss from a number", "plain list"),
    *("optimizer of a copy", "misspelt", "moved", "inputs"),
)
_FAULTS = (*dict.fromkeys((*_FORWARD, *_ERRORS)), *_OTHERS)
_ACTIVATIONS = (
    *("h = h.tanh()", "h = nn.functional.silu(h)", "h = nn.functional.gelu(h)", "h = torch.sin(h)"),
    *("h = nn.functional.leaky_relu(h, 0.1, inplace=True)", "h = nn.functional.elu_(h)"),
    *("h = self.act(h)", "h = h * torch.sigmoid(h)", "h = h.clamp(-50, 50)"),
    *("h = self.drop(h)", "h = torch.where(h > 0, h, 0.1 * h)", "h = h.addcmul(h, h)"),
)


class LoopMaker:
    """Makes one program."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.more = random.Random(-seed) if seed >= RICHER else None
        self.program = LoopProgram(seed)
        self.lines = self.program.lines
        if self._may(0.66):
            self.program.fault = str(self._one(*_FAULTS))
        fault = self.fault = self.program.fault
        self.micro = self._one(0, 0, 0, 2, 3)
        self.frozen = "" if fault else self._one("", "", "", "before", "thawed", "later")
        self.zeroing = self._one("first", "first", "after step", "zeros", "before backward", "loop")
        self.two = self._may(0.25) and fault not in ("moved", "missing step", "zeroed before step")
        kind = self._one("", "", "", "use_reentrant=False", "use_reentrant=True")
        self.checkpoint = "" if self.frozen or fault in _NOT_CHECKPOINTED else kind
        if fault in ("zeroed before step", "inputs", "clipped late", "moved", "number as loss"):
            self.zeroing, self.micro = "zeros" if fault == "moved" else "first", 0
        if fault == "missing zero_grad":
            self.zeroing = "none"
        if self.micro and self.zeroing == "before backward":
            self.zeroing = "first"
        is_simple = fault in ("", *_CUTS, "unused", "head only")
        # A step of the scaler raises an error if an optimizer has no gradient at all.
        self.scaler = is_simple and not (fault and self.two) and self._also(0.25)
        self.every = not fault and not self.micro and self.zeroing == "after step"
        self.every = self.every and not self.frozen and self._also(0.5)
        self.best = is_simple and self._also(0.2)
        sums = bool(self.micro or self.every)
        self._right("", "fine", "cleared", *(("accumulated",) if sums else ()))

    def _one(self, *values: Any) -> Any:
        return self.random.choice(values)

    def _may(self, chance: float) -> bool:
        return self.random.random() < chance

    def _also(self, chance: float) -> bool:
        """Whether a richer program has a part."""
        return self.more is not None and self.more.random() < chance

    def _say(self, *lines: str, indent: int = 0) -> int:
        """Add lines; the number of the last."""
        self.lines += [f"{'    ' * indent}{line}" for line in lines]
        return len(self.lines)

    def _right(self, where: str, *verdicts: str, lines: tuple[int, ...] = ()) -> None:
        self.program.right[where] = Right(verdicts, frozenset(lines))

    def make(self) -> LoopProgram:
        """The program."""
        self._say("import copy", "import torch", "from torch import nn")
        self._say("from torch.utils.checkpoint import checkpoint", "class Net(nn.Module):")
        self._net()
        self._say("torch.manual_seed(0)", "model = Net()")
        self._prepare()
        self._say(f"for step in range({self._one(2, 3, 4)}):")
        if self.frozen == "later":
            self._freeze(self._say("if step == 1: model.enc.requires_grad_(False)", indent=1))
        if self.frozen == "thawed":
            self._say("if step == 1: model.enc.requires_grad_(True)", indent=1)
        if self.fault == "moved":
            self._say("if step == 1: model.enc.requires_grad_(False)", indent=1)
            self._right("model.enc", "frozen but updated")
        self._step()
        return self.program

    # The model.

    def _net(self) -> None:
        fault = self.fault
        mid = "[nn.Linear(6, 6)]" if fault == "plain list" else "nn.Linear(6, 6)"
        self._say("def __init__(self):", indent=1)
        self._say("super().__init__()", "self.enc = nn.Linear(3, 6)", f"self.mid = {mid}", indent=2)
        self._say("self.head = nn.Linear(6, 2)", "self.act = nn.Softplus()", indent=2)
        self._say("self.drop = nn.Dropout(0.1)", "self.norm = nn.LayerNorm(6)", indent=2)
        self._say("self.register_buffer('mean', torch.zeros(6))", indent=2)
        if fault == "unused":
            self._say("self.extra = nn.Linear(6, 6)", indent=2)
            self._right("model.extra", "not connected", "not trained", "in no graph")
        self._say("def forward(self, x):", indent=1)
        self._say("h = self.enc(x)", self._one(*_ACTIVATIONS), indent=2)
        if fault in _CUTS and ">" in self.lines[-1]:  # a comparison is a cut as well
            self.lines.pop()
        if self._may(0.3):
            self._buffer()
        if fault in _FORWARD:
            last = self._say(*_FORWARD[fault], indent=2)
            lines = tuple(range(last + 1 - len(_FORWARD[fault]), last + 1))
            if fault in _CUTS:
                self._right("model.enc", *_NONE, lines=lines)
            elif fault == "nan":
                self._right("", "NaN", lines=lines)
                # The derivative of abs at NaN is 0.
                clamped = (
                    ["model.enc"] if "clamp" in "".join(self.lines) else []
                )  # so that of clamp
                for bias in ("model.head.bias", "model.norm.bias", *clamped):
                    self._right(bias, "NaN", "zero")
            else:
                self._right("error", _ERRORS[fault], lines=lines)
        middle = "self.mid[0]" if fault == "plain list" else "self.mid"
        if self.checkpoint:
            middle = f"checkpoint({middle}, h, {self.checkpoint})"
            self._say(f"h = {middle}", indent=2)
        else:
            self._say(f"h = {middle}(h)", indent=2)
        self._say("h = self.norm(h)", self._one(*_ACTIVATIONS), "return self.head(h)", indent=2)
        if fault == "plain list":
            self._right("model.mid", "not registered", *_OUT, "accumulated")

    def _buffer(self) -> None:
        self._say(
            *self._one(
                (
                    "with torch.no_grad():",
                    "    self.mean.mul_(0.9).add_(h.mean(0), alpha=0.1)",
                    "h = h - self.mean",
                ),
                ("self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)",),
                ("self.mean.copy_(h.detach().mean(0))",),
                ("self.last = h.detach()",),
            ),
            indent=2,
        )

    # Before the loop.

    def _prepare(self) -> None:
        fault = self.fault
        if self.frozen in ("before", "thawed"):
            line = self._say("model.enc.requires_grad_(False)")
            if self.frozen == "before":
                self._freeze(line)
        if fault == "misspelt":
            line = self._say("model.enc.require_grad = False")
            self._right("model.enc", "attribute without effect", lines=(line,))
        if fault == "all frozen":
            line = self._say("for p in model.parameters(): p.requires_grad_(False)")
            self._right("error", _ERRORS[fault], lines=(line,))
        self._optimizers()
        if fault == "hook":
            code = self._one("lambda g: g * 0", "lambda g: torch.zeros_like(g)")
            line = self._say(f"model.mid.weight.register_hook({code})")
            self._right("model.mid.weight", "hook returned another", "zero", lines=(line,))
        self._extras()

    def _freeze(self, line: int) -> None:
        moved = ("frozen but updated",) if self.zeroing == "zeros" else ()
        self._right("model.enc", "frozen", "not trained", "fine", *moved, lines=(line,))

    def _optimizers(self) -> None:
        fault, model = self.fault, "model"
        kind, more = self._one(
            ("SGD", "lr=0.01"), ("SGD", "lr=0.01, momentum=0.9"), ("Adam", "lr=0.001"),
            ("AdamW", "lr=0.001, weight_decay=0.1"), ("RMSprop", "lr=0.001"),
            ("Adam", "lr=0.001, foreach=False"),
        )  # fmt: skip
        if fault == "moved":
            kind, more = "SGD", "lr=0.01, momentum=0.9"
        if fault == "optimizer of a copy":
            model = "copy.deepcopy(model)"
            self._right("", *_OUT)
        self.optimizers = ["optimizer"]
        if fault == "head only":
            self._say(f"optimizer = torch.optim.{kind}(model.head.parameters(), {more})")
            self._right("", *_OUT)
            self._right("model.head", "fine", "cleared", *(("accumulated",) if self.micro else ()))
        elif self.two and fault not in ("optimizer of a copy", "plain list", "unused"):
            self.optimizers.append("second")
            self._say(
                f"optimizer = torch.optim.{kind}(model.enc.parameters(), {more})",
                "second = torch.optim.SGD([*model.mid.parameters(), *model.norm.parameters(),",
                "                          *model.head.parameters()], lr=0.01)",
            )
        else:
            self._say(f"optimizer = torch.optim.{kind}({model}.parameters(), {more})")

    def _extras(self) -> None:
        """What stands beside the training, and does nothing to it."""
        self.ema = self._may(0.25)
        if self.ema:
            frozen = ".requires_grad_(False)" if self._may(0.5) else ""
            self._say(f"ema = copy.deepcopy(model){frozen}")
        self.averaged = self._also(0.2)
        if self.averaged:
            self._say("averaged = torch.optim.swa_utils.AveragedModel(model)")
        if self.scaler:
            self._say("scaler = torch.amp.GradScaler('cpu')")
        self.target = self._may(0.2)
        if self.target:
            self._say("target = copy.deepcopy(model)")
            if self._may(0.7):
                self._say("for p in target.parameters(): p.requires_grad_(False)")
        self.scheduler = self._may(0.3)
        if self.scheduler:
            kind = self._one("StepLR(optimizer, 1)", "CosineAnnealingLR(optimizer, 5)")
            if self._also(0.3):  # the first learning rate is 0
                kind = "LambdaLR(optimizer, lambda step: min(1.0, step / 2))"
            elif self._also(0.3):
                kind = "LinearLR(optimizer, 0.1, total_iters=2)"
            self._say(f"scheduler = torch.optim.lr_scheduler.{kind}")
        if self._may(0.25):
            self._say(
                *self._one(
                    ("kept = {}", "def keep(module, given, out): kept['h'] = out.detach()"),
                    ("kept = {}", "def keep(module, given, out): kept['h'] = out"),
                    ("kept = []", "def keep(module, given, out): kept.append(out.mean().item())"),
                ),
                "model.norm.register_forward_hook(keep)",
            )
        if self._may(0.25) and self.fault != "all frozen":
            self._say(
                "norms = []",
                *self._one(
                    (
                        "model.head.register_full_backward_hook(",
                        "    lambda module, gi, go: norms.append(go[0].norm().item()))",
                    ),
                    ("model.head.weight.register_hook(lambda g: norms.append(g.norm().item()))",),
                    (
                        "model.head.weight.register_post_accumulate_grad_hook(",
                        "    lambda p: norms.append(p.grad.norm().item()))",
                    ),
                ),
            )

    # One step.

    def _clear(self, at: int = 1) -> int:
        """Clear the gradients."""
        given = "set_to_none=False" if self.zeroing == "zeros" else ""
        if self.zeroing == "loop":
            return self._say("for p in model.parameters(): p.grad = None", indent=at)
        if self.fault in ("head only", "optimizer of a copy") or self._may(0.4):
            return self._say(f"model.zero_grad({given})", indent=at)
        return self._say(*(f"{each}.zero_grad({given})" for each in self.optimizers), indent=at)

    def _step(self) -> None:
        fault = self.fault
        if self.zeroing in ("first", "zeros", "loop") and fault != "zeroed before step":
            self._clear()
        if fault == "clipped early":
            self._say("nn.utils.clip_grad_norm_(model.parameters(), 0.5)", indent=1)
            late = ("clipped after the step",) if self.zeroing == "before backward" else ()
            self._right("", "clipped before backward", *late)
        if self.micro:
            self._say(f"for part in range({self.micro}):", indent=1)
        at = 2 if self.micro else 1
        self._loss(at)
        if self.zeroing == "before backward":
            self._clear()
        self._backward(at)
        self._after_backward()

    def _loss(self, at: int) -> None:
        fault = self.fault
        left_out = ("changed", "changed later", "nan", "inputs", "numpy")
        autocast = self._may(0.15) and fault not in left_out
        self._say("x = torch.randn(8, 3)", "y = x[:, :2].sin()", indent=at)
        if autocast and not self.checkpoint and not self.target:
            self._say("with torch.autocast('cpu', dtype=torch.bfloat16):", indent=at)
            self._say("out = model(x)", indent=at + 1)
            self._say("out = out.float()", indent=at)
        else:
            self._say("out = model(x)", indent=at)
        if self.target:
            goal = self._one(
                ("with torch.no_grad():", "    y = y + 0.1 * target(x)"),
                ("y = y + 0.1 * target(x).detach()",),
                ("y = (y + 0.1 * target(x)).data",),
            )
            self._say(*goal, indent=at)
        if fault == "mask":
            line = self._say("out = out * torch.zeros(8, 1)", indent=at)
            self._right("", "zero", lines=(line,))
            self._say("loss = out.abs().mean()", indent=at)
        else:
            loss = self._one(
                *("nn.functional.mse_loss(out, y)", "(out - y).pow(2).mean()"),
                "(out - y).pow(2).sum().sqrt()",
                *("nn.functional.smooth_l1_loss(out, y)", "((out - y) ** 2).sum(1).mean()"),
                *("nn.functional.cross_entropy(out, y.argmax(1))", "out.exp().sum()"),
            )  # fmt: skip
            self._say(f"loss = {loss}", indent=at)
        if self.micro:
            self._say(f"loss = loss / {self.micro}", indent=at)
        if fault == "number as loss":
            self._right("error", _ERRORS[fault], lines=(self._say(*self._one(
                ("loss = torch.tensor(loss.item())",), ("loss = loss.detach()",),
                ("loss = torch.as_tensor(float(loss))",), ("loss = loss.data * 1",),
            ), indent=at),))  # fmt: skip
        if fault == "loss from a number":
            line = self._say("loss = torch.tensor(loss.item(), requires_grad=True)", indent=at)
            self._right("", *_NONE, lines=(line,))

    def _backward(self, at: int) -> None:
        fault = self.fault
        if fault == "inputs":
            line = self._say("loss.backward(inputs=list(model.head.parameters()))", indent=at)
            self._right("model.head", "fine")
            self._right("", "left out", "not trained", lines=(line,))
        else:
            loss = "scaler.scale(loss)" if self.scaler else "loss"
            line = self._say(f"{loss}.backward()", indent=at)
        if fault == "second backward":
            again = self._say("loss.backward()", indent=at)
            self._right("error", _ERRORS[fault], lines=(line, again))
        if self._may(0.3):
            self._say(
                self._one(
                    "log = loss.item()",
                    "log = f'{loss.item():.3f}'",
                    "norm = sum(p.grad.norm().item() for p in model.head.parameters())"
                    if fault != "loss from a number"
                    else "pass",
                    "right = (out.argmax(1) == y.argmax(1)).float().mean().item()",
                ),
                indent=at,
            )

    def _after_backward(self) -> None:
        fault = self.fault
        if fault == "zeroed before step":
            line = self._say("optimizer.zero_grad()", indent=1)
            self._right("", "cleared", "no step", lines=(line,))
        at = 2 if self.every else 1
        if self.every:
            self._say("if step % 2:", indent=1)
        if not fault and self._may(0.35):
            if self.scaler:
                self._say(*(f"scaler.unscale_({each})" for each in self.optimizers), indent=at)
            self._say(
                self._one(
                    "nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
                    "nn.utils.clip_grad_value_(model.parameters(), 10.0)",
                    "total = nn.utils.clip_grad_norm_(model.parameters(), 1e6, foreach=False)",
                ),
                indent=at,
            )
        if fault == "missing step":
            self._right("", "no step", *(("accumulated",) if self.micro else ()))
        elif self.scaler:
            steps = (f"scaler.step({each})" for each in self.optimizers)
            self._say(*steps, "scaler.update()", indent=at)
        else:
            self._say(*(f"{each}.step()" for each in self.optimizers), indent=at)
        if self.every:
            self._clear(at)
        if self.averaged:
            self._say("averaged.update_parameters(model)", indent=at)
        if self.best:
            self._say("if step == 0: best = copy.deepcopy(model.state_dict())", indent=1)
        if fault == "clipped late":
            self._say("nn.utils.clip_grad_norm_(model.parameters(), 0.01)", indent=1)
            self._right("", "clipped after the step")
        if fault == "missing zero_grad":
            self._right("", "accumulated")
        if self.scheduler:
            self._say("scheduler.step()", indent=1)
        if self.ema:
            self._say(
                "with torch.no_grad():",
                "    for p, q in zip(ema.parameters(), model.parameters()):",
                self._one(
                    "        p.mul_(0.9).add_(q, alpha=0.1)",
                    "        p.lerp_(q, 0.1)",
                    "        p.copy_(0.9 * p + 0.1 * q.detach())",
                ),
                indent=1,
            )
        if self.target and self._may(0.6):
            self._say("target.load_state_dict(model.state_dict())", indent=1)
        if self.zeroing == "after step":
            if not self.every:
                self._clear()
            self.program.is_cleared = True
        self._evaluate()
        if self._also(0.2):
            self._say(self.more.choice(("if step == 1: break", "if loss < -1: break")), indent=1)
        if self.best:
            self._say("model.mean = model.mean.clone()", "model.load_state_dict(best)")

    def _evaluate(self) -> None:
        if self.fault == "gradients off":
            line = self._say("torch.set_grad_enabled(False)", indent=1)
            self._say("score = model(torch.ones(4, 3)).mean().item()", indent=1)
            self._right("error", _ERRORS[self.fault], lines=(line,))
        elif self._may(0.35):
            self._say(
                *self._one(
                    (
                        "model.eval()",
                        "with torch.no_grad():",
                        "    score = model(torch.ones(4, 3)).mean().item()",
                        "model.train()",
                    ),
                    ("with torch.inference_mode():", "    score = model(torch.ones(4, 3)).mean()"),
                    ("score = model(torch.ones(4, 3)).mean().item()",),
                    ("@torch.no_grad()", "def score(): return model(torch.ones(4, 3))", "score()"),
                ),
                indent=1,
            )  # fmt: skip


_NOT_CHECKPOINTED = (*_CUTS, "all frozen", "moved", "inputs", "plain list", "nan")

Wrong = Iterator[tuple[str, str]]


def wrong_answers(
    program: LoopProgram, recording: Any, space: dict[str, Any], error: Exception | None
) -> Wrong:
    """What is wrong with the answers about a training loop: (kind, words)."""
    if error is not None or "error" in program.right:
        yield from _wrong_error(program, recording, error)
        return
    names = {name: space[name] for name in ("model", "ema", "target") if name in space}
    table = gradviz.explain(recording, names=names)
    rows = {_path(each.name, space): each for each in table.all}
    wrong = {_path(each.name, space) for each in table.wrong}
    if program.fault not in ("misspelt", "optimizer of a copy", "missing step"):
        others = [name for name in wrong if not name.startswith("model")]
        if program.fault == "plain list":  # a copy of that model keeps it in a list as well
            others = [name for name in others if rows[name].verdict.value != "not registered"]
        yield from (("alarm", f"{name}\n{table}") for name in others)
    named = dict(space["model"].named_parameters(prefix="model"))
    if program.fault == "plain list":
        named = {"model.mid[0].weight": space["model"].mid[0].weight}
    for name, parameter in named.items():
        right = program.of(name)
        row = rows.get(name)
        own = row
        if program.seed % 8 == 0 or name.endswith(("c.weight", "d.weight", "d.bias", "0].weight")):
            own = gradviz.explain(parameter, recording, names=names)
        if row is None and "fine" not in right.verdicts:
            yield "missing", f"{name} is in no row, expected {right.verdicts}\n{table}"
        is_healthy = "fine" in right.verdicts
        if is_healthy and name in wrong and "frozen" not in right.verdicts:
            yield "alarm", f"{name}\n{table}"
        is_cleared = own is not row and own.verdict.value == "cleared" and program.is_cleared
        for told in {id(each): each for each in ([row] if is_cleared else [own, row])}.values():
            if told is not None:
                yield from _wrong_one(program, right, told)


def _path(name: str, space: dict[str, Any]) -> str:
    """The path of a parameter that has the name of the variable of a loop."""
    if not name.startswith("space["):
        return name
    tensor = eval(name, {"space": space})
    paths = (path for path, each in space["model"].named_parameters("model") if each is tensor)
    return next(paths, name)


def _wrong_one(program: LoopProgram, right: Right, told: Any) -> Wrong:
    place = program.fault or "healthy"
    if told.verdict.value not in right.verdicts:
        yield f"{place}: verdict", f"expected {right.verdicts}: {told.name} {told}"
        return
    lines = {each.line for each in told.locations if str(each).startswith(program.file)}
    if not right.lines or told.verdict.value == "fine":
        return
    if not lines & right.lines:
        yield f"{place}: no line", f"expected {sorted(right.lines)}: {told}"
    elif told.verdict.value == "cut" and not lines <= right.lines | program.copies:
        yield f"{place}: wrong line", f"expected {sorted(right.lines)}: {told}"


def _wrong_error(program: LoopProgram, recording: Any, error: Exception | None) -> Wrong:
    right, place = program.right.get("error"), program.fault or "healthy"
    if error is None or right is None:
        yield f"{place}: raised", repr(error)
        return
    told = gradviz.explain(error, recording)
    yield from _wrong_one(program, right, told)
