"""The pages are correct: code prints the output below it, and all public names are listed."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, printed

import gradviz
from gradviz import serialize


@pytest.mark.parametrize("page", ["howto/explain", "howto/big_models"])
def test_code_prints_what_stands_under_it(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = printed(page, tmp_path, monkeypatch)
    assert pairs
    for said, stands in pairs:
        assert said == stands


def test_the_reference_leaves_nothing_public_out() -> None:
    told = "".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))
    listed = set(re.findall(r"auto(?:function|class):: gradviz\.([\w.]+)", told))
    assert set(gradviz.__all__) - {"GradvizError"} <= listed  # that one is in gradviz.errors
    assert "automodule:: gradviz.errors" in told
    assert "automodule:: gradviz.views" in told


def test_the_comparison_and_the_real_models_are_in_the_repository() -> None:
    makefile = (DOCS.parent / "Makefile").read_text()
    [models] = re.findall(r"^MODELS := (.*)$", makefile, re.MULTILINE)
    shown = "".join(path.read_text("utf-8") for path in (DOCS / "gallery").glob("*.md"))
    assert set(re.findall(r"\{gradviz\} ([\w-]+)\.json", shown)) == set(models.split())
    for model in models.split():
        graph = serialize.load(DOCS / "gallery" / f"{model}.json")
        assert isinstance(graph, (gradviz.Frame, gradviz.Story)), model


def checker() -> Any:
    """docs/check.py as a module."""
    spec = importlib.util.spec_from_file_location("check", DOCS / "check.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text('<p id="here">')
    (tmp_path / "index.html").write_text(
        '<a href="other.html#here"></a><a href="other.html#gone"></a><img src="gone.svg">'
        '<a href="https://pytorch.org"></a><a href="#top"></a><p id="top">'
    )
    assert checker().broken_links(tmp_path) == [
        "index.html: other.html#gone",
        "index.html: gone.svg",
    ]


@pytest.mark.tool
def test_wide_pages_and_small_pictures_are_found(tmp_path: Path) -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="9"></svg>'
    (tmp_path / "picture.svg").write_text(svg)
    shown = '<article><img class="gradviz" src="picture.svg" style="width: {}px"></article>'
    (tmp_path / "narrow.html").write_text("<p>words</p>" + shown.format(340))
    (tmp_path / "small.html").write_text(shown.format(300))
    (tmp_path / "wide.html").write_text('<p style="width: 500px">words</p>')
    found = checker().misfits(tmp_path, shutil.which("chromium"))
    assert found[0] == "small.html: text of 8.3 px on a screen of 390"
    assert found[1].startswith("wide.html: 5") and found[1].endswith("wide on a screen of 390")
    assert found[2:] == ["small.html: text of 8.3 px on a screen of 1280"]
