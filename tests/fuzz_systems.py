"""Training programs of several modules, with parts that are chosen at random.

Each file of ``tests/systems`` is one system: a GAN, an actor and its critic, a teacher and its
student. Its program has slots, ``<<slot>>``. Any alternative of a slot makes a healthy program. A
fault is a text in some slots, with the verdicts that are right for parameters, by the beginning of
their names; ``#!`` marks the lines of which an answer must name one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_parts import Program

import gradviz

__all__ = ["SYSTEMS", "SystemProgram", "made_system", "wrong_in_system"]

SYSTEMS = 100_000_000  # seeds from here on
_SLOT = re.compile(r"^( *)<<(\w+)>>$")
_OPTIMIZER = re.compile(r"<<any optimizer>>\((.*)\)$")
_MARK = "  #!"
_HEAD = """\
import copy, math
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
"""
_OPTIMIZERS = (
    "Adam({}, lr=1e-3)",
    "SGD({}, lr=0.01)",
    "SGD({}, lr=0.01, momentum=0.9)",
    "AdamW({}, lr=1e-3, weight_decay=0.01)",
    "RMSprop({}, lr=1e-3)",
    "Adagrad({}, lr=1e-2)",
    "NAdam({}, lr=1e-3)",
)
_HEALTHY = ("fine", "cleared")

Wrong = Iterator[tuple[str, str]]
Rights = dict[str, tuple[str, ...]]


@dataclass
class Fault:
    """What is wrong with a program.

    Args:
        name: in a few words.
        right: the verdicts that are right, by the beginning of a parameter's name.
        error: the verdict that is right for the error that is raised; "" for none.
        texts: by the name of a slot, what stands in it.
    """

    name: str = ""
    right: Rights = field(default_factory=dict)
    error: str = ""
    texts: dict[str, list[str]] = field(default_factory=dict)

    def marks(self, name: str) -> bool:
        """Whether an answer about a parameter must name a marked line."""
        fits = [each for each in self.right if name.startswith(each)]
        return bool(fits) and not {"fine", "not connected"} & {*self.right[max(fits, key=len)][:1]}


@dataclass
class System:
    """A program with slots.

    Args:
        name: what it trains.
        modules: the variables of its modules.
        right: the verdicts that are right if nothing is wrong.
        program: its lines.
        slots: the healthy alternatives of each slot.
        faults: what may be wrong.
    """

    name: str = ""
    modules: list[str] = field(default_factory=list)
    right: Rights = field(default_factory=dict)
    program: list[str] = field(default_factory=list)
    slots: dict[str, list[list[str]]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def _read(path: Path) -> System:
    system = System(path.stem.replace("_", " "))
    about: Any = system
    rows, kind, name = list[str](), "", ""
    for line in path.read_text().splitlines():
        if line.startswith("== "):
            kind, _, name = line[3:].partition(" ") if line != "== or" else (kind, "", name)
            rows = []
            if kind == "program":
                system.program = rows
            elif kind == "slot":
                system.slots.setdefault(name, []).append(rows)
            elif kind == "fault":
                about = Fault(name)
                system.faults.append(about)
            else:
                about.texts[name] = rows
        elif kind not in ("", "fault"):
            rows.append(line)
        elif line.startswith("right: "):
            where, _, right = line[7:].partition(" = ")
            about.right[where] = tuple(right.split(" | "))
        elif line.startswith("modules: "):
            system.modules = line[9:].split()
        else:
            about.error = line.removeprefix("error: ")
    return system


_SYSTEMS = [_read(path) for path in sorted((Path(__file__).parent / "systems").glob("*.txt"))]


@dataclass
class SystemProgram(Program):
    """A program of several modules.

    Args:
        system: what it trains.
        fault: what is wrong with it; None if nothing is.
        marked: lines; an answer about the fault must name one of them.
    """

    system: System = field(default_factory=System)
    fault: Fault | None = None
    marked: frozenset[int] = frozenset()

    def right_for(self, name: str) -> tuple[str, ...]:
        """The verdicts that are right for a parameter."""
        rights = {**self.system.right, **(self.fault.right if self.fault else {})}
        fits = [each for each in rights if name.startswith(each)]
        return rights[max(fits, key=len)] if fits else _HEALTHY

    @property
    def place(self) -> str:
        """What it is, in a few words."""
        return f"{self.system.name}, {self.fault.name if self.fault else 'healthy'}"


def made_system(seed: int) -> SystemProgram:
    """The program of a seed."""
    choose = random.Random(seed)
    system = choose.choice(_SYSTEMS)
    fault = choose.choice([*system.faults, *[None] * (len(system.faults) + 1)])
    program = SystemProgram(seed, system=system, fault=fault)
    lines = [*_HEAD.splitlines(), *_filled(system.program, system, fault, choose)]
    program.lines += [line.removesuffix(_MARK) for line in lines]
    program.marked = frozenset(n for n, line in enumerate(lines, 1) if line.endswith(_MARK))
    return program


def _filled(
    lines: list[str], system: System, fault: Fault | None, choose: random.Random
) -> Iterator[str]:
    """The lines with their slots filled; alternatives may have slots as well."""
    for line in map(str, lines):
        if (slot := _SLOT.match(line)) is None:
            kind = choose.choice(_OPTIMIZERS) if _OPTIMIZER.search(line) else ""
            yield _OPTIMIZER.sub(
                lambda held, kind=kind: f"torch.optim.{kind.format(held[1])}", line
            )
            continue
        indent, name = slot.groups()
        chosen = choose.choice(system.slots.get(name, [[]]))
        if fault is not None:
            chosen = fault.texts.get(name, chosen)
        yield from (f"{indent}{row}" for row in _filled(chosen, system, fault, choose))


def wrong_in_system(
    program: SystemProgram, recording: Any, space: dict[str, Any], error: Exception | None
) -> Wrong:
    """What is wrong with the answers about a program: (kind, words)."""
    place, fault = program.place, program.fault
    if error is not None or (fault is not None and fault.error):
        if error is None or fault is None or not fault.error:
            yield f"{place}: raised", repr(error)
            return
        yield from _wrong_row(program, gradviz.explain(error, recording), (fault.error,))
        return
    names = {name: space[name] for name in program.system.modules if name in space}
    table = gradviz.explain(recording, names=names)
    rows = {each.name: each for each in table.all}
    wrong = {each.name for each in table.wrong}
    asked = {f"{m}.{path}" for m in names for path, _ in names[m].named_parameters()}
    found = dict[str, tuple[str, str]]()  # by the reason: the same one for many rows
    for row in table.all:
        right = program.right_for(row.name)
        if (row.name in asked or row.name in wrong) and row.verdict.value not in right:
            found[row.reason] = f"{place}: verdict", f"expected {right}: {row}\n{table}"
        elif fault is not None and row.name in wrong and fault.marks(row.name):
            for each in _wrong_row(program, row, right):
                found[row.reason] = each
    yield from found.values()
    missing = [e for e in asked - rows.keys() if "fine" not in program.right_for(e)]
    yield from ((f"{place}: missing", f"{name} is in no row\n{table}") for name in missing)
    if fault is not None and not wrong:
        yield f"{place}: no fault found", str(table)
    every = [(f"{m}.{path}", p) for m in names for path, p in names[m].named_parameters()]
    for name, parameter in random.Random(program.seed).sample(every, 2):
        right = (*program.right_for(name), "cleared")
        row = gradviz.explain(parameter, recording, names=names)
        if row.verdict.value not in right:
            yield f"{place}: alone", f"{name}, expected {right}: {row}"


def _wrong_row(program: SystemProgram, row: Any, right: tuple[str, ...]) -> Wrong:
    if row.verdict.value not in right:
        yield f"{program.place}: verdict", f"expected {right}: {row}"
        return
    named = {each.line for each in row.locations if str(each).startswith(program.file)}
    if program.marked and not named & program.marked:
        yield f"{program.place}: no line", f"expected {sorted(program.marked)}: {row}"
