"""The layout of the viewer against that of the pictures: the same places, the same curves."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import viewing
from cases import CASES
from graphs import graph_of
from playwright.sync_api import Browser

import gradviz
from gradviz.renderers.cards import card_of
from gradviz.renderers.edges import drawn_edges
from gradviz.renderers.labels import labels_of
from gradviz.renderers.layout.engines import lay_out
from gradviz.renderers.layout.routing import Box, Link
from gradviz.views import apply

pytestmark = pytest.mark.tool

_NEAR = 0.021  # both round to hundredths of a point, ties to different sides

Problem = tuple[list[Box], list[Link]]


def of_case(name: str) -> Problem:
    graph = apply(graph_of(name))
    cards = {key: card_of(label, graph.nodes[key]) for key, label in labels_of(graph).items()}
    boxes = [Box(key, card.width, card.height) for key, card in cards.items()]
    return boxes, [Link(source, target) for source, target, *_ in drawn_edges(graph)]


def at_random(seed: int, count: int, links: int, cycles: bool = False) -> Problem:
    random = Random(seed)
    boxes = [
        Box(str(n), round(random.uniform(54, 240), 2), random.choice((25.0, 46.0, 67.0)))
        for n in range(count)
    ]
    found = []
    for _ in range(links):
        ends = random.randrange(count), random.randrange(count)
        if not cycles:
            ends = min(ends), max(ends)
        if cycles or ends[0] != ends[1]:
            found.append(Link(str(ends[0]), str(ends[1])))
    return boxes, found


def problems() -> dict[str, Problem]:
    found = {case.name: of_case(case.name) for case in CASES}
    sizes = ((5, 4), (12, 16), (30, 50), (60, 90), (300, 380), (1_200, 1_400))
    for number, (count, links) in enumerate(sizes):
        found[f"random {count}"] = at_random(number, count, links)
        found[f"cycles {count}"] = at_random(number, count, links, cycles=True)
    chain = [Box(str(n), 60.0, 25.0) for n in range(202)]
    pairs = [(n, n + 1) for n in range(199)] + [(0, 1), (0, 1)]
    pairs += [(200, n) for n in range(0, 200, 5)] + [(n, n + 10) for n in range(0, 190, 7)]
    found["a chain with shared leaves"] = chain, [Link(str(a), str(b)) for a, b in pairs]
    return found


def test_places_and_curves_are_those_of_the_pictures(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", "layered")
    wrong = []
    with viewing.module_page(browser, "layout") as page:
        for name, (boxes, links) in problems().items():
            place = {box.key: number for number, box in enumerate(boxes)}
            pairs = [[place[link.source], place[link.target]] for link in links]
            sizes = [{"width": box.width, "height": box.height} for box in boxes]
            drawn: dict[str, Any] = page.evaluate(
                "([sizes, pairs]) => { const it = window.it.layOut(sizes, pairs);"
                " return {...it, xs: [...it.xs], ys: [...it.ys]} }",
                [sizes, pairs],
            )
            layout = lay_out(boxes, links)
            centers = [layout.centers[box.key] for box in boxes]
            ours = [number for center in centers for number in center]
            theirs = [
                number for center in zip(drawn["xs"], drawn["ys"], strict=True) for number in center
            ]
            for route, other in zip(layout.routes, drawn["routes"], strict=True):
                ours += [number for point in route for number in point]
                theirs += other
            near = len(ours) == len(theirs) and all(
                abs(a - b) < _NEAR for a, b in zip(ours, theirs, strict=True)
            )
            if not near:
                wrong.append(name)
    assert wrong == []


OPTIONS: list[dict[str, Any]] = [{}, {"all": True}, {"depth": 1}, {"direction": "gradient"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_case_opens_with_the_nodes_of_its_picture(
    browser: Browser, tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "page.html"
    failed: list[str] = []
    wrong = []
    with viewing.new_page(browser) as page:
        page.on("pageerror", lambda error: failed.append(str(error)))
        for case in CASES:
            drawing = gradviz.draw(graph_of(case.name), **options)
            path.write_bytes(drawing.render("html"))
            page.goto(path.as_uri())
            drawn = page.locator(".drawing .node").count()
            if drawn != drawing.shown[0].graph.number_of_nodes() or failed:
                wrong.append((case.name, drawn, drawing.shown[0].graph, failed.copy()))
            failed.clear()
    assert wrong == []
