"""The viewer with options of a picture, and with answers of `explain`, in a real browser."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page
from test_viewer import Stack
from torch import nn
from viewing import Open, new_page, place_of

import gradviz
from gradviz.frontends.cli import cli

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


def cells() -> gradviz.Drawing:
    torch.manual_seed(0)
    net = nn.ModuleDict({"cell": nn.LSTMCell(3, 4), "head": nn.Linear(4, 1)})
    with gradviz.record(net) as run:
        state = None
        for _ in range(6):
            state = net["cell"](torch.randn(2, 3), state)
        net["head"](state[0]).pow(2).mean().backward()
    return gradviz.draw(run)


def test_leaves_stay_where_they_are_from_frame_to_frame(opened: Open) -> None:
    with opened(cells()) as page:
        box = page.locator('.node[aria-label^="parameters of cell (4)"]')
        assert box.get_attribute("aria-label").endswith(", leaves")
        before = place_of(box)
        page.evaluate("gradvizViewer.change({frame: 1}, {})")
        after = place_of(box)
        assert abs(before["x"] - after["x"]) < 60 and abs(before["y"] - after["y"]) < 30
        box.click()
        assert "leaves drawn as one" in page.locator(".page").inner_text()


def camera(page: Page) -> dict[str, float]:
    found: dict[str, float] = page.evaluate("({...gradvizViewer.stage.camera})")
    return found


def test_wheel_pinch_and_minimap_move_the_picture(opened: Open) -> None:
    model = Stack(60)
    loss = model(torch.randn(3, 8)).mean()
    with opened(gradviz.draw(loss, names=model, views=()), has_touch=True) as page:
        stage = page.locator(".stage").bounding_box()
        assert stage
        x, y = stage["x"] + 200, stage["y"] + 150
        before = camera(page)
        page.mouse.move(x, y)
        page.mouse.wheel(0, -240)  # a notch of a mouse
        page.wait_for_function(f"gradvizViewer.stage.camera.scale > {before['scale']}")
        zoomed = camera(page)
        points = [
            (at["x"] + 200 / at["scale"], at["y"] + 150 / at["scale"]) for at in (before, zoomed)
        ]
        assert points[0] == pytest.approx(points[1], abs=0.5)  # what is under the pointer stays
        page.mouse.wheel(15, 30)  # a trackpad
        page.wait_for_function(f"gradvizViewer.stage.camera.x !== {zoomed['x']}")
        moved = camera(page)
        assert moved["scale"] == zoomed["scale"] and moved["y"] > zoomed["y"]
        touch = page.context.new_cdp_session(page)

        def fingers(kind: str, *places: tuple[float, float]) -> None:
            points = [{"x": px, "y": py, "id": n} for n, (px, py) in enumerate(places)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        fingers("touchStart", (x, y), (x + 100, y))
        for step in range(1, 6):
            fingers("touchMove", (x - 10 * step, y), (x + 100 + 10 * step, y))
        fingers("touchEnd")
        pinched = camera(page)
        assert pinched["scale"] == pytest.approx(2 * moved["scale"], rel=0.1)
        chart = page.locator(".minimap").bounding_box()
        assert chart
        page.mouse.move(chart["x"] + 5, chart["y"] + 5)
        page.mouse.down()
        page.mouse.move(chart["x"] + chart["width"] / 2, chart["y"] + chart["height"] - 5, steps=4)
        page.mouse.up()
        dragged = camera(page)
        assert dragged["y"] > pinched["y"] and dragged["scale"] == pinched["scale"]
        assert page.evaluate("gradvizViewer.state.selected") == ""


def test_the_copied_command_runs_the_same_program(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prog.py").write_text(
        "import sys, torch\nw = torch.ones(2, requires_grad=True)\n"
        "for n in range(4):\n    loss = (w * float(sys.argv[1])).sum()\n    loss.backward()\n"
    )
    typed = "record --step 2 prog.py -o run.html -q -- 0.5"
    cli(typed.split(), standalone_mode=False)
    with new_page(browser, tmp_path / "run.html") as page:
        page.locator(".menu summary").click()
        page.get_by_role("button", name="Copy command").click()
        command = page.locator(".copied", has_text="gradviz").inner_text().split(": ", 1)[-1]
    assert command == "gradviz record --step 2 prog.py --frames 1 -o graph.svg -- 0.5"
    cli(shlex.split(command)[1:], standalone_mode=False)
    assert "loss" in Path("graph.svg").read_text()


def test_the_copied_command_of_some_frames_counts_as_the_recording_does(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prog.py").write_text(
        "import torch\nw = torch.ones(2, requires_grad=True)\n"
        "for n in range(2):\n    loss = (w * 2).sum()\n    loss.backward()\n"
    )
    cli(["record", "prog.py", "--frames", "2,4,9", "-o", "run.html", "-q"], standalone_mode=False)
    with new_page(browser, tmp_path / "run.html") as page:
        page.get_by_role("button", name="next").click()
        page.locator(".menu summary").click()
        page.get_by_role("button", name="Copy command").click()
        command = page.locator(".copied", has_text="gradviz").inner_text().split(": ", 1)[-1]
    assert command == "gradviz record prog.py --frames 4 -o graph.svg"
    cli(shlex.split(command)[1:], standalone_mode=False)
    assert "2 passes" in Path("graph.svg").read_text()


def test_the_values_of_a_gradient_are_counted_in_intervals(opened: Open) -> None:
    torch.manual_seed(0)
    wide, few = torch.randn(40, 40, requires_grad=True), torch.zeros(5, requires_grad=True)
    ramp = torch.arange(1600.0).reshape(40, 40)
    loss = (wide * ramp).sum() + (few * torch.arange(5.0)).sum()
    loss.backward()
    with opened(gradviz.draw(loss)) as page:
        page.locator(".drawing .node", has_text="wide").click()
        counted = page.get_by_role("img", name="of 1,600 values")
        heights = [
            float(height.removesuffix("%"))
            for height in counted.locator(".bin").evaluate_all(
                "all => all.map(e => e.style.height)"
            )
        ]
        assert len(heights) == 12
        assert min(heights) > 70  # a ramp has as many values in each interval
        assert "0 to 1599, standard deviation" in page.locator(".range").inner_text()
        page.locator(".drawing .node", has_text="few").click()
        assert page.get_by_role("img", name="histogram of 5 values").locator(".bin").count() == 5


def test_what_was_asked_is_open_first(opened: Open) -> None:
    w = torch.ones(2, requires_grad=True)
    loss = (w * 3).sum()
    loss.backward()
    for drawn, tab in (
        (gradviz.draw(gradviz.explain(w, loss)), "Explain"),
        (gradviz.draw(loss), "Details"),
    ):
        with opened(drawn) as page:
            assert page.get_by_role("tab", selected=True).inner_text() == tab
