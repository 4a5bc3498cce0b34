"""The code on the pages of docs/: found as a reader finds it, run as the site runs it."""

from __future__ import annotations

import contextlib
import io
import linecache
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gradviz.frontends.option_values import frame_numbers
from gradviz.frontends.pages import Namespace, Wanted, run_block
from gradviz.serialize import loads
from gradviz.story import Story

DOCS = Path(__file__).parent.parent / "docs"
PRE_CODE = "import torch\nimport gradviz\n"
_FENCE = re.compile(r"^```(\S+) *([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r":([\w-]+): *([^\n]*)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language or directive, argument, options and content."""

    kind: str
    argument: str
    options: dict[str, str]
    content: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page, ``"course/leaves"``, in order."""
    found = []
    for kind, argument, content in _FENCE.findall((DOCS / f"{page}.md").read_text("utf-8")):
        options: dict[str, str] = {}
        while kind.startswith("{") and (option := _OPTION.match(content)):
            options[option[1]] = option[2]
            content = content[option.end() :]
        found.append(Block(kind, argument, options, content.strip("\n") + "\n"))
    return found


def stories(page: str) -> list[Story]:
    """What the directives of a page draw, in order."""
    drawn, shared = [], Namespace(PRE_CODE)
    for block in blocks(page):
        if block.kind != "{gradviz}":
            continue
        namespace = shared if "context" in block.options else Namespace(PRE_CODE)
        frames = frame_numbers(block.options.get("frames", ""), "frames")
        wanted = Wanted(block.argument, frames, block.options.get("raises", ""))
        outcome = run_block(namespace, block.content, wanted)
        assert outcome.warnings == ()
        story = loads(outcome.story)
        drawn.append(story if isinstance(story, Story) else Story([story]))
    return drawn


def printed(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Run all code of a page as one program, ``train.py``.

    Returns:
        For each block of text that follows code: what that code printed, and the text.
    """
    monkeypatch.chdir(folder)
    program = PRE_CODE
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(program, namespace)
    pairs, output = [], ""
    for block in blocks(page):
        if block.kind == "text":
            pairs.append((output.strip(), block.content.strip()))
        if block.kind not in ("{gradviz}", "python"):
            continue
        lines = program.count("\n")
        program += block.content
        (folder / "train.py").write_text(program, encoding="utf-8")
        linecache.checkcache()
        linecache.getlines(str(folder / "train.py"))  # the lines that were read before still hold
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = "\n" * lines + block.content
            exec(compile(code, str(folder / "train.py"), "exec"), namespace)
        output = said.getvalue()
    return pairs
