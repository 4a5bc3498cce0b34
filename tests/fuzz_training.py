"""Statements of training code: modules, steps in a loop, recurrent states, checkpoints, hooks.

The programs of seeds below `TRAINING` are made without them, so that a seed makes the same program
as before.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz_loops import LOOPS, LoopMaker
from fuzz_parts import Program, Var, Ways, cut, joined
from fuzz_programs import Maker
from fuzz_systems import SYSTEMS, made_system
from fuzz_wide import ALL, WIDE, WideMaker

__all__ = ["TRAINING", "WIDE", "made"]

TRAINING = 300_000

MORE = """\
class Gain(torch.nn.Module):
    def __init__(self, value=1.5):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((4,), value))
    def forward(self, x):
        return x * self.weight
class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(y)
        return x * y, (x > 1).float()
    @staticmethod
    def backward(ctx, g, unused):
        return g * ctx.saved_tensors[0], g * 0.5
class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = Gain(0.5), Gain(2.0)
        self.register_buffer("mean", torch.zeros(4))
    def forward(self, x):
        hidden = self.first(x)
        with torch.no_grad():
            self.mean.mul_(0.9).add_(hidden, alpha=0.1)
        return {"out": self.last(hidden), "mean": self.mean.clone()}
"""
_ALL = [*ALL, *MORE.splitlines()]
_MEAN = 1 + next(n for n, line in enumerate(_ALL) if "self.mean.mul_" in line)


class _TrainingMaker(WideMaker):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.program.lines = list(_ALL)
        self.program.words[_MEAN] = ("no_grad",)
        self.header = 0
        self.is_loop = False

    def make(self) -> Program:
        """The program; the statements of some are the body of a training loop."""
        for at in range(self.random.randint(2, 4)):
            self._leaf(f"w{at}")
        self.is_loop = self.random.random() < 0.4
        if self.is_loop:
            self._begin_loop()
        steps = self.steps()
        for _ in range(self.random.randint(4, 10)):
            self.random.choice(steps)()
        (self._end_loop if self.is_loop else self._end)()
        return self.program

    def steps(self) -> list[Callable[[], None]]:
        more: list[Callable[[], None]] = [
            self._recurrent,
            self._reentrant,
            self._several_outputs,
            self._scattered,
            self._autocast,
            self._states_in_a_list,
            self._partial,
            self._caught_later,
            self._block,
            self._layers,
            self._hessian,
            self._frozen_part,
        ]
        if not self.is_loop:
            more += [self._loaded, self._rows_of_a_leaf, self._twin]
        left_out = (self._written_into_leaf, self._into_alias) if self.is_loop else ()
        kept = [each for each in super().steps() if each not in left_out]
        return [*kept, *more, *more, *more]

    # The loop.

    def _begin_loop(self) -> None:
        program = self.program
        if self.random.random() < 0.6:
            held = self.random.sample(program.leaves, self.random.randint(1, len(program.leaves)))
            program.held = held
            at = self.random.randint(0, len(held) - 1)
            groups = f"{{'params': [{', '.join(held[at:])}]}}"
            if at:
                groups += f", {{'params': [{', '.join(held[:at])}], 'lr': 0.001}}"
            self._say(f"optimizer = torch.optim.SGD([{groups}], lr=0.01)")
        self._say("for step in range(2):")
        self.header = len(program.lines)
        self._say(f"for each in [{', '.join(program.leaves)}]: each.grad = None")

    def _end_loop(self) -> None:
        program = self.program
        used = self.random.sample(self.vars, min(len(self.vars), self.random.randint(1, 3)))
        self._say(f"loss = ({' * '.join(each.name for each in used)}).sum()")
        program.ways = joined(*(each.ways for each in used))
        self._pass("if loss.requires_grad: loss.backward()")
        if program.held is not None:
            if self.random.random() < 0.4:
                self._say(f"torch.nn.utils.clip_grad_norm_([{', '.join(program.held)}], 1e6)")
            self._say("optimizer.step()")
        lines = program.lines
        lines[self.header :] = [f"    {line}" for line in lines[self.header :]]

    # Statements.

    def _gain(self) -> tuple[str, Var]:
        """A new module, and its parameter."""
        net, name = f"net{self._id()}", f"p{self.count}"
        self._say(f"{net} = Gain()", f"{name} = {net}.weight")
        return net, self._parameter(name)

    def _parameter(self, name: str, ways: Ways | None = None) -> Var:
        self.program.leaves.append(name)
        self.program.parameters.add(name)
        var = Var(name, joined(ways or {}, {name: frozenset({0})}), self._id(), is_leaf=True)
        self._keep(var)
        return var

    def _layers(self) -> None:
        """A loop over modules; in front of the second one, data may be cut."""
        x = self._any()
        (first, one), (second, two) = self._gain(), self._gain()
        z = self._new({})
        line = self._say(f"{z.name} = {x.name}", f"for layer in [{first}, {second}]:")
        if self.random.random() < 0.4:
            code = f"    {z.name} = layer({z.name} if layer is {first} else {z.name}.detach())"
            self._say(code, words=("detach()",))
            z.ways = joined(cut(joined(x.ways, one.ways), line + 2), two.ways)
        else:
            self._say(f"    {z.name} = layer({z.name})")
            z.ways = joined(x.ways, one.ways, two.ways)
        self._keep(z)

    def _block(self) -> None:
        """A module with a buffer and two results."""
        x, block = self._any(), f"block{self._id()}"
        names = [f"p{self._id()}" for _ in range(2)]
        self._say(
            f"{block} = Block()",
            f"{names[0]}, {names[1]} = {block}.first.weight, {block}.last.weight",
        )
        first, last = map(self._parameter, names)
        line = self._say(f"out = {block}({x.name})")
        self._made("out['out']", joined(x.ways, first.ways, last.ways))
        self._made("out['mean']", cut(joined(x.ways, first.ways), line, _MEAN - 1, _MEAN))

    def _loaded(self) -> None:
        """The values of a tensor are loaded into a parameter."""
        x = self._any()
        net, parameter = self._gain()
        words = ("load_state_dict", "copies", "copy", "detach()", "no_grad")
        line = self._say(f"{net}.load_state_dict({{'weight': {x.name}.detach()}})", words=words)
        self.program.in_place.append(line)
        self._write(parameter, cut(x.ways, line), line)
        self._made(f"{net}({x.name})", joined(x.ways, parameter.ways))

    def _rows_of_a_leaf(self) -> None:
        """Some values of a parameter are written."""
        y = self._any()
        net, parameter = self._gain()
        name = parameter.name
        code = self.random.choice(
            [
                "with torch.no_grad(): {p}[1:3].copy_({y}[:2])",
                "{p}.data[:2] = {y}.detach()[:2]",
                "{p}[:2].data.add_({y}[2:].detach())",
                "{p}.view(2, 2).data[0].copy_({y}[:2].detach())",
                "{net}.weight.data = {net}.weight.data + {y}.detach()",
                "with torch.no_grad(): {net}.weight.lerp_({y}, 0.1)",
            ]
        )
        words = ("no_grad", "detach()", "data", "copies")
        line = self._say(code.format(p=name, y=y.name, net=net), words=words)
        self.program.in_place.append(line)
        self._write(parameter, cut(y.ways, line), line)
        self._made(f"{net}({y.name})", joined(y.ways, parameter.ways))

    def _twin(self) -> None:
        """A module is copied: the copy has the values of the first one, without a gradient."""
        x = self._any()
        _, first = self._gain()
        net = f"net{first.name[1:]}"
        line = self._say(f"twin{net} = copy.deepcopy({net})", words=("deepcopy",))
        name = f"p{self._id()}"
        self._say(f"{name} = twin{net}.weight")
        twin = self._parameter(name, cut(first.ways, line))
        self._made(f"twin{net}({x.name})", joined(x.ways, twin.ways))

    def _recurrent(self) -> None:
        """A state goes through steps; at the end of some or of all it is detached."""
        x, y = self._any(), self._any()
        z = self._new({})
        line = self._say(f"{z.name} = {x.name} * 1", "for t in range(3):")
        self._say(f"    {z.name} = ({z.name} * {y.name}).tanh()")
        ways = joined(x.ways, y.ways)
        kind = self.random.choice(["", "if t == 1: ", "always"])
        if kind:
            code = kind if kind != "always" else ""
            self._say(f"    {code}{z.name} = {z.name}.detach()", words=("detach()",))
            ways = cut(ways, line + 3)
            if kind != "always":
                ways = joined(ways, y.ways)
        z.ways = ways
        self._keep(z)

    def _reentrant(self) -> None:
        x = self._any()
        line = self._next()
        is_cut = not x.is_tracked
        z = self._made(
            f"checkpoint(lambda t: t.sin() * 2, {x.name}, use_reentrant=True)",
            cut(x.ways, line) if is_cut else dict(x.ways),
        )
        if is_cut:
            z.ways = dict(x.ways)

    def _several_outputs(self) -> None:
        """A Function with a mask as its second output, which has no gradient."""
        x, y = self._any(), self._any()
        z, mask = self._new(joined(x.ways, y.ways)), self._new({})
        self._say(f"{z.name}, {mask.name} = Half.apply({x.name}, {y.name})")
        self._keep(z)

    def _scattered(self) -> None:
        """Values are written at indices."""
        x, y, u = self._any(), self._any(), self._any()
        code, words = self.random.choice(
            [
                ("{x}.index_put(({u}.argsort()[:2],), {y}[:2])", ("argsort",)),
                ("{x}.scatter(0, {u}.argsort(), {y})", ("argsort",)),
                ("{x}.index_add(0, {u}.argsort(), {y})", ("argsort",)),
                ("{x}.masked_scatter({u} > 1, {y})", ("gt",)),
                ("torch.gather({x}, 0, {u}.topk(4).indices) + {y}", ("topk",)),
            ]
        )
        line = self._next()
        ways = joined(x.ways, y.ways, cut(u.ways, line))
        self._made(code.format(x=x.name, y=y.name, u=u.name), ways, *words)

    def _autocast(self) -> None:
        x, y = self._any(), self._any()
        z = self._new(joined(x.ways, y.ways))
        self._say(
            "with torch.autocast('cpu', dtype=torch.bfloat16):",
            f"    {z.name} = {x.name} @ torch.outer({x.name}, {y.name})",
            f"{z.name} = {z.name}.float()",
        )
        self._keep(z)

    def _states_in_a_list(self) -> None:
        x, y, box = self._any(), self._any(), f"states{self._id()}"
        line = self._say(f"{box} = []", "for t in range(2):")
        is_cut = self.random.random() < 0.5
        kept = f"{x.name}.detach()" if is_cut else x.name
        self._say(f"    {box}.append({kept} * (t + 1))", words=("detach()",) if is_cut else ())
        ways = cut(x.ways, line + 2) if is_cut else x.ways
        self._made(f"torch.stack({box}).mean(0) + {y.name}", joined(ways, y.ways))

    def _partial(self) -> None:
        x, y = self._any(), self._any()
        line = self._next()
        code, ways, words = self.random.choice(
            [
                ("functools.partial(torch.mul, {x})({y})", joined(x.ways, y.ways), ()),
                ("sum(map(torch.sin, ({x}, {y})))", joined(x.ways, y.ways), ()),
                (
                    "functools.reduce(lambda a, b: a.detach() + b, [{x}, {y}])",
                    joined(cut(x.ways, line), y.ways),
                    ("detach()",),
                ),
                (
                    "max([{x}, {y}], key=lambda t: t.sum().item()) * 1",
                    None,
                    (),
                ),
            ]
        )
        if ways is None:
            return
        self._made(code.format(x=x.name, y=y.name), ways, *words)

    def _caught_later(self) -> None:
        """A value is computed in ``finally``, and in a ``with`` of two contexts."""
        x = self._any()
        z = self._new({})
        line = self._say(
            "try: pass",
            "finally:",
            f"    with torch.enable_grad(), torch.no_grad(): {z.name} = {x.name} * 2",
            words=("no_grad",),
        )
        z.ways = cut(x.ways, line + 2)
        self._keep(z)

    def _hessian(self) -> None:
        """A derivative of a derivative."""
        leaf = self.random.choice(self.program.leaves)
        if leaf in self.program.frozen:
            return
        x = next(each for each in self.vars if each.name == leaf)
        y = self._any()
        first, z = self._new({}), self._new({})
        keep = ", create_graph=True"
        line = self._say(
            f"{first.name}, = torch.autograd.grad(({leaf}.exp() * {leaf}).sum(), {leaf}{keep})",
            f"{z.name}, = torch.autograd.grad({first.name}.sum(), {leaf}{keep})",
            words=("torch.autograd.grad",),
        )
        first.ways = {name: lines | {line} for name, lines in x.ways.items()}
        z.ways = {name: lines | {line, line + 1} for name, lines in x.ways.items()}
        self._keep(first, z)
        self._made(f"{z.name} * {y.name}", joined(z.ways, y.ways))

    def _frozen_part(self) -> None:
        """A module that is frozen after its parameter was used, or before."""
        x = self._any()
        net, name = f"net{self._id()}", f"p{self.count}"
        self._say(f"{net} = Gain()", f"{name} = {net}.weight")
        line = self._say(f"{net}.requires_grad_(False)", words=("requires_grad_",))
        self.program.leaves.append(name)
        self.program.parameters.add(name)
        self.program.frozen[name] = line
        self._keep(Var(name, {name: frozenset({line})}, self._id()))
        self._made(f"{net}({x.name})", joined(x.ways, {name: frozenset({line})}))


def made(seed: int) -> Program:
    """The program of a seed."""
    if seed < WIDE:
        return Maker(seed).make()
    if seed >= SYSTEMS:
        return made_system(seed)
    if seed >= LOOPS:
        return LoopMaker(seed).make()
    return (_TrainingMaker if seed >= TRAINING else WideMaker)(seed).make()
