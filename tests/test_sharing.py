"""Pictures that are handed on: past sanitisers, at twice the pixels, on any background."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import nh3
import pytest
from cases import CASES
from click.testing import CliRunner
from graphs import graph_of
from PIL import Image

import gradviz
from gradviz.frontends.cli import cli

NAMES = [case.name for case in CASES]

# What DOMPurify lets through by default, as far as pictures need it: no link, no script, no
# foreignObject, nothing that loads anything.
TAGS = {"svg", "g", "path", "rect", "polygon", "text", "tspan", "title", "desc", "style"}
ANYWHERE = {"id", "class", "fill", "stroke", "stroke-width", "stroke-dasharray"}
ATTRIBUTES = {
    "svg": {"xmlns", "width", "height", "viewBox", "role", "aria-labelledby", "font-family"}
    | {"style"},
    "rect": {"x", "y", "width", "height", "rx"},
    "path": {"d"},
    "polygon": {"points"},
    "text": {"y"},
    "tspan": {"x", "font-size", "font-weight"},
    "*": ANYWHERE,
}
SPACE = "{http://www.w3.org/XML/1998/namespace}space"  # a hint that text does without


def sanitised(svg: str, tags: set[str] = TAGS) -> str:
    dropped = {"script", "style"} - tags
    return nh3.clean(svg, tags=tags, attributes=ATTRIBUTES, clean_content_tags=dropped)


def facts(element: ET.Element) -> Any:
    attributes = sorted(pair for pair in element.attrib.items() if pair[0] != SPACE)
    return element.tag, attributes, (element.text or "").strip(), [facts(each) for each in element]


@pytest.mark.parametrize("name", NAMES)
def test_a_sanitiser_finds_nothing_to_take_away(name: str) -> None:
    svg = gradviz.draw(graph_of(name)).svg
    assert facts(ET.fromstring(sanitised(svg))) == facts(ET.fromstring(svg))


def test_the_sanitiser_would_take_away_what_is_not_allowed() -> None:
    svg = gradviz.draw(graph_of("mlp")).svg.replace("</svg>", '<a href="x">y</a></svg>')
    assert facts(ET.fromstring(sanitised(svg))) != facts(ET.fromstring(svg))


def test_without_its_style_it_is_the_light_picture() -> None:
    auto, light = (gradviz.draw(graph_of("mlp"), theme=theme).svg for theme in ("auto", "light"))
    paints = r' (?:fill|stroke)="[^"]+"'
    assert "<style" not in sanitised(auto, TAGS - {"style"})
    assert re.findall(paints, sanitised(auto, TAGS - {"style"})) == re.findall(paints, light)


def png(**options: Any) -> Image.Image:
    data = gradviz.draw(graph_of("mlp"), **options).render("png")
    return Image.open(io.BytesIO(data)).convert("RGBA")


def test_a_png_has_two_pixels_for_each_of_the_svg() -> None:
    root = ET.fromstring(gradviz.draw(graph_of("mlp")).svg)
    size = [2 * float(root.get(side) or 0) for side in ("width", "height")]
    assert all(abs(a - b) <= 2 for a, b in zip(png().size, size, strict=True))


@pytest.mark.parametrize(
    ("theme", "page"), [("light", (255, 255, 255)), ("dark", (0x0D, 0x11, 0x17))]
)
def test_a_page_is_left_out_when_nothing_is_to_be_behind_the_picture(
    theme: Any, page: tuple[int, int, int]
) -> None:
    assert png(theme=theme).getpixel((0, 0)) == (*page, 255)
    clear = png(theme=theme, transparent=True)
    assert clear.getpixel((0, 0))[3] == 0
    # Boxes stay filled, so that what is in them can be read.
    assert page in {pixel[:3] for _, pixel in clear.getcolors(1 << 24) if pixel[3] == 255}


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
def test_svg_dot_and_pdf_have_no_page_either(theme: Any) -> None:
    graph = graph_of("mlp")
    solid, clear = (
        gradviz.draw(graph, theme=theme, transparent=transparent) for transparent in (False, True)
    )
    root = ET.fromstring(clear.svg)
    width = root.get("width")
    assert not [
        each for each in root.iter() if each.tag.endswith("rect") and each.get("width") == width
    ]
    assert "bgcolor=transparent" in clear.dot.source
    assert "bgcolor=transparent" not in solid.dot.source
    assert clear.render("pdf") != solid.render("pdf")
    # Both may stand on one page.
    marks = [set(re.findall(r'id="(gv\w+)-', each.svg)) for each in (solid, clear)]
    assert not marks[0] & marks[1]


def test_the_command_line_has_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.py").write_text("import torch\nx = torch.ones(2, requires_grad=True)\nloss = x.sum()\n")
    for command in (
        ["draw", "t.py:loss"],
        ["record", "t.py"],
        ["compare", "t.py:loss", "t.py:x"],
    ):
        outputs = []
        for extra in ([], ["--transparent"]):
            result = CliRunner().invoke(cli, [*command, *extra, "-o", "p.svg"])
            assert result.exit_code == 0, result.output
            outputs.append(Path("p.svg").read_text())
        pages = [len(re.findall(r'<rect x="0" y="0" ', text)) for text in outputs]
        assert pages == [1, 0]


def test_a_png_has_as_many_pixels_as_paper_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = gradviz.draw(graph_of("mlp"))
    width = float(ET.fromstring(drawing.svg).get("width", 0))
    for scale, pixels in ((None, 2), (1, 1), (4.2, 4.2), (8, 8)):
        with Image.open(drawing.save(tmp_path / "p.png", scale=scale)) as image:
            assert abs(image.width - width * pixels) <= 1 + 0.01 * width
    for bad in (0, 9, -1):
        with pytest.raises(gradviz.GradvizError, match=f"scale cannot be {bad}: pass a number"):
            drawing.render("png", scale=bad)
    with pytest.raises(gradviz.GradvizError, match="scale=3 is for PNG; svg has no pixels"):
        drawing.save(tmp_path / "p.svg", scale=3)
    monkeypatch.setattr("gradviz.renderers.scene_files._MOST_PIXELS", 2_000)
    with pytest.raises(gradviz.GradvizError, match=r"at scale 8: it fits up to \d\.\d; or save"):
        drawing.render("png", scale=8)


def test_the_command_line_scales_the_png_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.py").write_text("import torch\nx = torch.ones(2, requires_grad=True)\nloss = x.sum()\n")
    for command in (["draw", "t.py:loss"], ["record", "t.py"], ["compare", "t.py:loss", "t.py:x"]):
        sizes = []
        for scale in ("1", "3"):
            files = ["--scale", scale, "-o", "p.png", "-o", "p.svg"]
            result = CliRunner().invoke(cli, [*command, *files])
            assert result.exit_code == 0, result.output
            with Image.open("p.png") as image:
                sizes.append(image.width)
        assert sizes[1] == pytest.approx(3 * sizes[0], abs=3)
        result = CliRunner().invoke(cli, [*command, "--scale", "3", "-o", "p.svg"])
        assert (result.exit_code, "--scale is for PNG" in result.output) == (2, True)


def test_a_pdf_is_one_page_of_the_picture_s_size_with_text_and_no_script() -> None:
    root = ET.fromstring(gradviz.draw(graph_of("mlp")).svg)
    pdf = gradviz.draw(graph_of("mlp")).render("pdf")
    box = re.search(rb"/MediaBox\s*\[\s*0 0 (\d+)[\d.]* (\d+)", pdf)
    assert box is not None
    for found, side in zip(box.groups(), ("width", "height"), strict=True):
        assert abs(int(found) - float(root.get(side) or 0)) <= 1
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1
    assert b"/FontFile" in pdf  # embedded, as papers ask
    assert b"/JavaScript" not in pdf
