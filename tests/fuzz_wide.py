"""More kinds of statements: containers, functions, modules with state, views of views.

The programs of seeds below `WIDE` are made without them, so that a seed makes the same program as
before.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz_parts import NUMBERS, PRELUDE, Var, Ways, cut, joined
from fuzz_programs import Maker

__all__ = ["ALL", "WIDE", "WideMaker"]

WIDE = 200_000

MORE = """\
import dataclasses
@dataclasses.dataclass
class State:
    hidden: torch.Tensor
class Cell(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.state = None
    def forward(self, x):
        out = x if self.state is None else x + self.state
        self.state = out.detach() * 2
        return out.tanh()
class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4), requires_grad=False)
    def forward(self, x):
        return x * self.weight
def halves(t):
    yield t[:2]
    yield t[2:].detach()
def times(k):
    return lambda t: t * k
@torch.no_grad()
def frozen(t):
    return t * 2
"""
ALL = (PRELUDE + MORE).splitlines()


def _line(code: str) -> int:
    return 1 + next(n for n, line in enumerate(ALL) if code in line)


_STATE, _HALF, _FROZEN = map(
    _line, ("self.state = out.detach()", "yield t[2:]", "    return t * 2")
)
_FROZEN = len(ALL)
_OFF = _line("@torch.no_grad()")


class WideMaker(Maker):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.program.lines = list(ALL)
        self.program.words[_STATE] = self.program.words[_HALF] = ("detach()",)
        self.program.words[_FROZEN] = ("no_grad",)

    def steps(self) -> list[Callable[[], None]]:
        more: list[Callable[[], None]] = [
            self._container,
            self._attribute,
            self._module_with_state,
            self._generator,
            self._closure,
            self._loop_with_break,
            self._loop_over,
            self._view_of_view,
            self._masked,
            self._functional,
            self._decorated,
            self._forward_hook,
            self._number_in_list,
            self._raised_inside,
            self._refused_change,
            self._delete,
            self._average,
            self._nested_checkpoint,
            self._saved_elsewhere,
            self._reassigned,
        ]
        return [*super().steps(), *more, *more]

    def _made(self, code: str, ways: Ways, *words: str, like: Var | None = None) -> Var:
        z = self._new(ways, like)
        self._say(f"{z.name} = {code}", words=words)
        self._keep(z)
        return z

    def _next(self) -> int:
        return len(self.program.lines) + 1

    def _id(self) -> int:
        self.count += 1
        return self.count

    def _container(self) -> None:
        x, y, box = self._any(), self._any(), f"box{self._id()}"
        code, words, is_cut = self.random.choice(
            [
                ("{box}['a'] + {box}['b'][0]", (), False),
                ("{box}['a'] + {box}['b'][0].detach()", ("detach()",), True),
                ("{box}['a'] * {box}['b'].pop().data", (".data",), True),
                ("sum({box}['b'], {box}.get('a'))", (), False),
            ]
        )
        self._say(f"{box} = {{'a': {x.name}, 'b': [{y.name}]}}")
        other = cut(y.ways, self._next()) if is_cut else y.ways
        self._made(code.format(box=box), joined(x.ways, other), *words)

    def _attribute(self) -> None:
        x, y, state = self._any(), self._any(), f"state{self._id()}"
        self._say(f"{state} = State({x.name})")
        if self.random.random() < 0.5:
            line = self._say(f"{state}.hidden = {state}.hidden.detach()", words=("detach()",))
            ways = cut(x.ways, line)
        else:
            self._say(f"{state}.hidden = {state}.hidden * 2")
            ways = x.ways
        self._made(f"{state}.hidden * {y.name}", joined(ways, y.ways))

    def _module_with_state(self) -> None:
        x, y, cell = self._any(), self._any(), f"cell{self._id()}"
        self._say(f"{cell} = Cell()")
        line = self._next()
        self._made(f"{cell}({x.name})", dict(x.ways))
        self._made(f"{cell}({y.name})", joined(y.ways, cut(x.ways, line, _STATE)))

    def _generator(self) -> None:
        x = self._any()
        ways = joined(x.ways, cut(x.ways, self._next(), _HALF))
        self._made(f"torch.cat(list(halves({x.name})))", ways, "detach()")

    def _closure(self) -> None:
        x, y, call = self._any(), self._any(), f"call{self._id()}"
        is_cut = self.random.random() < 0.4
        words = ("detach()",) if is_cut else ()
        given = f"{y.name}.detach()" if is_cut else y.name
        line = self._say(f"{call} = times({given})", words=words)
        self._made(f"{call}({x.name})", joined(x.ways, cut(y.ways, line) if is_cut else y.ways))

    def _loop_with_break(self) -> None:
        x, y = self._any(), self._any()
        z = self._new({})
        line = self._say(
            f"{z.name} = {x.name} * 1", "for each in range(5):", "    if each == 2: break"
        )
        is_cut = self.random.random() < 0.5
        other = f"{y.name}.detach()" if is_cut else y.name
        words = ("detach()",) if is_cut else ()
        self._say(f"    {z.name} = {z.name} * 0.5 + {other}", words=words)
        z.ways = joined(x.ways, cut(y.ways, line + 3) if is_cut else y.ways)
        self._keep(z)

    def _loop_over(self) -> None:
        x, y = self._any(), self._any()
        line = self._next()
        ways = joined(x.ways, cut(y.ways, line))
        code = self.random.choice(
            [
                "torch.stack([t * 2 for t in ({x}, {y}.detach())]).sum(0)",
                "sum(t for t in [{x}, {y}.detach()])",
                "(lambda *given: given[0] - given[1].detach())({x}, {y})",
                "dict(a={x}, b={y}.detach())['b'] + {x}",
            ]
        )
        self._made(code.format(x=x.name, y=y.name), ways, "detach()")

    def _view_of_view(self) -> None:
        x, y = self._any(), self._any()
        z = self._made(f"{x.name} * 1", dict(x.ways))
        code, words, is_cut = self.random.choice(
            [
                ("{z}.view(2, 2).t()[1].mul_({y}[:2])", (), False),
                ("{z}[1:][:2].copy_({y}[:2])", (), False),
                ("{z}.view(2, 2).diagonal().add_({y}[2:])", (), False),
                ("{z}.unsqueeze(0).expand(1, 4)[0][1:3] += {y}[:2]", (), False),
                ("{z}.view(2, 2).t()[0].add_({y}[:2].detach())", ("detach()",), True),
                ("{z}[:3][1:].copy_({y}.data[2:])", (".data",), True),
                ("{z}[1:].data.view(3)[:2].add_({y}[:2].detach())", ("detach()", "data"), True),
            ]
        )
        line = self._say(code.format(z=z.name, y=y.name), words=words)
        self._write(z, cut(y.ways, line) if is_cut else y.ways, line)
        self._made(f"{z.name}.sin()", dict(z.ways))

    def _masked(self) -> None:
        x, y = self._any(), self._any()
        z = self._made(f"{x.name} * 1", dict(x.ways))
        line = self._say(f"{z.name}.masked_fill_({y.name} > 1, 0.5)", words=("gt",))
        self._write(z, cut(y.ways, line), line)

    def _functional(self) -> None:
        x, y = self._any(), self._any()
        code, ways = self.random.choice(
            [
                ("torch.func.functional_call(Scale(), {{'weight': {y}}}, ({x},))", None),
                ("torch.func.vmap(lambda a, b: a * b)({x}, {y})", None),
                ("torch.func.grad(lambda t: (t.exp() * t).sum())({x})", x.ways),
                ("Scale()({x})", x.ways),
                ("torch.func.vjp(lambda t: t * 2, {x})[0]", x.ways),
            ]
        )
        if not x.is_tracked and "call(" not in code and "Scale" not in code:
            return  # not recorded: what a transform of torch.func does with data that was cut
        self._made(code.format(x=x.name, y=y.name), ways or joined(x.ways, y.ways))

    def _decorated(self) -> None:
        x = self._any()
        self._made(f"frozen({x.name})", cut(x.ways, self._next(), _OFF, _FROZEN), "no_grad")

    def _forward_hook(self) -> None:
        x, scale = self._any(), f"scale{self._id()}"
        first = self._say(f"{scale} = Scale()", words=("detach()",))
        self._say(
            f"{scale}.register_forward_hook(lambda module, given, out: out.detach() * 2)",
            words=("detach()",),
        )
        self._made(f"{scale}({x.name})", cut(x.ways, first + 1, first + 2), "detach()")

    def _number_in_list(self) -> None:
        x, y, log = self._any(), self._any(), f"log{self._id()}"
        self._say(f"{log} = []")
        line = self._say(f"{log}.append({x.name}.sum().item())", words=NUMBERS)
        self._read(x, line)
        self._made(f"{y.name} * {log}[0]", joined(y.ways, cut(x.ways, line)))

    def _raised_inside(self) -> None:
        x = self._any()
        z = self._new({})
        line = self._say(
            "try:",
            "    with torch.no_grad():",
            f"        {z.name} = {x.name} * 2",
            "        raise ValueError('é')",
            "except ValueError: pass",
            words=("no_grad",),
        )
        z.ways = cut(x.ways, line + 1, line + 2)  # an answer may name the line that enters it, too
        self._keep(z)

    def _refused_change(self) -> None:
        x = self._any()
        z = self._made(f"{x.name} * 1", dict(x.ways))
        self._say("try:", f"    {z.name}.add_(torch.ones(3))", "except RuntimeError: pass")

    def _delete(self) -> None:
        leaves = self.program.leaves
        rest = [each for each in self.vars if each.name not in leaves]
        if rest and len(self.vars) > len(leaves) + 1:
            x = self.random.choice(rest)
            self._say(f"del {x.name}")
            self.vars.remove(x)

    def _average(self) -> None:
        x, y = self._any(), self._any()
        line = self._next()
        z = self._made(f"{x.name}.detach().clone()", cut(x.ways, line), "detach()")
        change = self._say(
            f"{z.name}.mul_(0.9).add_({y.name}.detach(), alpha=0.1)", words=("detach()",)
        )
        self._write(z, cut(y.ways, change), change)

    def _nested_checkpoint(self) -> None:
        x = self._any()
        inner = "checkpoint(lambda u: u.exp(), t, use_reentrant=False)"
        self._made(
            f"checkpoint(lambda t: {inner} * 2, {x.name}, use_reentrant=False)", dict(x.ways)
        )

    def _saved_elsewhere(self) -> None:
        x = self._any()
        z = self._new(dict(x.ways))
        self._say(
            "with torch.autograd.graph.save_on_cpu():", f"    {z.name} = {x.name}.exp().log1p()"
        )
        self._keep(z)

    def _reassigned(self) -> None:
        """A variable gets another tensor: the old one is gone if nothing else holds it."""
        x = self._any()
        if x.name in self.program.leaves:
            return
        is_cut = self.random.random() < 0.4
        code = f"{x.name} = {x.name}" + (".detach() * 2" if is_cut else " * 2")
        line = self._say(code, words=("detach()",) if is_cut else ())
        self.vars.remove(x)
        new = self._new(cut(x.ways, line) if is_cut else dict(x.ways))
        new.name = x.name
        self._keep(new)
