"""`summary`: the content of a graph as a table of its modules."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradviz.errors import UsageError
from gradviz.frontends.files import stage
from gradviz.graph import GradGraph
from gradviz.graph.operations import REENTRANT
from gradviz.graph.text import bytes_text, clean, count_text, listed, number_text
from gradviz.renderers.text import in_columns
from gradviz.reports.modules import ModuleRows, Row, rows_of, with_saved_bytes
from gradviz.story import Frame, Story, recorded_in

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

_COLUMNS = ("output", "ops", "params", "trainable", "saved", "grad norm", "NaN")
_WIDE = 10_000  # characters: text for a file is not wrapped


def summary(*subjects: object, names: object = None, depth: int | None = None) -> Summary:
    """Sum up the graph of some tensors: modules, memory, gradients.

    Args:
        subjects: tensors, or lists, tuples, dicts and dataclasses of them; or one `GradGraph`,
            `Frame`, `Story` or recording, of which the last frame is used.
        names: the names of tensors, as for `draw`; modules are inferred from them.
        depth: number of path parts that distinguish modules; None for the deepest that needs at
            most 40 rows.

    Returns:
        The table: ``print`` it, or read its ``rows`` and ``total``.

    Raises:
        SubjectError: if autograd recorded nothing about a subject.
        UsageError: if ``depth`` is less than 1, or there is no frame.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
        >>> loss = model(torch.ones(1, 3)).sum()
        >>> table = summary(loss, names=model)
        >>> [(row.module, row.parameters) for row in table.rows], table.total.parameters
        ([('0', 8), ('1', 3), ('', 0)], 11)
    """
    story = recorded_in(subjects[0]) if len(subjects) == 1 else None
    if story is None:
        from gradviz.capture.tensors.names import Names
        from gradviz.capture.tracer import trace_subjects

        named = Names.of(names, sys._getframe(1))
        with stage("tracing"):
            story = trace_subjects(subjects, named, caller="sum up")
    return Summary(story, depth=depth)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Restore the random generator of the program, from which rich draws for its styles."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


class Summary:
    """A table of the modules of a graph, with the total; ``str()`` is plain text.

    Args:
        subject: the graph; of a story the last frame, with what was saved before it was freed.
        depth: as for `summary`.

    Example:
        >>> print(Summary(GradGraph()))
        module  ops
        ───────────
        total     0
    """

    def __init__(self, subject: GradGraph | Frame | Story, *, depth: int | None = None) -> None:
        self.graph = _graph(subject)
        earlier = [frame.graph for frame in subject[:-1]] if isinstance(subject, Story) else []
        filled = with_saved_bytes(self.graph, earlier)
        self._is_of_before = filled is not self.graph
        self._found: ModuleRows = rows_of(filled, depth)

    @property
    def rows(self) -> tuple[Row, ...]:
        """A row per module, in the order in which they first ran.

        One that autograd did not record is right before the first operation that used its result.
        """
        return self._found.rows

    @property
    def total(self) -> Row:
        """The sums over the whole graph."""
        return self._found.total

    @property
    def notes(self) -> tuple[str, ...]:
        """What the table leaves out or does not know, one line each."""
        found, notes = self._found, []
        if found.depth < found.deepest:
            notes.append(f"modules to depth {found.depth} of {found.deepest}")
        if found.inferred:
            notes.append("modules inferred from names and order, not recorded")
        if {"is_merged", "is_traced"} <= self.graph.graph.keys():
            flat = "FullyShardedDataParallel merged the parameters of several modules"
            notes.append(f"(no module): {flat}; gradviz.record knows what ran in which one")
        checkpoints = [n for _, n in self.graph.nodes(data=True) if n.get("opaque") == REENTRANT]
        if checkpoints:
            inside = [name for each in checkpoints for name in each.get("runs_with", ())]
            used = f" ({listed(inside)})" if inside else ""
            only = "recorded only when backward runs, in another graph"
            notes.append(f"left out: what a reentrant checkpoint runs{used}, {only}")
        shown = sum(row.known_parameters for row in found.outermost)
        if (more := found.total.known_parameters - shown) > 0:
            notes.append(f"params: {count_text(more)} of the total are of modules without a row")
        if found.total.without_grad:
            several = f"{found.total.without_grad:,} of {found.total.leaves:,} leaves"
            notes.append(f"no gradient: {several}, .grad is None")
        grads = (node.get("grad") for _, node in self.graph.nodes(data=True))
        if any(grad is not None and grad.is_part for grad in grads):
            notes.append("grad norm: of the parts on this rank")
        if self._is_of_before:
            notes.append("saved: as it was before a backward pass freed it")
        elif found.total.freed:
            notes.append("freed: a backward pass freed the saved tensors")
        return tuple(notes)

    @property
    def text(self) -> str:
        """The table as plain text, the same in every terminal and file."""
        stream = io.StringIO()
        with _random_state_kept():
            from rich.console import Console  # its import draws random numbers

            console = Console(
                file=stream,
                width=_WIDE,
                color_system=None,
                force_terminal=False,
                force_jupyter=False,  # in a notebook it would be displayed instead of returned
            )
            console.print(self._table())
        lines = [line.rstrip() for line in stream.getvalue().splitlines()]
        return "\n".join([*lines, *self.notes])

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Summary({self.graph!r})"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """The table, in a notebook and in IPython."""
        printer.text(self.text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table for a terminal: its total in bold, faults in color."""
        from rich.measure import Measurement
        from rich.text import Text

        with _random_state_kept():
            table, unlimited = self._table(), options.update(max_width=_WIDE)
            if Measurement.get(console, unlimited, table).maximum > options.max_width:
                table = self._table(has_classes=False)
            yield table
            for note in self.notes:
                for line in in_columns(note, options.max_width):
                    yield Text(line, style="dim")

    def _table(self, has_classes: bool = True) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        total = _cells(self.total)
        lines = [
            (_title(name, row.module_class if has_classes else ""), _cells(row))
            for name, row in self._found.nested
        ]
        if any(not row.module for row in self.rows):
            lines += [(Text("(no module)"), _cells(row)) for row in self.rows if not row.module]
        shown = [at for at, _ in enumerate(_COLUMNS) if self._is_shown(at, [c for _, c in lines])]
        table = Table(
            box=box.HORIZONTALS,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
            header_style="bold",
        )
        table.add_column("module", overflow="fold")
        for name in (_COLUMNS[at] for at in shown):
            style = "bold red" if name == "NaN" else ""
            is_text = name == "output"
            table.add_column(
                name, justify="left" if is_text else "right", no_wrap=True, style=style
            )
        for title, cells in lines:
            table.add_row(title, *(cells[at] for at in shown))
        table.add_section()
        table.add_row("total", *(total[at] for at in shown), style="bold")
        return table

    def _is_shown(self, at: int, cells: Sequence[Sequence[str]]) -> bool:
        """Whether a column says anything."""
        if _COLUMNS[at] == "trainable":
            return bool(self.total.frozen)
        if _COLUMNS[at] == "params":
            return bool(self.total.leaves or self.total.known_parameters)
        nothing = ("", "0 B", "freed") if _COLUMNS[at] == "saved" else ("",)
        return _COLUMNS[at] == "ops" or any(row[at] not in nothing for row in cells)


def _title(name: str, word: str) -> Text:
    """The name of a module, after the characters of the tree, and its class."""
    from rich.text import Text

    title = Text(clean(name))  # not parsed as markup
    return title.append(f"  {clean(word)}", style="dim") if word else title


def _graph(subject: GradGraph | Frame | Story) -> GradGraph:
    if isinstance(subject, GradGraph):
        return subject
    if isinstance(subject, Frame):
        return subject.graph
    if not subject:
        raise UsageError("the story holds no frame, so there is nothing to sum up")
    return subject[-1].graph


def _cells(row: Row) -> list[str]:
    return [
        row.output,
        f"{row.ops:,}",
        count_text(row.known_parameters),
        count_text(row.known_parameters - row.frozen) if row.known_parameters else "",
        "freed" if row.freed and not row.saved_bytes else bytes_text(row.saved_bytes),
        _gradient(row),
        " ".join(
            f"{count:,} {word}" for count, word in ((row.nan, "NaN"), (row.inf, "inf")) if count
        ),
    ]


def _gradient(row: Row) -> str:
    if not row.leaves:
        return ""
    if row.grad_norm is None and not (row.nan or row.inf):
        return "None" if row.without_grad == row.leaves else "not read"
    if row.nan or row.inf:
        return "NaN" if row.nan else "inf"
    missing = f" ({row.without_grad:,} None)" if row.without_grad else ""
    return f"{number_text(row.grad_norm or 0.0)}{missing}"
