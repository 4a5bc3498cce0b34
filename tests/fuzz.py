"""Random programs of which it is known what is cut where: what gradviz says of each is checked.

    make fuzz                                     # 2,000 programs, or COUNT=20000 SEED=7
    python tests/fuzz.py --count 20000 --seed 7   # the same; prints what is wrong, with the program
    python tests/fuzz.py --show 123               # the program of one seed, and the answers

Each program is run bare and recorded. Values, gradients, versions and random states must be the
same. Which leaves are reachable is asked of torch; where data leaves the graph is known, because
the program was generated. A cause that is told must be one of those, at one of its lines, and
called by its word.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import linecache
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from fuzz_loops import LoopProgram, wrong_answers
from fuzz_programs import Program
from fuzz_systems import SystemProgram, wrong_in_system
from fuzz_training import made

import gradviz


def _run(program: Program, recording: Any = None) -> tuple[dict[str, Any], Exception | None]:
    """The variables of a program after it has run, and what it raised."""
    space: dict[str, Any] = {
        "__name__": "fuzz",
    }
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
    finally:
        torch.set_grad_enabled(True)
    return space, error


def _state(space: dict[str, Any]) -> list[Any]:
    """All numbers that a recording must not change."""
    found: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modules = [each for each in space.values() if isinstance(each, torch.nn.Module)]
        held = {str(pair): each for pair in enumerate(modules) for each in pair[1].parameters()}
        for name, value in [*space.items(), *held.items()]:
            if isinstance(value, torch.Tensor) and not value.is_inference():
                grad = value.grad.tolist() if value.is_leaf and value.grad is not None else None
                found.append((name, str(value.tolist()), str(grad), value._version))
    return [*found, hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
            random.random(), torch.is_grad_enabled()]  # fmt: skip


Wrong = Iterator[tuple[str, str]]


def wrong(program: Program) -> Wrong:
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
    yield from _wrong_answers(program, recording, space, error)
    # Hooks that are lambdas hold all variables, in cycles that no collector finds.
    bare.clear()
    space.clear()
    linecache.cache.pop(program.file, None)


def _wrong_answers(
    program: Program, recording: Any, space: dict[str, Any], error: Exception | None
) -> Wrong:
    names = {leaf: space[leaf] for leaf in program.leaves if leaf in space}
    try:
        if isinstance(program, LoopProgram):
            yield from wrong_answers(program, recording, space, error)
        elif isinstance(program, SystemProgram):
            yield from wrong_in_system(program, recording, space, error)
        elif error is not None:
            yield from _wrong_error(program, gradviz.explain(error, recording, names=names), error)
        elif "loss" in space:
            yield from _Checked(program, space, recording, names).wrong()
        if program.seed % 4 == 0:
            gradviz.draw(recording).render("txt")
    except Exception as raised:
        yield "crash", f"{type(raised).__name__}: {raised}"


def _wrong_error(program: Program, told: Any, error: Exception) -> Wrong:
    verdict, named = told.verdict.value, _named(program, told)
    if verdict == "another error":
        yield "error not known", f"{told}\n{error}"
    is_hidden = "checkpoint(" in program.text  # what a checkpoint keeps is in no graph
    if verdict == "changed in place" and not (named & set(program.in_place) or is_hidden):
        yield "wrong line", f"error: {told}"
    traceback, last = error.__traceback__, 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == program.file:
            last = last or traceback.tb_lineno
        traceback = traceback.tb_next
    if program.error and last == len(program.lines) and verdict != program.error:
        yield "wrong error", f"expected {program.error}: {told}"


def _named(program: Program, told: Any) -> set[int]:
    """The lines of the program that an answer names."""
    return {each.line for each in told.locations if str(each).startswith(program.file)}


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


_NONE = ("cut", "not connected", "frozen", "non-leaf tensor", "not a leaf", "cause not recorded")


@dataclass(eq=False)
class _Checked:
    """The answers about one program that raised nothing."""

    program: Program
    space: dict[str, Any]
    recording: Any
    names: dict[str, Any]
    told: dict[str, Any] = field(default_factory=dict)

    def wrong(self) -> Wrong:
        """What is wrong with them."""
        program, space, loss = self.program, self.space, self.space["loss"]
        graph = gradviz.trace(loss, names=self.names)
        reached = {graph.nodes[leaf].get("name") for leaf in graph.leaves}
        reachable = _reachable(loss)
        names = {**self.names, "loss": loss}
        for leaf in program.leaves:
            root = loss if loss.requires_grad and not program.passes else None
            told = gradviz.explain(space[leaf], self.recording, loss=root, names=names)
            self.told[leaf] = told
            if leaf in program.frozen:
                if told.verdict.value != "frozen" or _named(program, told) != {
                    program.frozen[leaf]
                }:
                    yield "frozen", str(told)
                continue
            is_reached = id(space[leaf]) in reachable
            if (leaf in reached) != is_reached and loss.requires_grad:
                yield "reachability", f"{leaf}: torch {is_reached}, trace {leaf in reached}"
            if space[leaf].grad is not None:
                yield from self._wrong_gradient(leaf, told)
            elif loss.requires_grad and (is_reached or told.verdict.value == "cleared"):
                yield from self._wrong_none(leaf, told)
            elif loss.requires_grad:
                yield from self._wrong_unreached(leaf, told)
        if program.seed % 3 == 0 and program.passes:
            yield from self._wrong_table()
        if program.seed % 3 == 1:
            yield from self._wrong_result()

    def _wrong_gradient(self, leaf: str, told: Any) -> Wrong:
        """Of a leaf that has a gradient."""
        program, verdict = self.program, told.verdict.value
        grad = self.space[leaf].grad
        norms = [
            self.space[each].grad.norm().item()
            for each in program.leaves
            if self.space[each].grad is not None
        ]
        norm = grad.norm().item()
        right = set()
        if not grad.isfinite().all():
            right |= {"NaN"} if grad.isnan().any() else {"infinite"}
        elif not grad.any():  # the norm of tiny numbers is 0
            right |= {"zero"}
        if len(program.passes) > 1:
            right |= {"accumulated"}
        may_be = {"vanishing", "exploding"} if max(norms) > min(500 * min(norms), 1e6) else set()
        if program.held is not None and right == {"accumulated"}:
            may_be.add("fine")  # several passes before the one step are a sum that is meant
        if program.held is not None and leaf not in program.held and leaf in program.parameters:
            trained = program.parameters & set(program.held) - set(program.frozen)
            inputs = set(program.held) - program.parameters  # a program may optimize an input
            (right if trained and not inputs else may_be).add("left out of the optimizer")
        if not self.space["loss"].isfinite().all():
            may_be.add("loss not finite")
        if norm < 1e-6:  # a sum of a softmax: "0 up to rounding errors"
            may_be.add("zero")
        if norm < 1e-4:  # its steps, with a rate of 0.01 or less, are lost in float32
            may_be.add("no step")
        if leaf in program.hidden:
            may_be |= right | {"fine"}
        if leaf in program.hooked:
            may_be.add("hook returned another")
        if any(".data." in program.lines[n - 1] for n in _named(program, told) - {*program.passes}):
            may_be.add("changed unseen")  # autograd does not see what is written through an alias
        if verdict not in (right or {"fine"}) | may_be:
            yield "wrong verdict", f"expected {sorted(right) or 'fine'}: {told}"
        if verdict == "zero" and program.zeros:
            named = _named(program, told)
            if not named:
                yield "zero without a cause", str(told)

    def _wrong_none(self, leaf: str, told: Any) -> Wrong:
        """Of a leaf that the loss is connected to, and that has no gradient."""
        program = self.program
        right, lines = "backward not run", set[int]()
        if leaf in program.left_out:
            right, lines = "left out", set(program.passes)
        elif program.only_grad:
            right, lines = "left out", {program.only_grad}
        elif program.cleared:
            right, lines = "cleared", set(range(program.cleared, len(program.lines) + 1))
        if told.verdict.value != right:
            yield "wrong verdict", f"expected {right}: {told}"
        elif lines and not _named(program, told) & lines:
            yield "wrong line", f"expected {sorted(lines)}: {told}"

    def _wrong_unreached(self, leaf: str, told: Any) -> Wrong:
        """Of a leaf that no gradient from the loss reaches."""
        program, verdict = self.program, told.verdict.value
        lines = program.ways.get(leaf, frozenset())
        inside = {-line for line in lines if line < 0}
        cuts, named = {line for line in lines if line > 0}, _named(program, told)
        if verdict not in _NONE:
            yield "false gradient", str(told)
        elif leaf in program.hidden:
            return
        elif inside and named <= inside:
            if not named:
                yield "missed inside", f"{leaf} is used inside {inside}\n{told}"
        elif not cuts:
            if verdict == "cut":
                yield "wrong cause", f"{leaf} is not {'cut' if lines else 'in loss'}\n{told}"
            elif named - program.noise.get(leaf, set()):
                yield "wrong line", f"{leaf} is not in loss\n{told}"
        elif not named:
            yield "missed cause", f"{leaf} is cut at {sorted(cuts)}\n{told}"
        elif not named <= cuts:
            yield "wrong line", f"{leaf} is cut at {sorted(cuts)}\n{told}"
        else:
            yield from self._wrong_word(told)

    def _wrong_word(self, told: Any) -> Wrong:
        """The first line of a cut, or any line of numbers, is called by what is there."""
        named = told.locations[:1] if told.verdict.value == "cut" else told.locations
        words = [word for each in named for word in self.program.words.get(each.line, ())]
        if words and not any(word in told.reason for word in words):
            yield "wrong word", f"expected {words}: {told}"

    def _wrong_table(self) -> Wrong:
        """All at once must say what one by one says."""
        rows = list(gradviz.explain(self.recording, names={**self.names}))
        same = {each.name for each in rows if self._says_the_same(each)}
        for each in rows:
            own = self.told.get(each.name)
            if each.name in same or each.name in self.program.frozen:
                # A row of that name may be of a leaf of an earlier step, too; the table lists
                # what is frozen as not trained, which is no fault.
                continue
            is_held = self.program.held is None or each.name in self.program.held
            if each.verdict.value in ("not trained", "left out of the optimizer") and not is_held:
                continue  # the table knows the optimizers as well, and says what was cleared
            is_free = self.program.held is None or not is_held
            if each.reason.startswith("its values are copied") and is_free:
                continue  # as a template, a teacher or a mean of a trained one
            words = ("returned its gradient", "torch.func at ")
            is_meant = any(word in each.reason for word in words)
            if is_meant and is_free:
                continue  # the table says that the program took the gradient without backward
            is_asked = own is not None and own.verdict.value == "left out"
            if (
                is_asked
                and "torch.autograd.grad" in each.reason
                and "torch.autograd.grad" in str(own)
            ):
                continue  # one asks why .grad is None, the table whether the program is right
            if own is not None:
                yield "disagree", f"{each}\n{own}"

    def _says_the_same(self, row: Any) -> bool:
        own = self.told.get(row.name)
        if own is None:
            return False
        # A table does not report a hook that scales a gradient as a fault.
        is_mild = own.verdict.value == "hook returned another" and row.verdict.value == "fine"
        # Whether an optimizer of an input trains a model depends on the tensors that are seen.
        held = set(self.program.held or ()) - self.program.parameters
        is_mild |= bool(held) and row.verdict.value == "left out of the optimizer"
        # It reports what was wrong with a gradient that was cleared since.
        is_mild |= own.verdict.value == "cleared" and row.verdict.value in (
            "zero",
            "NaN",
            "infinite",
        )
        return is_mild or own.verdict is row.verdict

    def _wrong_result(self) -> Wrong:
        """Of a result that lies outside the graph."""
        program = self.program
        outside = [
            each
            for each in program.vars
            if each.name in self.space
            and not self.space[each.name].requires_grad
            and each.name not in program.leaves
        ]
        for var in outside[-2:]:
            told = gradviz.explain(self.space[var.name], self.recording, names=self.names)
            cuts = {line for lines in var.ways.values() for line in lines if line > 0}
            named = _named(program, told)
            if program.hidden & set(var.ways):
                continue
            may_be_numbers = bool(cuts & program.numbers)
            if may_be_numbers and told.verdict.value == "does not require grad":
                continue
            if cuts and told.verdict.value != "cut":
                yield "result missed", f"{var.name} is cut at {sorted(cuts)}\n{told}"
            elif not named <= cuts:
                yield "result wrong line", f"{var.name} is cut at {sorted(cuts)}\n{told}"


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
        print(made(given.show).text)
    began, kinds, faulty = time.monotonic(), Counter[str](), 0
    for first in range(8):  # what is imported late is imported before the objects are set apart
        list(wrong(made(first)))
    gc.collect()
    gc.freeze()  # `explain` searches the objects of the process: leave out those of libraries
    for at, seed in enumerate(seeds, 1):
        program = made(seed)
        found = list(wrong(program))
        faulty += bool(found)
        for kind, words in found:
            kinds[kind] += 1
            if kinds[kind] <= 30 or given.show is not None:
                print(f"## seed {seed}: {kind}: {words}", flush=True)
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
