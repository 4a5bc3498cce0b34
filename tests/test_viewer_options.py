"""The viewer with options of a picture, and with answers of `explain`, in a real browser."""

from __future__ import annotations

import pytest
import torch
from playwright.sync_api import Page
from test_viewer import Stack
from viewing import Open

import gradviz

pytestmark = pytest.mark.tool


def centers_of(page: Page) -> dict[str, list[float]]:
    places: dict[str, list[float]] = page.evaluate(
        "Object.fromEntries(gradvizViewer.picture.nodes.map(each => [each.id, [each.x, each.y]]))"
    )
    return places


def test_the_data_flows_to_the_right_if_it_is_to(opened: Open) -> None:
    w = torch.ones(2, requires_grad=True)
    loss = (w * 3).detach().mul(w).exp().sum()
    with opened(gradviz.draw(loss, rankdir="LR", highlight="w", legend=False)) as page:
        for edge in page.evaluate("gradvizViewer.picture.edges.map(e => [e.source, e.target])"):
            ends = page.evaluate("e => e.map(at => gradvizViewer.picture.nodes[at].x)", edge)
            assert ends[0] < ends[1]
        assert page.locator(".edge path.e-ink").count() == 4
        assert page.locator(".legend").is_hidden()
        page.locator(".stage").focus()
        page.keyboard.press("ArrowRight")
        first = page.evaluate("gradvizViewer.state.selected")
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("gradvizViewer.state.selected") != first
        page.get_by_label("Left to right").uncheck()
        assert "rankdir=TB" in page.evaluate("location.hash")
        xs = [x for x, _ in centers_of(page).values()]
        assert max(xs) - min(xs) < 400


def test_widths_of_arrows_are_the_norms_along_them(opened: Open) -> None:
    w = torch.ones(2, requires_grad=True)
    y = w * 3
    y.retain_grad()
    loss = (y * 100).sum()
    loss.backward()
    with opened(gradviz.draw(loss, color_by="grad_norm")) as page:
        widths = page.evaluate("gradvizViewer.picture.edges.map(e => [e.look.token, e.look.line])")
        assert sorted(widths)[0][0] == "level"
        assert {token for token, _ in widths} == {"level", "line"}
        assert "wide line: norm of the gradient along it" in page.locator(".legend").inner_text()


def test_the_rest_of_an_explained_graph_can_be_reached(opened: Open) -> None:
    model = Stack(60)
    model.head.weight.requires_grad_(False)
    loss = model(torch.randn(3, 8)).mean()
    answer = gradviz.explain(model.layers[59].fc.bias, loss, names=model)
    page_of_answer = gradviz.draw(answer)
    few = len(answer.story[0].graph)
    assert few < len(answer.graph)
    with opened(page_of_answer) as page:
        assert page.evaluate("gradvizViewer.picture.nodes.length") <= few
        page.locator("#everything").check()
        assert page.evaluate("gradvizViewer.frame.keys.length") == len(answer.graph)
        page.keyboard.press("/")
        page.keyboard.type("layers.0.fc.weight")
        page.keyboard.press("Enter")
        assert "layers.0.fc.weight" in page.locator(".panel .page").inner_text()


def test_the_answers_of_a_recording_are_listed(opened: Open) -> None:
    with gradviz.record() as run:
        w, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        loss = (w * unused.detach()).sum()
        loss.backward()
    with opened(run.draw()) as page:
        assert "cut by detach()" in page.locator(".panel .page").inner_text()
