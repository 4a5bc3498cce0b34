"""Makes random programs of which it is known what is cut where, and what its gradients are.

All tensors are vectors of four numbers. Of each variable it is known from which leaves its data
comes, and at which lines that data left the graph on the way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from fuzz_parts import (
    BINARY,
    CUTS,
    NUMBERS,
    PRELUDE,
    STOPPED,
    UNARY,
    ZEROS,
    Program,
    Var,
    Ways,
    cut,
    joined,
)

__all__ = ["Maker", "Program"]


class Maker:
    """Makes one program: a row of statements."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.program = Program(seed, lines=PRELUDE.splitlines())
        self.vars: list[Var] = self.program.vars
        self.count = 0

    def make(self) -> Program:
        """The program."""
        for at in range(self.random.randint(2, 4)):
            self._leaf(f"w{at}")
        steps = self.steps()
        for _ in range(self.random.randint(4, 12)):
            self.random.choice(steps)()
        self._end()
        return self.program

    def steps(self) -> list[Callable[[], None]]:
        """What makes a statement; one that is there several times is chosen more often."""
        return [
            *[self._unary] * 5,
            *[self._binary] * 6,
            *[self._cut] * 5,
            *[self._index] * 2,
            *[self._in_place] * 2,
            *[self._number_later] * 2,
            *[self._into_alias] * 2,
            self._where,
            self._straight_through,
            self._helper,
            self._loop,
            self._hook,
            self._function,
            self._inside,
            self._checkpoint,
            self._double,
            self._overwrite,
            self._caught,
            self._noise,
            self._thread,
            self._written_into_leaf,
            self._new_leaf,
            self._zero,
        ]

    # What a statement is made of.

    def _say(self, *lines: str, words: Iterable[str] = ()) -> int:
        """Add lines; the number of the first."""
        first = len(self.program.lines) + 1
        self.program.lines += lines
        for number in range(first, first + len(lines)):
            if words:
                self.program.words[number] = tuple(words)
            if set(words) & {"item", "numpy"}:
                self.program.numbers.add(number)
        return first

    def _new(self, ways: Ways, like: Var | None = None) -> Var:
        self.count += 1
        return Var(f"v{self.count}", ways, self.count if like is None else like.storage)

    def _any(self) -> Var:
        late = self.vars[-4:] if self.random.random() < 0.6 else self.vars
        return self.random.choice(late)

    def _keep(self, *made: Var) -> None:
        self.vars += made

    def _numbers(self) -> list[float]:
        return [round(self.random.uniform(0.5, 2), 2) for _ in range(4)]

    def _leaf(self, name: str) -> None:
        kind = "torch.nn.Parameter(torch.tensor({}))"
        if self.random.random() < 0.5:
            self.program.parameters.add(name)
        else:
            kind = "torch.tensor({}, requires_grad=True)"
        self._say(f"{name} = {kind.format(self._numbers())}")
        self.program.leaves.append(name)
        self.count += 1
        ways = {name: frozenset({0})}
        if self.random.random() < 0.1:
            line = self._say(f"{name}.requires_grad_(False)", words=("requires_grad_",))
            self.program.frozen[name] = line
            ways = {name: frozenset({line})}
        self._keep(Var(name, ways, self.count, is_leaf=not self.program.frozen.get(name)))

    # Statements that carry a gradient on.

    def _unary(self) -> None:
        x = self._any()
        code = self.random.choice(UNARY)
        y = self._new(dict(x.ways))
        self._say(f"{y.name} = " + code.format(x=x.name))
        self._keep(y)

    def _binary(self) -> None:
        x, y = self._any(), self._any()
        z = self._new(joined(x.ways, y.ways))
        self._say(f"{z.name} = " + self.random.choice(BINARY).format(x=x.name, y=y.name))
        self._keep(z)

    def _function(self) -> None:
        x = self._any()
        y = self._new(dict(x.ways))
        self._say(f"{y.name} = Double.apply({x.name})")
        self._keep(y)

    def _checkpoint(self) -> None:
        x = self._any()
        inner = self.random.choice(["t.exp().log1p()", "t.sin() * t", "t.tanh() + t.detach()"])
        y = self._new(dict(x.ways))
        line = self._say(f"{y.name} = checkpoint(lambda t: {inner}, {x.name}, use_reentrant=False)")
        if "detach" in inner:
            self.program.words[line] = ("detach()",)
            y.ways = joined(x.ways, cut(x.ways, line))
        self._keep(y)

    def _loop(self) -> None:
        x, y = self._any(), self._any()
        z = self._new(dict(x.ways))
        line = self._say(f"{z.name} = {x.name} * 1", "for each in range(2):")
        code, ways = self.random.choice(
            [
                ("{z} = {z} + {y}", y.ways),
                ("{z} = {z} * 2 + {y}.detach()", cut(y.ways, line + 2)),
                ("{z} = {z} + {y}.sum().item() * each", cut(y.ways, line + 2)),
            ]
        )
        words = ("detach()",) if "detach" in code else NUMBERS if "item" in code else ()
        if words is NUMBERS:
            self._read(y, line + 2)
        self._say("    " + code.format(z=z.name, y=y.name), words=words)
        z.ways = joined(z.ways, ways)
        self._keep(z)

    def _helper(self) -> None:
        x = self._any()
        y = self._new({})
        line = self._say(f"{y.name} = stopped({x.name})", words=("detach()",))
        self.program.words[STOPPED] = ("detach()",)
        y.ways = cut(x.ways, line, STOPPED)
        self._keep(y)

    # Statements that cut.

    def _cut(self) -> None:
        x = self._any()
        code, words = self.random.choice(CUTS)
        y = self._new({}, like=x if code in ("{y} = {x}.detach()", "{y} = {x}.data") else None)
        lines = code.format(x=x.name, y=y.name).split("\n")
        first = self._say(*lines, words=words)
        y.ways = cut(x.ways, *range(first, first + len(lines)))
        if set(words) & {"item", "numpy"}:
            self._read(x, first)
        self._keep(y)

    def _read(self, x: Var, line: int) -> None:
        """Its data becomes numbers at a line; where those go on cannot be known.

        The lines at which it left the graph on the way there are true as well.
        """
        for leaf, lines in x.ways.items():
            self.program.noise.setdefault(leaf, set()).update({line, *lines} - {0})

    def _index(self) -> None:
        x, y = self._any(), self._any()
        z = self._new({})
        line = self._say(f"{z.name} = {x.name}[{y.name}.argsort()]", words=("argsort",))
        z.ways = joined(x.ways, cut(y.ways, line))
        self._keep(z)

    def _where(self) -> None:
        x, y, z = self._any(), self._any(), self._any()
        made = self._new({})
        code = f"{made.name} = torch.where({x.name} > 1, {y.name}, {z.name})"
        line = self._say(code, words=("gt",))
        made.ways = joined(cut(x.ways, line), y.ways, z.ways)
        self._keep(made)

    def _straight_through(self) -> None:
        x, y = self._any(), self._any()
        z = self._new({})
        line = self._say(
            f"{z.name} = {x.name} + ({y.name} - {x.name}).detach()", words=("detach()",)
        )
        z.ways = joined(x.ways, cut(joined(x.ways, y.ways), line))
        self._keep(z)

    def _number_later(self) -> None:
        """A number is taken at one line, and used at a later one."""
        x, y = self._any(), self._any()
        take, words = self.random.choice(
            [
                ("{x}.sum().item()", NUMBERS),
                ("float({x}.max())", NUMBERS),
                ("{x}.tolist()[1]", NUMBERS),
                ("{x}.detach().numpy()[2]", ("numpy", "detach()", *NUMBERS)),
                ("int({x}[0]) + 1", ("int()", *NUMBERS)),
            ]
        )
        self.count += 1
        line = self._say(f"k{self.count} = {take.format(x=x.name)}", words=words)
        self._read(x, line)
        number = f"k{self.count}"
        for _ in range(self.random.randint(0, 2)):
            self.random.choice([self._unary, self._binary])()
        z = self._new(joined(y.ways, cut(x.ways, line)))
        code = self.random.choice(["{y} * {k}", "{y} + {k}", "torch.full((4,), float({k})) * {y}"])
        self._say(f"{z.name} = {code.format(y=y.name, k=number)}")
        self._keep(z)

    def _double(self) -> None:
        x = self._any()
        leaf = self.random.choice(self.program.leaves)
        if 0 not in x.ways.get(leaf, frozenset()) or leaf in self.program.frozen:
            return
        keeps = self.random.random() < 0.6
        y = self._new({})
        more = ", create_graph=True" if keeps else ", retain_graph=True"
        line = self._say(
            f"{y.name}, = torch.autograd.grad(({x.name}.exp() * {x.name}).sum(), {leaf}{more})",
            words=("torch.autograd.grad",),
        )
        y.ways = {name: lines | {line} for name, lines in x.ways.items()}
        if not keeps:
            y.ways = cut(x.ways, line)
        self._keep(y)

    def _thread(self) -> None:
        """No recording sees what another thread does."""
        x = self._any()
        y = self._new({})
        code = self.random.choice(["{x}.detach() * 2", "{x} * 2"])
        line = self._say(
            "def work():",
            f"    global {y.name}",
            f"    {y.name} = {code.format(x=x.name)}",
            "in_thread(work)",
            words=("detach()",),
        )
        y.ways = dict(x.ways) if "detach" not in code else cut(x.ways, line + 2)
        self.program.hidden |= set(x.ways)
        self._keep(y)

    # Changes in place.

    def _write(self, target: Var, ways: Ways, line: int) -> None:
        """Values were written into a variable: all that share its memory have them.

        What shares memory with it and lies outside the graph has them without a gradient.
        """
        self.program.in_place.append(line)
        for each in self.vars:
            if each.storage == target.storage and each is not target:
                own = {line, *(n for lines in each.ways.values() for n in lines if n)}
                each.ways = joined(each.ways, cut(ways, *own))
        target.ways = joined(target.ways, ways)

    def _in_place(self) -> None:
        x, y = self._any(), self._any()
        z = self._new(dict(x.ways))
        self._say(f"{z.name} = {x.name} * 1")
        self._keep(z)
        code = self.random.choice(
            [
                "{z}.add_({y})",
                "{z}[:2] = {y}[:2]",
                "{z} *= {y}",
                "{z}.view(2, 2)[0].add_({y}[2:])",
                "{z}.unsqueeze(0)[:, 1:].mul_({y}[1:])",
                "torch.add({z}.detach(), {y}.detach(), out={z}.data)",
            ]
        )
        words: tuple[str, ...] = ()
        if "out=" in code:
            words = ("detach()", ".data", "add", "out")
        line = self._say(code.format(z=z.name, y=y.name), words=words)
        ways = cut(joined(z.ways, y.ways), line) if words else y.ways
        self._write(z, ways, line)

    def _into_alias(self) -> None:
        """Values are written into something that may share memory, without a gradient."""
        x, y = self._any(), self._any()
        if x.is_leaf or x.name in self.program.frozen:
            return
        code, words = self.random.choice(
            [
                ("{x}.data.mul_({y}.detach())", ("detach()", ".data", "mul")),
                ("with torch.no_grad(): {x}.add_({y})", ("no_grad", "add", "copies")),
                ("{x}.detach()[:2].copy_({y}[:2].data)", ("data", "detach()", "copy")),
            ]
        )
        line = self._say(code.format(x=x.name, y=y.name), words=words)
        self._write(x, cut(y.ways, line), line)

    def _overwrite(self) -> None:
        """A buffer of one tensor gets the values of another: nothing of the first is left."""
        x, y = self._any(), self._any()
        z = self._new({})
        first = self._say(
            f"{z.name} = {x.name}.detach() * 2",
            f"{z.name}.copy_({y.name}.detach())",
            words=("detach()",),
        )
        z.ways = cut(y.ways, first + 1)
        self._keep(z)

    def _written_into_leaf(self) -> None:
        """A leaf gets values of another tensor."""
        x, y = self.vars[self.random.randrange(len(self.program.leaves))], self._any()
        if not x.is_leaf or any(v.storage == x.storage and v is not x for v in self.vars):
            return
        code = self.random.choice(
            [
                "with torch.no_grad(): {x}.copy_({y})",
                "{x}.data.copy_({y})",
                "{x}.data.add_({y}.data)",
            ]
        )
        words = ("no_grad", "copy", "copies", ".data", "detach")
        line = self._say(code.format(x=x.name, y=y.name), words=words)
        self.program.in_place.append(line)  # also what is copied into itself has a new version
        if y is not x:
            if "copy_" in code:  # nothing is left of the data that it was made of
                x.ways = {x.name: x.ways[x.name]}
            self._write(x, cut({k: v for k, v in y.ways.items() if k != x.name}, line), line)

    def _new_leaf(self) -> None:
        """A new leaf is made of values: the data of the old ones goes on in it, cut."""
        x = self._any()
        y = self._new({})
        code, words = self.random.choice(
            [
                ("{x}.detach().clone().requires_grad_()", ("detach()",)),
                ("torch.nn.Parameter({x}.data * 1)", (".data", "Parameter")),
                ("torch.nn.Parameter({x} * 0.5)", ("Parameter",)),
            ]
        )
        line = self._say(f"{y.name} = {code.format(x=x.name)}", words=words)
        if "Parameter" in code:
            self.program.parameters.add(y.name)
        y.ways = joined(cut(x.ways, line), {y.name: frozenset({0})})
        y.is_leaf = True
        self.program.leaves.append(y.name)
        self._keep(y)

    # What neither carries data on nor cuts.

    def _hook(self) -> None:
        x = self._any()
        if x.is_tracked:
            self._say(f"if {x.name}.requires_grad: {x.name}.register_hook(lambda g: g * 2)")
            self.program.hooked |= set(x.ways)

    def _inside(self) -> None:
        """A leaf is used inside a Function or a reentrant checkpoint, and is no input of it."""
        x = self._any()
        leaf = self.random.choice(self.program.leaves)
        if leaf in self.program.frozen or not x.is_tracked:
            return
        y = self._new({})
        line = self._say(
            f"{y.name} = checkpoint(lambda t: t.exp() * {leaf}, {x.name}, use_reentrant=True)"
        )
        y.ways = joined(x.ways, {leaf: frozenset({-line})})
        self._keep(y)

    def _noise(self) -> None:
        """Numbers are read, and nothing is computed from them."""
        x = self._any()
        code = self.random.choice(
            [
                "assert {x}.abs().sum().item() >= 0",
                "log = {x}.detach().mean().item()",
                "text = f'{{{x}.sum().item():.2f}}'",
                "if ({x} > 1e9).any(): print('large')",
                "log = {x}.tolist()",
            ]
        )
        line = self._say(code.format(x=x.name), words=NUMBERS)
        self._read(x, line)

    def _caught(self) -> None:
        x = self._any()
        self._say(
            *self.random.choice(
                [
                    ("try:", f"    ({x.name} * 2).backward()", "except RuntimeError: pass"),
                    ("try:", f"    {x.name} @ torch.ones(3)", "except RuntimeError: pass"),
                    (
                        "try:",
                        f"    with torch.no_grad(): {x.name} @ torch.ones(5)",
                        "except RuntimeError: pass",
                    ),
                    ("try:", f"    int({x.name})", "except (RuntimeError, ValueError): pass"),
                ]
            )
        )

    def _zero(self) -> None:
        x = self._any()
        y = self._new(dict(x.ways))
        line = self._say(f"{y.name} = " + self.random.choice(ZEROS).format(x=x.name))
        self.program.zeros.add(line)
        self._keep(y)

    # The end.

    def _end(self) -> None:
        """The loss, and what is done with it."""
        program = self.program
        used = self.random.sample(self.vars, min(len(self.vars), self.random.randint(1, 3)))
        self._say(f"loss = ({' * '.join(each.name for each in used)}).sum()")
        program.ways = joined(*(each.ways for each in used))
        if self.random.random() < 0.3:
            held = self.random.sample(program.leaves, self.random.randint(1, len(program.leaves)))
            program.held = held
            self._say(f"optimizer = torch.optim.SGD([{', '.join(held)}], lr=0.01)")
        self._backward(self.random.random())
        if program.held is not None:
            self._say("optimizer.step()")
        elif self.random.random() < 0.1:
            self._raise()

    def _raise(self) -> None:
        """A last line that raises an error."""
        tracked = [each for each in self.vars if each.is_tracked]
        leaf = next((leaf for leaf in self.program.leaves if leaf not in self.program.frozen), "")
        if not leaf or not tracked:
            return
        x = self.random.choice(tracked).name
        code, self.program.error = self.random.choice(
            [
                (f"{leaf} += 1", "leaf changed in place"),
                (f"({x} * 2).backward()", "not a scalar"),
                (f"{x}.detach().sum().backward()", "nothing to differentiate"),
                (f"({x} * 1).numpy()", "numpy"),
                (f"torch.autograd.grad({x}.detach().sum(), {leaf})", "nothing to differentiate"),
                (
                    f"again = ({x}.exp() * {x}).sum(); again.backward(); again.backward()",
                    "backward a second time",
                ),
                (f"late = {x}.exp(); late.mul_(2); late.sum().backward()", "changed in place"),
                (
                    f"torch.autograd.grad(({x} * 1).sum(), torch.ones(1, requires_grad=True))",
                    "input not used",
                ),
                (f"({x} * 1).unbind()[0].mul_(2)", "view changed in place"),
            ]
        )
        line = self._say(code)
        if self.program.error == "changed in place":
            self.program.in_place.append(line)

    def _backward(self, chance: float) -> None:
        """The backward passes."""
        program = self.program
        run = "if loss.requires_grad: loss.backward({})"
        trained = [leaf for leaf in program.leaves if leaf not in program.frozen]
        if chance < 0.08:
            return
        if chance < 0.16 and trained:
            listed = self.random.sample(trained, self.random.randint(1, len(trained)))
            listed = [leaf for leaf in listed if 0 in program.ways.get(leaf, ())]
            if listed:
                program.left_out = set(trained) - set(listed)
                self._pass(run.format(f"inputs=[{', '.join(listed)}]"))
                return
        if chance < 0.22:
            listed = [leaf for leaf in trained if 0 in program.ways.get(leaf, ())]
            if listed:
                program.only_grad = self._say(
                    f"if loss.requires_grad: torch.autograd.grad(loss, [{', '.join(listed)}])"
                )
                return
        self._pass(run.format("retain_graph=True"))
        if chance < 0.32:
            self._pass(run.format(""))
        elif chance < 0.42:
            program.cleared = self._say(
                *(f"{leaf}.grad = None" for leaf in program.leaves[:-1]),
                f"{program.leaves[-1]}.grad = None",
            )
        elif chance < 0.50:
            self._say(*(f"{leaf}.grad = None" for leaf in program.leaves))
            self._pass(run.format(""))
            program.passes = program.passes[-1:]

    def _pass(self, code: str) -> None:
        self.program.passes.append(self._say(code))
