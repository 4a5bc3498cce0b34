"""Light and dark: a picture matches the theme of its site, without a script."""

from __future__ import annotations

import json
import re
from pathlib import Path

import browser
import pytest
import torch
from sphinx_building import HEAD, Built, build, pages

import gradviz

LIGHT, DARK = 'fill="#ffffff"', 'fill="#0d1117"'  # of the page behind a picture
TEXT = """
Page
====

.. gradviz:: loss
   :caption: A caption
   :name: here
   {options}

   loss = (torch.ones(2, requires_grad=True) * 3).sum()
"""


def themed(folder: Path, theme: str, conf: str = "", options: str = "") -> Built:
    index = TEXT.format(options=options)
    src = pages(folder / "src", f'{HEAD}html_theme = "{theme}"\n{conf}', index=index)
    built = build(src)
    assert not built.warnings
    return built


def kinds(built: Built) -> list[str]:
    """Of each image of the page: light, dark, or auto."""
    found = []
    for number, _ in enumerate(built.tags("index.html")):
        svg = built.picture("index.html", number)
        assert (LIGHT in svg) != (DARK in svg)
        plain = "light" if LIGHT in svg else "dark"
        found.append("auto" if "prefers-color-scheme" in svg else plain)
    return found


@pytest.mark.parametrize("theme", ["furo", "pydata_sphinx_theme"])
def test_a_site_with_a_button_gets_a_light_and_a_dark_picture(theme: str, tmp_path: Path) -> None:
    built = themed(tmp_path, theme)
    assert kinds(built) == ["light", "dark"]
    page = built.read("index.html")
    first, second = re.findall(r'class="(only-\w+) docutils container"', page)
    assert (first, second) == ("only-light", "only-dark")


@pytest.mark.parametrize("theme", ["alabaster", "classic"])
def test_a_site_that_knows_no_dark_gets_a_light_picture(theme: str, tmp_path: Path) -> None:
    assert kinds(themed(tmp_path, theme)) == ["light"]


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("@media (prefers-color-scheme: dark) { body { background: black } }", ["auto"]),
        (".night .only-dark { display: block }", ["light", "dark"]),
    ],
)
def test_the_style_sheets_of_a_project_count(
    style: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "src" / "_static").mkdir(parents=True)
    (tmp_path / "src" / "_static" / "own.css").write_text(style)
    conf = 'html_static_path = ["_static"]\nhtml_css_files = ["own.css"]\n'
    assert kinds(themed(tmp_path, "alabaster", conf)) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("site", ["light"]),
        ("both", ["light", "dark"]),
        ("auto", ["auto"]),
        ("light", ["light"]),
        ("dark", ["dark"]),
    ],
)
def test_the_option_and_the_setting_have_the_last_word(
    wanted: str, expected: list[str], tmp_path: Path
) -> None:
    for way, conf, options in (
        ("option", 'gradviz_theme = "light"', f":theme: {wanted}"),
        ("setting", f'gradviz_theme = "{wanted}"', ""),
    ):
        (tmp_path / way).mkdir()
        assert kinds(themed(tmp_path / way, "alabaster", conf, options)) == expected


def test_paper_is_light(tmp_path: Path) -> None:
    built = themed(tmp_path, "furo")
    epub = build(built.src, "epub")
    assert [tag["src"] for tag in epub.tags("index.xhtml")] == [built.tags("index.html")[0]["src"]]
    assert len(build(built.src, "latex").files("*.pdf")) == 1


_SEEN = """
const shown = each => each.getClientRects().length > 0 && each.offsetWidth > 0;
return [...document.querySelectorAll("figure img")].filter(shown).map(each => each.src)
  .concat([...document.querySelectorAll("figcaption")].filter(shown).map(() => "caption"));
"""
_PRESSED = {
    "furo": "document.body.dataset.theme",
    "pydata_sphinx_theme": "document.documentElement.dataset.theme",
}


def seen(built: Built, before: str, scheme: str) -> list[str]:
    """What of the figure a reader sees in Chromium: light, dark or caption."""
    told = f"{before}; document.title = JSON.stringify((() => {{ {_SEEN} }})())"
    script = f"window.addEventListener('load', () => {{ {told} }})"  # themes begin before that
    page = built.read("index.html").replace("</body>", f"<script>{script}</script></body>")
    path = built.out / "seen.html"
    path.write_text(page, encoding="utf-8")
    prefers = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    dom = browser.run(built.src.parent, prefers, "--dump-dom", path.as_uri())
    found = []
    for each in json.loads(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1]):  # type: ignore[index]
        file = built.out / "_images" / each.rpartition("/")[2]
        found.append(
            "dark"
            if file.is_file() and DARK in file.read_text()
            else "light"
            if file.is_file()
            else each
        )
    return found


@pytest.mark.tool
@pytest.mark.parametrize("theme", ["furo", "pydata_sphinx_theme"])
def test_the_reader_sees_the_one_that_fits(theme: str, tmp_path: Path) -> None:
    built = themed(tmp_path, theme)
    for scheme in ("light", "dark"):
        assert seen(built, "", scheme) == [scheme, "caption"]
        for pressed in ("light", "dark"):
            button = f"{_PRESSED[theme]} = '{pressed}'"
            assert seen(built, button, scheme) == [pressed, "caption"]


def test_a_small_picture_fits_a_phone_and_its_sentence_ends_in_no_single_word() -> None:
    w = torch.ones(2, requires_grad=True)
    loss = (w * 2).sum()
    loss.backward()
    svg = gradviz.draw(loss).svg
    assert float(re.findall(r' width="([\d.]+)"', svg)[0]) <= 326  # in a box on a phone of 390
    lines = re.findall(r'id="[^"]*caption-\d"[^>]*>.*?</g>', svg, re.DOTALL)
    words = [" ".join(re.sub("<[^>]+>", " ", line).split()).split("> ")[-1] for line in lines]
    assert " ".join(words).startswith("2 operations from 1 leaf to loss.")
    assert max(map(len, words)) < 1.3 * min(map(len, words))


def test_what_is_read_aloud_has_a_stop_after_each_sentence() -> None:
    w = torch.ones(2, requires_grad=True)
    svg = gradviz.explain(w, (w * 2).sum()).draw().svg
    (described,) = re.findall(r"<desc[^>]*>(.*?)</desc>", svg)
    assert "since it was last None. Layout: " in described
