"""The viewer in pages of documentation: `:interactive:` of Sphinx, `interactive` of MkDocs."""

from __future__ import annotations

from pathlib import Path

import pytest
from mkdocs.commands.build import build as build_mkdocs
from mkdocs.config import load_config
from playwright.sync_api import Browser
from sphinx_building import build, pages
from test_mkdocs import CONFIG

pytestmark = pytest.mark.tool

CODE = """\
import torch
w = torch.ones(3, requires_grad=True)
loss = (w * 2).sum()
"""


def is_explorable(browser: Browser, path: Path) -> bool:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(path.as_uri())
    inner = page.frame_locator("iframe")
    page.locator("iframe").scroll_into_view_if_needed()
    inner.locator(".node.result").click()
    selected = inner.locator(".page h2").inner_text()
    page.close()
    return selected == "loss"


def test_a_sphinx_page_is_interactive(browser: Browser, tmp_path: Path) -> None:
    body = "".join(f"   {line}\n" for line in CODE.splitlines())
    page = f"Page\n====\n\n.. gradviz:: loss\n   :interactive:\n\n{body}"
    source = pages(tmp_path / "site", index=page)
    built = build(source)
    assert built.warnings == ""
    assert is_explorable(browser, built.out / "index.html")
    assert "<img" in built.read("index.html")


def test_other_builders_show_the_still_picture(tmp_path: Path) -> None:
    body = "".join(f"   {line}\n" for line in CODE.splitlines())
    page = f"Page\n====\n\n.. gradviz:: loss\n   :interactive:\n\n{body}"
    built = build(pages(tmp_path / "site", index=page), "text")
    assert built.warnings == ""
    assert "iframe" not in built.read("index.txt")


def test_a_mkdocs_page_is_interactive(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text(CONFIG)
    fence = f'```gradviz draw="loss" interactive="true"\n{CODE}```\n'
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{fence}")
    build_mkdocs(load_config(str(tmp_path / "mkdocs.yml")))
    assert is_explorable(browser, tmp_path / "site" / "index.html")
