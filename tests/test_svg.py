"""SVG: well-formed, the same every time, readable in both schemes, and as wide as it says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import browser
import pytest
import torch
from cases import CASES
from graphs import graph_of, graphs
from hypothesis import given, settings

import gradviz
from gradviz.graph import GradGraph
from gradviz.renderers.cards import line_width, wrapped
from gradviz.renderers.theme import LOOKS, PALETTE, TEXT

NAMES = [case.name for case in CASES]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the drawing, and must be the same whatever Graphviz is there."""
    monkeypatch.setenv("GRADVIZ_ENGINE", "layered")


def parsed(name: str) -> ET.Element:
    return ET.fromstring(gradviz.draw(graph_of(name)).svg)


@pytest.mark.parametrize("name", NAMES)
def test_well_formed_with_title_and_description(name: str) -> None:
    root = parsed(name)
    assert root.find(f"{SVG}title") is not None
    description = root.find(f"{SVG}desc")
    assert description is not None
    assert "Layout: gradviz layered" in (description.text or "")
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert set((root.get("aria-labelledby") or "").split()) <= set(ids)


@pytest.mark.parametrize("name", NAMES)
def test_every_node_and_edge_is_there_with_a_tooltip(name: str) -> None:
    drawing = gradviz.draw(graph_of(name))
    groups = list(ET.fromstring(drawing.svg).iter(f"{SVG}g"))
    shown = drawing.shown[0].graph
    for kind, count in (("node", shown.number_of_nodes()), ("edge", shown.number_of_edges())):
        found = [group for group in groups if f"-{kind}" in (group.get("class") or "").split()[0]]
        assert len(found) == count
        assert all((group.findtext(f"{SVG}title") or "").strip() for group in found)


@given(graph=graphs(most_nodes=10))
@settings(max_examples=25, deadline=None)
def test_no_name_breaks_it(graph: GradGraph) -> None:
    ET.fromstring(gradviz.draw(graph).svg)


def test_what_github_removes_is_not_in_it() -> None:
    for name in NAMES:
        svg = gradviz.draw(graph_of(name)).svg
        assert not re.search(r"<script|<foreignObject|<image|@import|url\(|href=|\son\w+=", svg)


def test_two_pictures_share_no_id_and_no_class() -> None:
    pictures = [gradviz.draw(graph_of(name)).svg for name in ("mul_chain", "x_times_x")]
    used = [set(re.findall(r'(?:id|class)="([^"]+)"', picture)) for picture in pictures]
    words = [{word for value in values for word in value.split()} for values in used]
    assert not words[0] & words[1]


def test_a_long_name_does_not_leave_the_page() -> None:
    name = "a_very_long_name_" * 12
    x = torch.ones(2, requires_grad=True)
    sentence = wrapped(f"2 operations. {name}.grad is None.", 300.0)
    assert "".join(line[0].text for line in sentence).count(name[:8]) == 12
    assert all(line_width(line) <= 300.0 for line in sentence)
    svg = gradviz.draw((x * 2).sum(), names={name: x}).svg
    page = float(re.findall(r'<svg[^>]* width="([\d.]+)', svg)[0])
    lines = re.findall(r'<text[^>]*><tspan x="([-\d.]+)"', svg)
    assert lines and all(0 <= float(left) <= page for left in lines)


def test_the_same_picture_has_the_same_bytes() -> None:
    assert gradviz.draw(graph_of("mlp")).svg == gradviz.draw(graph_of("mlp")).svg


def test_a_fixed_theme_has_literal_colours_only() -> None:
    for theme, page in (("light", "#ffffff"), ("dark", "#0d1117")):
        svg = gradviz.draw(graph_of("mlp"), theme=theme).svg
        assert "prefers-color-scheme" not in svg
        assert f'fill="{page}"' in svg


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_all_text_passes_wcag_aa(scheme: int) -> None:
    fills = {look.head for look in LOOKS.values()} | {look.body for look in LOOKS.values()}
    pairs = [(text.color, fill) for text in TEXT.values() for fill in fills | {"page"}]
    for text, fill in [*pairs, ("loud", "loud-fill"), ("ink", "loud-fill"), ("muted", "loud-fill")]:
        ratio = contrast(PALETTE[text][scheme], PALETTE[fill][scheme])
        assert ratio >= 4.5, (text, fill, ratio)
    for look in LOOKS.values():
        assert contrast(PALETTE[look.edge][scheme], PALETTE["page"][scheme]) >= 2.6, look


MEASURE = """
return [...document.querySelectorAll('g[class*=-node] text')].flatMap(line => {
  const spans = [...line.querySelectorAll('tspan')];
  const group = line.closest('g');
  const boxes = [...group.querySelectorAll('rect')].map(r => r.getBBox());
  const right = Math.max(...boxes.map(b => b.x + b.width));
  return spans.map((span, i) => {
    const start = span.getStartPositionOfChar(0).x;
    const end = start + span.getComputedTextLength();
    const next = i + 1 < spans.length ? spans[i + 1].getStartPositionOfChar(0).x : right;
    return {text: span.textContent, over: end - next};
  });
});
"""


@pytest.mark.tool
@pytest.mark.parametrize("name", ["mlp", "lstm_cell", "hostile_names", "complex_numbers"])
def test_text_stays_in_its_box_in_a_browser(name: str, tmp_path: Path) -> None:
    spans = browser.evaluate(tmp_path, gradviz.draw(graph_of(name)).svg, MEASURE)
    assert len(spans) > 5
    assert [span for span in spans if span["over"] > 0.5] == []


@pytest.mark.tool
def test_the_reader_s_scheme_decides_in_a_browser(tmp_path: Path) -> None:
    script = (
        "const page = document.querySelector('svg rect');"
        "return [matchMedia('(prefers-color-scheme: dark)').matches, getComputedStyle(page).fill]"
    )
    for theme, light, dark in (
        ("auto", "rgb(255, 255, 255)", "rgb(13, 17, 23)"),
        ("light", "rgb(255, 255, 255)", "rgb(255, 255, 255)"),
    ):
        svg = gradviz.draw(graph_of("mlp"), theme=theme).svg
        is_dark, fill = browser.evaluate(tmp_path, svg, script)
        assert fill == (dark if is_dark else light)
        # A page of the other scheme: what the media query would choose, applied by hand.
        other = svg.replace("(prefers-color-scheme: dark)", "all")
        assert browser.evaluate(tmp_path, other, script)[1] == dark
