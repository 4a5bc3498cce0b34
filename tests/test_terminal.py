"""On a terminal: lines fit it, the tree is kept, and bold and color appear there only."""

import contextlib
import itertools
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import click.testing
import pytest
import torch
from cases import CASES
from graphs import graph_of
from rich.cells import cell_len

import gradviz
from gradviz.frontends import files
from gradviz.frontends.cli import cli
from gradviz.renderers.text import in_columns, to_text

EXAMPLES = Path(__file__).parent.parent / "examples"


def on_terminal(*arguments, columns=80, **more):
    """What a command prints on a terminal of that width."""
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", **more}
    environment.pop("NO_COLOR", None) if "NO_COLOR" not in more else None
    process = subprocess.Popen(
        [sys.executable, "-m", "gradviz", *arguments],
        stdout=child,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env=environment,
        cwd=EXAMPLES,
    )
    os.close(child)
    pieces = []
    while True:
        try:
            data = os.read(parent, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        pieces.append(data)
    process.wait()
    os.close(parent)
    return b"".join(pieces).decode().replace("\r\n", "\n")


def plain(text):
    """The text without the codes for bold and color."""
    parts = text.split("\033[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


@pytest.mark.process
def test_lines_fit_a_real_terminal():
    text = plain(on_terminal("record", "repeated_backward.py", columns=80))
    assert text.strip()
    assert max(map(len, text.splitlines())) <= 80, text


def on_terminals(monkeypatch, columns, *arguments):
    """What a command prints on two terminals: standard output and standard error."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(click.testing._NamedTextIOWrapper, "isatty", lambda self: True)
    monkeypatch.setattr("builtins.print", lambda *_, **__: None)  # the program's own words
    monkeypatch.setattr(files, "stage", lambda *_, **__: contextlib.nullcontext())
    done = click.testing.CliRunner().invoke(cli, arguments, prog_name="gradviz")
    assert done.exception is None or isinstance(done.exception, SystemExit), arguments
    return [line for text in (done.stdout, done.stderr) for line in plain(text).splitlines()]


def too_wide(lines, columns):
    """The lines of gradviz that are wider; a traceback is printed as Python does."""
    is_own = itertools.takewhile(lambda line: not line.startswith("Traceback"), lines)
    return [line for line in is_own if cell_len(line) > columns]


COMMANDS = [
    ("draw",),
    ("draw", "--depth", "1"),
    ("explain",),
    ("explain", "--full"),
    ("summary",),
    ("memory",),
    ("run",),
    ("record",),
    ("record", "--events", "all"),
]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("[a-z]*.py")))
def test_no_line_of_a_command_is_wider_than_the_terminal(example, columns, monkeypatch):
    for command, *options in COMMANDS if columns == 80 else COMMANDS[::3]:
        lines = on_terminals(monkeypatch, columns, command, example, *options)
        assert too_wide(lines, columns) == [], (command, options)


@pytest.mark.parametrize("columns", [80, 120])
def test_comparisons_mistakes_and_help_fit_the_terminal(columns, monkeypatch):
    pair = "missing_grad.py:scaled", "missing_grad.py:kept"
    mistakes = [("draw", "no.py"), ("draw", "rnn.py:lost"), ("draw", "rnn.py", "-o", "rnn.tiff")]
    helps = [(name, "--help") for name in cli.commands]
    for arguments in [("compare", *pair), ("--help",), ("--version",), *mistakes, *helps]:
        lines = on_terminals(monkeypatch, columns, *arguments)
        assert lines and too_wide(lines, columns) == [], arguments


@pytest.mark.process
def test_a_terminal_gets_bold_and_color_unless_it_does_not_want_them():
    assert "\033[1m" in on_terminal("draw", "first_backward.py:loss")
    assert "\033" not in on_terminal("draw", "first_backward.py:loss", NO_COLOR="1")


@pytest.mark.parametrize("name", [case.name for case in CASES])
@pytest.mark.parametrize("columns", [80, 120])
def test_bold_and_color_change_no_word(name, columns):
    story = gradviz.draw(graph_of(name)).shown
    styled = to_text(story, width=columns, styled=True)
    assert plain(styled) == to_text(story, width=columns)


def test_a_wrapped_line_continues_its_tree():
    text = "│  ├─ 0.weight  a value that is long  and another one"
    lines = in_columns(text, 30)
    assert all(len(line) <= 30 for line in lines) and len(lines) > 1
    assert all(line.startswith("│  │") for line in lines[1:])


def test_text_that_is_not_for_a_terminal_has_lines_of_any_length():
    w = torch.ones(2, requires_grad=True)
    named = {"a very long name for a tensor that is only so long to be seen whole": w}
    text = gradviz.draw((w * 2).sum(), names=named).text
    assert "\033" not in text and max(map(len, text.splitlines())) > 80


def test_elapsed_time_and_the_number_of_passes_are_shown(monkeypatch, capsys):
    clock = iter((0.0, 10.4, 30.2))
    waits = []
    shown = threading.Event()

    class Over(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            shown.set() if len(waits) > 3 else None
            return len(waits) > 3 or super().wait(0)

    over = SimpleNamespace(Event=Over, Thread=threading.Thread)
    monkeypatch.setattr(files, "threading", over)
    monkeypatch.setattr(files, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with files._lines_of("running train.py", lambda: 7):
        shown.wait(20)
    assert waits == [1, 9, 20, 30]
    assert capsys.readouterr().err.splitlines() == [
        "running train.py ...",
        "running train.py ... 10 s, 7 backward passes",
        "running train.py ... 30 s, 7 backward passes",
    ]
