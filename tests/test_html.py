"""The stepping page, as a browser runs it."""

from __future__ import annotations

import re
from pathlib import Path

import browser
import pytest
from graphs import graph_of

import gradviz


def page_of(*names: str, **options: str) -> str:
    frames = tuple(gradviz.Frame(f"<{name}>", graph_of(name)) for name in names)
    drawing = gradviz.draw(gradviz.Story(frames, "A & B", ("two left out",)), **options)  # type: ignore[arg-type]
    return drawing.render("html").decode()


def test_nothing_comes_from_elsewhere_and_titles_are_text() -> None:
    page = page_of("mul_chain", "freed")
    assert not re.search(r"(src|href)=\"(?!#)|https?://(?!www\.w3\.org/2000/svg)|@import", page)
    assert "&lt;mul_chain&gt;" in page
    assert "<title>A &amp; B</title>" in page
    assert "two left out" in page


def test_one_frame_needs_no_stepper() -> None:
    page = page_of("mlp")
    assert "<script" not in page
    assert "<nav" not in page


def test_a_theme_holds_for_the_page() -> None:
    assert "prefers-color-scheme" not in page_of("mlp", "freed", theme="dark")
    assert "--page: #0d1117" in page_of("mlp", theme="dark")


STEP = """
const shown = () => [...document.querySelectorAll('figure')].map(f => !f.hidden);
const [back, next] = document.querySelectorAll('nav button');
const seen = [shown()];
next.click(); seen.push(shown());
dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'})); seen.push(shown());
dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'})); seen.push(shown());
back.click(); seen.push(shown());
document.querySelectorAll('nav a')[0].click(); seen.push(shown());
return {seen, back: back.disabled, text: document.querySelector('output').textContent,
        wide: document.documentElement.scrollWidth <= innerWidth};
"""


@pytest.mark.tool
def test_stepping_shows_one_frame_at_a_time(tmp_path: Path) -> None:
    page = page_of("mul_chain", "lstm_cell", "freed")
    body = page.split("<body>")[1].split("</body>")[0]
    style = re.findall(r"<style>.*?</style>", page, re.DOTALL)[0]
    result = browser.evaluate(tmp_path, style + body, STEP)
    first, second, third = ([index == number for index in range(3)] for number in range(3))
    assert result["seen"] == [first, second, third, third, second, first]
    assert result["back"] is True
    assert result["text"] == "1 of 3"
    assert result["wide"]
