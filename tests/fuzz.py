"""Random programs of which it is known what is cut where: what gradviz says of each is checked.

    make fuzz                                     # 2,000 programs, or COUNT=20000 SEED=7
    python tests/fuzz.py --count 20000 --seed 7   # the same; prints what is wrong, with the program
    python tests/fuzz.py --show 123               # the program of one seed, and the answers

Each program is run bare and recorded. Values, gradients, versions and random states must be the
same. Which leaves are reachable is asked of torch; where data leaves the graph is known, because
the program was generated. A cause that is told must be one of those; "not recorded" is right, too.
"""

from __future__ import annotations

import argparse
import hashlib
import linecache
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

import gradviz

PRELUDE = "class Double(torch.autograd.Function):\n" + "".join(
    f"    {line}\n"
    for line in (
        "@staticmethod",
        "def forward(ctx, x):",
        "    return x * 2",
        "@staticmethod",
        "def backward(ctx, g):",
        "    return g * 2",
    )
)


@dataclass
class Var:
    """A variable: what its data comes from, leaf -> lines at which that data left the graph.

    A line of 0 stands for a way that is not cut.
    """

    name: str
    ways: dict[str, frozenset[int]]

    @property
    def is_tracked(self) -> bool:
        return any(0 in lines for lines in self.ways.values())


@dataclass
class Program:
    """The text of a program, and what is known of it."""

    seed: int
    lines: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    frozen: set[str] = field(default_factory=set)
    ways: dict[str, frozenset[int]] = field(default_factory=dict)
    in_place: list[int] = field(default_factory=list)
    hooked: set[str] = field(default_factory=set)
    held: list[str] = field(default_factory=list)
    raises: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def file(self) -> str:
        return f"fuzz_{self.seed}.py"


class Maker:
    """Makes one program: a row of statements over vectors of four numbers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.program = Program(seed, lines=PRELUDE.splitlines())
        self.vars: list[Var] = []
        self.count = 0

    def make(self) -> Program:
        for at in range(self.random.randint(2, 4)):
            self._leaf(f"w{at}")
        steps: list[Callable[[], None]] = [
            *[self._unary] * 4,
            *[self._binary] * 5,
            *[self._cut] * 4,
            *[self._index] * 2,
            self._in_place,
            self._hook,
            self._function,
            self._checkpoint,
            self._double,
            self._overwrite,
            self._caught,
        ]
        for _ in range(self.random.randint(4, 12)):
            self.random.choice(steps)()
        self._end()
        return self.program

    # What a statement is made of.

    def _say(self, *lines: str) -> int:
        """Add lines; the number of the first."""
        self.program.lines += lines
        return len(self.program.lines) - len(lines) + 1

    def _new(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def _any(self) -> Var:
        late = self.vars[-4:] if self.random.random() < 0.6 else self.vars
        return self.random.choice(late)

    def _keep(self, *made: Var) -> None:
        self.vars += made

    def _leaf(self, name: str) -> None:
        values = [round(self.random.uniform(0.5, 2), 2) for _ in range(4)]
        self._say(f"{name} = torch.tensor({values}, requires_grad=True)")
        self.program.leaves.append(name)
        if self.random.random() < 0.1:
            self._say(f"{name}.requires_grad_(False)")
            self.program.frozen.add(name)
        self._keep(Var(name, {name: frozenset({0})}))

    # The statements.

    def _unary(self) -> None:
        x, y = self._any(), self._new()
        code = self.random.choice(
            [
                "{x} * 1.5",
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
            ]
        )
        self._say(f"{y} = " + code.format(x=x.name))
        self._keep(Var(y, dict(x.ways)))

    def _binary(self) -> None:
        x, y, z = self._any(), self._any(), self._new()
        code = self.random.choice(
            ["{x} + {y}", "{x} * {y}", "{x} - 0.5 * {y}", "torch.stack([{x}, {y}]).mean(0)"]
        )
        self._say(f"{z} = " + code.format(x=x.name, y=y.name))
        self._keep(Var(z, _joined(x.ways, y.ways)))

    def _cut(self) -> None:
        x, y = self._any(), self._new()
        code = self.random.choice(
            [
                "{y} = {x}.detach()",
                "{y} = {x}.detach() * 2",
                "{y} = {x}.data",
                "{y} = torch.tensor({x}.tolist())",
                "{y} = torch.full((4,), {x}.sum().item())",
                "{y} = torch.from_numpy({x}.detach().numpy().copy())",
                "with torch.no_grad():\n    {y} = {x} * 3",
                "with torch.no_grad():\n    {y} = {x} + 1",
                "{y} = ({x} > 1).float()",
                "{y} = torch.zeros(4); {y}.data.copy_({x})",
            ]
        ).format(x=x.name, y=y)
        lines = code.split("\n")
        first = self._say(*lines)
        self._keep(Var(y, _cut(x.ways, range(first, first + len(lines)))))

    def _index(self) -> None:
        x, y, z = self._any(), self._any(), self._new()
        line = self._say(f"{z} = {x.name}[{y.name}.argsort()]")
        self._keep(Var(z, _joined(x.ways, _cut(y.ways, [line]))))

    def _in_place(self) -> None:
        x, y, z = self._any(), self._any(), self._new()
        self._say(f"{z} = {x.name} * 1")
        code = self.random.choice(["{z}.add_({y})", "{z}[:2] = {y}[:2]", "{z} *= {y}"])
        line = self._say(code.format(z=z, y=y.name))
        self.program.in_place.append(line)
        self._keep(Var(z, _joined(x.ways, y.ways)))

    def _overwrite(self) -> None:
        """A buffer of one tensor gets the values of another: nothing of the first is left."""
        x, y, z = self._any(), self._any(), self._new()
        first = self._say(f"{z} = {x.name}.detach() * 2", f"{z}.copy_({y.name}.detach())")
        self._keep(Var(z, _cut(y.ways, [first + 1])))

    def _hook(self) -> None:
        x = self._any()
        if x.is_tracked and x.name not in self.program.frozen:
            self._say(f"if {x.name}.requires_grad: {x.name}.register_hook(lambda g: g * 2)")
            self.program.hooked |= set(x.ways)

    def _function(self) -> None:
        x, y = self._any(), self._new()
        self._say(f"{y} = Double.apply({x.name})")
        self._keep(Var(y, dict(x.ways)))

    def _checkpoint(self) -> None:
        x, y = self._any(), self._new()
        self._say(f"{y} = checkpoint(lambda t: t.exp().log1p(), {x.name}, use_reentrant=False)")
        self._keep(Var(y, dict(x.ways)))

    def _double(self) -> None:
        x, y = self._any(), self._new()
        leaf = self.random.choice(self.program.leaves)
        if 0 not in x.ways.get(leaf, frozenset()) or leaf in self.program.frozen:
            return
        line = self._say(
            f"{y}, = torch.autograd.grad({x.name}.pow(2).sum(), {leaf}, create_graph=True)"
        )
        self._keep(Var(y, {name: lines | {line} for name, lines in x.ways.items()}))

    def _caught(self) -> None:
        x = self._any()
        self._say("try:", f"    ({x.name} * 2).backward()", "except RuntimeError: pass")

    def _end(self) -> None:
        """The loss, and what is done with it."""
        used = self.random.sample(self.vars, min(len(self.vars), self.random.randint(1, 3)))
        self._say(f"loss = ({' * '.join(each.name for each in used)}).sum()")
        for each in used:
            self.program.ways = _joined(self.program.ways, each.ways)
        leaves = self.program.leaves
        with_step = self.random.random() < 0.3
        if with_step:
            held = self.random.sample(leaves, self.random.randint(1, len(leaves)))
            self.program.held = held
            self._say(f"optimizer = torch.optim.SGD([{', '.join(held)}], lr=0.1)")
        twice = self.random.random()
        self._say("if loss.requires_grad: loss.backward(retain_graph=True)")
        if twice < 0.15:
            self._say("if loss.requires_grad: loss.backward(retain_graph=True)")
        if with_step:
            self._say("optimizer.step()")


def _joined(
    first: dict[str, frozenset[int]], second: dict[str, frozenset[int]]
) -> dict[str, frozenset[int]]:
    none: frozenset[int] = frozenset()
    return {leaf: first.get(leaf, none) | second.get(leaf, none) for leaf in {*first, *second}}


def _cut(ways: dict[str, frozenset[int]], lines: Any) -> dict[str, frozenset[int]]:
    return {leaf: (old | frozenset(lines)) - {0} for leaf, old in ways.items()}


def _run(program: Program, recording: Any = None) -> tuple[dict[str, Any], Exception | None]:
    """The variables of a program after it has run, and what it raised."""
    space: dict[str, Any] = {"torch": torch, "checkpoint": checkpoint, "__name__": "fuzz"}
    code = compile(program.text, program.file, "exec")
    linecache.cache[program.file] = (
        len(program.text),
        None,
        program.text.splitlines(keepends=True),
        program.file,
    )
    torch.manual_seed(program.seed)
    random.seed(program.seed)
    error = None
    try:
        if recording is None:
            exec(code, space)
        else:
            with recording:
                exec(code, space)
    except (RuntimeError, ValueError, TypeError) as raised:
        error = raised
    return space, error


def _state(space: dict[str, Any]) -> list[Any]:
    """All numbers that a recording must not change."""
    found: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in space.items():
            if isinstance(value, torch.Tensor):
                grad = value.grad.tolist() if value.is_leaf and value.grad is not None else None
                found.append((name, str(value.tolist()), str(grad), value._version))
    return [*found, hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
            random.random(), torch.is_grad_enabled()]  # fmt: skip


def wrong(program: Program) -> Iterator[tuple[str, str]]:
    """What is wrong with what gradviz does to a program and says of it: (kind, words)."""
    bare, bare_error = _run(program)
    before = _state(bare)
    recording = gradviz.record()
    space, error = _run(program, recording)
    after = _state(space)
    if before != after:
        yield "changed", "values, gradients, versions or random states differ"
    if type(bare_error) is not type(error) or str(bare_error) != str(error):
        yield "changed", f"raised {error!r}, bare {bare_error!r}"
    for note in recording.story.notes:
        if "missed" in note:
            yield "note", note
    names = {leaf: space[leaf] for leaf in program.leaves if leaf in space}
    try:
        if error is not None:
            yield from _wrong_error(program, gradviz.explain(error, recording, names=names))
        elif "loss" in space:
            yield from _wrong_leaves(program, space, recording, names)
        if program.seed % 4 == 0:
            gradviz.draw(recording).render("txt")
    except Exception as raised:
        yield "crash", f"{type(raised).__name__}: {raised}"


def _wrong_error(program: Program, told: Any) -> Iterator[tuple[str, str]]:
    if told.verdict.value == "changed in place":
        named = _named(program, str(told))
        if named and program.in_place and not set(named) & set(program.in_place):
            yield "wrong line", f"error: {told}"
    elif told.verdict.value == "another error":
        yield "error not known", str(told)


def _named(program: Program, text: str) -> list[int]:
    """The lines of the program that a text names."""
    pieces = text.split(f"{program.file}:")[1:]
    return [int("".join(char for char in piece[:5].split(" ")[0] if char.isdigit()))
            for piece in pieces]  # fmt: skip


def _wrong_leaves(
    program: Program, space: dict[str, Any], recording: Any, names: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    loss = space["loss"]
    asked = [leaf for leaf in program.leaves if leaf not in program.frozen]
    graph = gradviz.trace(loss, names=names)
    reached = {graph.nodes[leaf].get("name") for leaf in graph.leaves}
    reachable = _reachable(loss)
    for leaf in asked:
        is_reached = id(space[leaf]) in reachable
        if (leaf in reached) != is_reached and loss.requires_grad:
            yield "reachability", f"{leaf}: torch {is_reached}, trace {leaf in reached}"
        told = gradviz.explain(space[leaf], recording, names={**names, "loss": loss})
        yield from _wrong_leaf(program, leaf, is_reached, loss.requires_grad, told)


def _reachable(root: torch.Tensor) -> set[int]:
    """Ids of the leaves that backward from a tensor reaches, by a walk of its own."""
    found, seen, todo = {id(root)}, set(), [root.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found.add(id(getattr(node, "variable", None)))
            todo += [parent for parent, _ in node.next_functions]
    return found


def _wrong_leaf(
    program: Program, leaf: str, is_reached: bool, has_run: bool, told: Any
) -> Iterator[tuple[str, str]]:
    text, verdict = str(told), told.verdict.value
    lines = program.ways.get(leaf, frozenset())
    cuts = lines - {0}
    if is_reached:
        if verdict in ("cut", "not connected", "frozen", "not a leaf"):
            yield "false no gradient", text
        return
    if verdict in ("fine", "zero", "accumulated"):
        yield "false gradient", text
    elif verdict == "cause not recorded" or not has_run:
        return
    elif not lines:  # nothing of it is in the loss
        if verdict == "cut":
            yield "wrong cause", f"{leaf} is not in loss\n{text}"
    elif not cuts:
        if verdict == "cut":
            yield "wrong cause", f"{leaf} is not cut\n{text}"
    else:
        named = _named(program, text)
        if verdict == "not connected" and not named:
            yield "missed cause", f"{leaf} is cut at {sorted(cuts)}\n{text}"
        elif named and not set(named) <= cuts | {len(program.lines)} | set(_backwards(program)):
            yield "wrong line", f"{leaf} is cut at {sorted(cuts)}\n{text}"


def _backwards(program: Program) -> list[int]:
    return [at for at, line in enumerate(program.lines, 1) if "backward" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="programs (default 2,000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--show", type=int, help="print one program and what is wrong with it")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seeds = range(given.seed, given.seed + given.count)
    if given.show is not None:
        seeds = range(given.show, given.show + 1)
        print(Maker(given.show).make().text)
    began, kinds, faulty = time.monotonic(), Counter[str](), 0
    for at, seed in enumerate(seeds, 1):
        program = Maker(seed).make()
        found = list(wrong(program))
        faulty += bool(found)
        for kind, words in found:
            kinds[kind] += 1
            if kinds[kind] <= 5 or given.show is not None:
                print(f"## seed {seed}: {kind}: {words}", flush=True)
        linecache.cache.pop(program.file, None)
        if at % 1000 == 0:
            print(
                f"   {at:,} programs, {time.monotonic() - began:.0f} s: {dict(kinds)}", flush=True
            )
    print(
        f"{len(seeds):,} programs from seed {seeds[0]}: {faulty} with something wrong {dict(kinds)}"
    )
    sys.exit(faulty > 0)


if __name__ == "__main__":
    main()
