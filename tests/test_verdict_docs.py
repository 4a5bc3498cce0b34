"""The programs that the docs show for each verdict: each gives its verdict, and a picture."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

import gradviz
from gradviz import Explanation, Verdict

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "verdicts"


def test_every_verdict_has_a_program_and_every_program_a_verdict() -> None:
    anchors = [verdict.anchor for verdict in Verdict]
    assert len(set(anchors)) == len(anchors)
    assert sorted(anchors) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("verdict", Verdict, ids=lambda verdict: verdict.anchor)
def test_the_program_gives_its_verdict(verdict: Verdict) -> None:
    path = FOLDER / f"{verdict.anchor}.py"
    text = path.read_text(encoding="utf-8")
    question = ast.get_docstring(ast.parse(text)) or ""
    assert question.endswith("?") and "\n" not in question
    code = [line for line in text.splitlines()[1:] if line and "import" not in line]
    assert len(code) <= 15
    told = runpy.run_path(str(path))["why"]
    first = told if isinstance(told, Explanation) else told[0]
    assert first.verdict is verdict, told
    drawing = told.draw()
    assert len(drawing.graph) <= 20
    assert gradviz.draw(told).text == drawing.text
    if first.culprit and verdict is not Verdict.FINE:
        problem = drawing.graph.nodes[first.culprit]["verdict"]
        assert problem.split()[0] in drawing.svg
