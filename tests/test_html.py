"""The page of a story: one file, whose still pictures need no script."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from graphs import graph_of

import gradviz
from gradviz import viewer
from gradviz.graph import EdgeKind, GradGraph, NodeKind


def page_of(*names: str, **options: str) -> str:
    frames = tuple(gradviz.Frame(f"<{name}>", graph_of(name)) for name in names)
    drawing = gradviz.draw(gradviz.Story(frames, "A & B", ("two left out",)), **options)  # type: ignore[arg-type]
    return drawing.render("html").decode()


def still_of(page: str) -> str:
    return page.split('<div id="still">')[1].split("<script")[0]


def data_of(page: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(page.split('id="gradviz-data">')[1].split("</script>")[0])
    return found


def test_the_page_holds_every_module_of_the_viewer() -> None:
    modules = {path.stem for path in Path(viewer.__file__).parent.glob("*.js")}
    script = viewer.script()
    assert all(f"const ${name} = " in script for name in modules)
    assert script.isascii() and script in page_of("mlp")


def test_without_the_graph_the_file_is_small() -> None:
    page = gradviz.draw(GradGraph()).render("html")
    assert len(page) < 300_000


def test_nothing_comes_from_elsewhere_and_titles_are_text() -> None:
    page = page_of("mul_chain", "freed")
    assert not re.search(r"(src|href)=\"(?!#)|@import", still_of(page))
    assert "default-src 'none'" in page
    assert "&lt;mul_chain&gt;" in still_of(page)
    assert "<title>A &amp; B</title>" in page
    assert "two left out" in still_of(page)


def test_one_frame_needs_no_list_of_frames() -> None:
    assert "<nav" not in still_of(page_of("mlp"))
    assert still_of(page_of("mul_chain", "freed")).count("<figure") == 2


def test_a_theme_holds_for_the_page() -> None:
    assert 'data-theme="dark"' in page_of("mlp", "freed", theme="dark")
    assert "prefers-color-scheme" not in still_of(page_of("mlp", theme="dark"))


@pytest.mark.parametrize("name", ["</script>", "<!--", "]]>", "\u2028", "two\nlines 🎉", "\udcff"])
def test_no_name_ends_the_data(name: str) -> None:
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.LEAF, name=name)
    page = gradviz.draw(graph).render("html").decode()
    rows = data_of(page)["rows"]
    assert isinstance(rows, list)
    assert rows[0]["name"] == name
    assert page.count("</script>") == 2


def test_the_same_story_gives_the_same_bytes() -> None:
    assert page_of("mlp", "freed") == page_of("mlp", "freed")


def test_what_frames_share_is_written_once() -> None:
    graph = graph_of("mlp")
    one = gradviz.draw(gradviz.Story((gradviz.Frame("1", graph),)))
    many = gradviz.draw(gradviz.Story(tuple(gradviz.Frame(str(n), graph) for n in range(20))))
    alone, twenty = (data_of(d.render("html").decode()) for d in (one, many))
    assert len(str(twenty)) < len(str(alone)) + 20 * 500


def test_lines_of_libraries_are_no_groups() -> None:
    graph = GradGraph()
    for number in range(6):
        graph.add_node(
            f"n{number}",
            kind=NodeKind.OPERATION,
            op="mul",
            module=f"net.{number // 2}",
            source="train.py:3",
            inside="library.py:9",
        )
    graph.add_node("x", kind=NodeKind.UNTRACKED, name="x", module="net.0", inside="library.py:9")
    graph.add_edge("x", "n0", 0, kind=EdgeKind.CUT)
    for number in range(5):
        graph.add_edge(f"n{number}", f"n{number + 1}", 0, kind=EdgeKind.GRADIENT)
    drawing = gradviz.Drawing(graph, all=True)
    assert "library.py:9" in json.dumps(data_of(drawing.render("html").decode())["rows"])


def test_options_of_a_picture_hold_for_the_page() -> None:
    page = page_of("mlp", rankdir="LR", width="8cm", legend=False, colors={"relu": "red"})  # type: ignore[arg-type]
    data = data_of(page)
    assert (data["rankdir"], data["hasLegend"]) == ("LR", False)
    assert "own-d55e00" in json.dumps(data["cards"])
    assert 'width="226.77pt"' in still_of(page)
    assert "leaf, with its .grad" not in still_of(page)
