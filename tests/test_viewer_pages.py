"""The viewer in pages of documentation: `:interactive:` of Sphinx, `interactive` of MkDocs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mkdocs.commands.build import build as build_mkdocs
from mkdocs.config import load_config
from playwright.sync_api import Browser
from sphinx_building import build, pages
from test_mkdocs import CONFIG
from viewing import new_page

import gradviz

pytestmark = pytest.mark.tool

CODE = """\
import torch
w = torch.ones(3, requires_grad=True)
loss = (w * 2).sum()
"""


def is_explorable(browser: Browser, path: Path) -> bool:
    with new_page(browser, path) as page:
        page.locator("iframe").scroll_into_view_if_needed()
        inner = page.frame_locator("iframe")
        inner.locator(".node.result").click()
        return inner.locator(".page h2").inner_text() == "loss"


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


# The policies of the pages that show the output of a cell, as far as they concern it.
_VS_CODE = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' https:; "
    "style-src 'unsafe-inline'; img-src 'self' https: data:; child-src https: data:"
)
CELLS = {
    "sandbox": ("allow-scripts", ""),
    "Colab": ("allow-downloads allow-forms allow-popups allow-same-origin allow-scripts", ""),
    "VS Code": ("allow-scripts allow-same-origin", _VS_CODE),
}


@pytest.mark.parametrize("place", CELLS)
def test_the_output_of_a_cell_is_explorable(browser: Browser, tmp_path: Path, place: str) -> None:
    sandbox, policy = CELLS[place]
    w = torch.ones(3, requires_grad=True)
    loss = (w * 2).sum()
    cell = gradviz.view(loss)._repr_html_()
    # The encoding is declared, and is not that of the text: else a browser guesses one, from as
    # much of the page as it has read, and the viewer has to work with each.
    head = '<meta charset="windows-1252">'
    head += f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if policy else ""
    (tmp_path / "cell.html").write_text(f"<!doctype html>{head}<body>{cell}", encoding="utf-8")
    outer = tmp_path / "notebook.html"
    outer.write_text(f'<iframe sandbox="{sandbox}" src="cell.html" width=1000 height=700></iframe>')
    wrong: list[str] = []
    with new_page(browser) as page:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(outer.as_uri())
        inner = page.frame_locator("iframe").frame_locator("iframe")
        inner.locator(".node.result").click()
        assert inner.locator(".page h2").inner_text() == "loss"
        assert inner.locator(".drawing .node", has_text="×2").count() == 1
        inner.locator("summary", has_text="Export").click()
        inner.get_by_role("button", name="Copy link").click()
        assert "this page has no address" in inner.locator(".copied").inner_text()
        inner.get_by_role("button", name="Copy command").click()
        inner.locator(".copied", has_text="gradviz draw").wait_for()
    assert not wrong


def test_without_scripts_a_cell_shows_the_picture(browser: Browser, tmp_path: Path) -> None:
    w = torch.ones(3, requires_grad=True)
    path = tmp_path / "cell.html"
    path.write_text(gradviz.view((w * 2).sum())._repr_html_(), encoding="utf-8")
    with new_page(browser, path, java_script_enabled=False) as page:
        assert page.locator("img").is_visible()
