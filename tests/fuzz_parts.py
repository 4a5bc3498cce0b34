"""A random program, what is known of it, and the expressions that it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

PRELUDE = """\
import copy, functools, threading, torch
from torch.utils.checkpoint import checkpoint
class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, g):
        return g * 2
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y
    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x
def halved(t):
    return t / 2
def stopped(t):
    return t.detach() + 1
def in_thread(function):
    threads = [threading.Thread(target=function)]
    threads[0].start()
    threads[0].join()
"""
STOPPED = 1 + next(n for n, line in enumerate(PRELUDE.splitlines()) if "t.detach() + 1" in line)

Ways = dict[str, frozenset[int]]
"""Leaf -> lines at which its data left the graph. A line of 0 stands for a way without a cut, a
negative one for the line of a checkpoint that uses the leaf inside."""


@dataclass(eq=False)
class Var:
    """A variable.

    Args:
        name: in the program.
        ways: where its data comes from.
        storage: variables with the same number share memory.
        is_leaf: whether it requires grad and no operation made it.
    """

    name: str
    ways: Ways
    storage: int
    is_leaf: bool = False

    @property
    def is_tracked(self) -> bool:
        """Whether a gradient can reach a leaf from it."""
        return any(0 in lines for lines in self.ways.values())


@dataclass
class Program:
    """The text of a program, and what is known of it.

    Args:
        seed: makes the same program again.
        lines: the text.
        leaves: names of the tensors that are asked about.
        parameters: those that are of ``nn.Parameter``.
        frozen: those that do not require grad, and the line that says so.
        ways: how the data of each leaf goes to the loss.
        words: by the line of a cut, what it may be called.
        numbers: lines at which tensors become numbers, which no recording can follow.
        noise: by the name of a leaf, lines that read numbers which go nowhere.
        hidden: leaves whose data went through what no recording sees: another thread.
        in_place: lines that change a tensor in place.
        hooked: leaves with a hook on the way to them.
        zeros: lines of operations that pass no gradient.
        held: leaves that the optimizer has; None without one.
        passes: lines of the backward passes.
        left_out: leaves that a backward pass with ``inputs=`` does not list.
        only_grad: line of ``torch.autograd.grad``, if there is no other pass.
        cleared: line that clears the gradients after the last pass; 0 for none.
        error: the verdict that fits the error that its last line raises; "" for none.
    """

    seed: int
    lines: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    parameters: set[str] = field(default_factory=set)
    frozen: dict[str, int] = field(default_factory=dict)
    ways: Ways = field(default_factory=dict)
    words: dict[int, tuple[str, ...]] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    noise: dict[str, set[int]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    in_place: list[int] = field(default_factory=list)
    hooked: set[str] = field(default_factory=set)
    zeros: set[int] = field(default_factory=set)
    held: list[str] | None = None
    passes: list[int] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    only_grad: int = 0
    cleared: int = 0
    error: str = ""
    vars: list[Var] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The program."""
        return "\n".join(self.lines) + "\n"

    @property
    def file(self) -> str:
        """What its file is called."""
        return f"fuzz_{self.seed}.py"


def joined(*all_ways: Ways) -> Ways:
    """The ways of what is computed from all."""
    found: Ways = {}
    for ways in all_ways:
        for leaf, lines in ways.items():
            found[leaf] = found.get(leaf, frozenset()) | lines
    return found


def cut(ways: Ways, *lines: int) -> Ways:
    """The ways once they are cut at lines."""
    return {leaf: (old | frozenset(lines)) - {0} for leaf, old in ways.items()}


UNARY = (
    "{x} * 1.5",
    "2 - {x}",
    "{x}.sin()",
    "{x}.tanh()",
    "{x}.abs().sqrt()",
    "{x}.view(2, 2).t().reshape(4)",
    "{x}.flip(0)",
    "{x}.clone()",
    "torch.cat([{x}[:2], {x}[2:] * 2])",
    "{x}.softmax(0)",
    "{x}.cumsum(0)",
    "{x}.expand(2, 4).sum(0)",
    "torch.stack([{x}, {x}.exp()]).mean(0)",
    "torch.cat({x}.split(2)[::-1])",
    "{x}[torch.tensor([3, 1, 0, 2])]",
    "torch.stack({x}.unbind())",
    "halved({x})",
    "{x}.sort().values",
    "torch.nn.functional.layer_norm({x}, (4,)) + {x}",
)
BINARY = (
    "{x} + {y}",
    "{x} * {y}",
    "{x} - 0.5 * {y}",
    "torch.stack([{x}, {y}]).mean(0)",
    "torch.addcmul({x}, {y}, {y})",
    "torch.lerp({x}, {y}, 0.3)",
    "torch.outer({x}, {y}).mean(0)",
    "torch.einsum('i,j->j', {x}, {y})",
    "{x} @ torch.outer({x}, {y})",
    "{x} / ({y}.abs() + 1)",
    "Product.apply({x}, {y})",
)
NUMBERS = ("numbers", "item", "tolist", "float")
CUTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("{y} = {x}.detach()", ("detach()",)),
    ("{y} = {x}.detach() * 2", ("detach()",)),
    ("{y} = {x}.clone().detach_()", ("detach",)),
    ("{y} = {x}.data", (".data",)),
    ("{y} = {x}.data + 1", (".data",)),
    ("{y} = torch.tensor({x}.tolist())", NUMBERS),
    ("{y} = torch.full((4,), {x}.sum().item())", NUMBERS),
    ("{y} = torch.tensor([float(each) for each in {x}])", NUMBERS),
    ("{y} = torch.arange(4.) * {x}.mean().item()", NUMBERS),
    ("{y} = torch.tensor([{x}[0], {x}[1], 1., 2.])", ("torch.tensor()", *NUMBERS)),
    ("{y} = torch.from_numpy({x}.detach().numpy().copy())", ("detach()", "numpy")),
    ("{y} = torch.tensor({x}.detach().numpy())", ("detach()", "numpy", "torch.tensor")),
    ("with torch.no_grad():\n    {y} = {x} * 3", ("no_grad",)),
    ("with torch.no_grad():\n    {y} = {x} + 1\n    {y} = {y} * 2", ("no_grad",)),
    ("torch.set_grad_enabled(False)\n{y} = {x} * 2\ntorch.set_grad_enabled(True)", ("set_grad",)),
    ("with torch.inference_mode():\n    {y} = {x} * 3\n{y} = {y}.clone()", ("inference_mode",)),
    ("{y} = torch.no_grad()(lambda t: t * 2)({x})", ("no_grad",)),
    ("{y} = ({x} > 1).float()", ("gt",)),
    ("{y} = {x}.argsort().float() + 1", ("argsort",)),
    ("{y} = ({x} * 10).long() / 10", ("long", "to", "_to_copy")),
    ("{y} = {x}.topk(4).indices.float()", ("topk",)),
    ("{y} = {x}.round().int().float()", ("int", "to")),
    ("{y} = torch.nn.functional.one_hot({x}.argmax(), 4).float()", ("argmax",)),
    ("{y} = torch.bucketize({x}, torch.tensor([0.5, 1.])) * 1.5", ("bucketize",)),
    ("{y} = torch.zeros(4); {y}.data.copy_({x})", ("data", "copy", "no_grad")),
    ("{y} = torch.empty(4)\nwith torch.no_grad():\n    {y}.copy_({x})", ("no_grad", "copy")),
    ("{y} = torch.zeros(4)\n{y}[:2] = {x}.detach()[2:]", ("detach()",)),
    ("{y} = copy.deepcopy({x}.detach())", ("detach()",)),
    ("{y} = torch.where({x} > 1, torch.tensor(2.), torch.tensor(1.))", ("gt",)),
)  # fmt: skip
ZEROS = (
    "{x} * 0.0",
    "({x} - 1000).relu()",
    "{x}.sign()",
    "{x}.round()",
    "{x}.clamp(min=1e6)",
    "torch.where(torch.zeros(4) > 1, {x}, torch.ones(4))",
    "{x} * torch.zeros(4)",
)
