"""The viewer in a real browser: what a person does with it, and what it then shows."""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FloatRect, Page
from torch import nn
from viewing import Open, new_page, place_of

import gradviz
import gradviz.serialize
import gradviz.views
from gradviz.frontends.cli import cli
from gradviz.graph.text import bytes_text

pytestmark = pytest.mark.tool

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'<!--"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc(self.norm(x)).relu()


class Stack(nn.Module):
    def __init__(self, count: int = 12) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList([Block() for _ in range(count)]), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@pytest.fixture(scope="module")
def stack() -> gradviz.Drawing:
    torch.manual_seed(0)
    model = Stack()
    loss = model(torch.randn(3, 8)).pow(2).mean()
    loss.backward()
    return gradviz.draw(loss, names=model, title="a stack")


@pytest.fixture(scope="module")
def run() -> gradviz.Drawing:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    x = torch.randn(5, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record() as recording:
        for _ in range(2):
            optimizer.zero_grad()
            loss = (model(x) - model(x).detach() - 1).pow(2).mean()
            loss.backward()
            optimizer.step()
    return gradviz.draw(recording)


def nodes(page: Page) -> int:
    return page.locator(".drawing .node").count()


def texts(page: Page) -> list[str]:
    labels = page.locator(".drawing .node").evaluate_all(
        "all => all.map(each => each.getAttribute('aria-label'))"
    )
    return [str(label) for label in labels]


def box(page: Page, text: str) -> FloatRect:
    return place_of(page.locator(".drawing .node", has_text=text).first)


def test_it_opens_with_what_the_picture_shows(opened: Open, stack: gradviz.Drawing) -> None:
    with opened(stack) as page:
        assert nodes(page) == stack.shown[0].graph.number_of_nodes()
        assert page.locator("h1").first.inner_text() == "a stack"
        assert page.locator("#still").is_hidden()
        page.locator(".drawing .node", has_text="loss").click()
        details = page.locator(".page").inner_text()
        assert "result" in details
        assert "f32[]" in details


def test_a_group_opens_and_closes_where_the_reader_is(opened: Open, stack: gradviz.Drawing) -> None:
    with opened(stack) as page:
        before, place = nodes(page), box(page, "layers.1…11")
        page.locator(".drawing .node", has_text="layers.1…11").dblclick()
        assert nodes(page) == before + 10
        first = box(page, "layers.1")
        assert abs(first["y"] - place["y"]) < 450
        page.keyboard.press("Enter")
        assert nodes(page) > before + 10
        page.keyboard.press("Backspace")
        assert nodes(page) == before + 10
        page.keyboard.press("Backspace")
        assert nodes(page) == before
        assert "layers.1…11" in page.locator(".page h2").inner_text()


def test_all_of_a_kind_open_and_everything_closes(opened: Open, stack: gradviz.Drawing) -> None:
    with opened(stack) as page:
        page.get_by_role("button", name="Open all").click()
        drawn = nodes(page)
        assert drawn > 60
        page.get_by_role("button", name="Close all").click()
        assert nodes(page) < 8
        page.get_by_role("button", name="Reset").click()
        assert nodes(page) == stack.shown[0].graph.number_of_nodes()
        page.locator(".drawing .node", has_text="layers.1…11").dblclick()
        page.get_by_role("button", name="Open all like this").click()
        labels = texts(page)
        assert not any(label.startswith("layers.4,") for label in labels)
        assert any(label.startswith("layers.4.fc") for label in labels)


def test_search_finds_what_is_folded_and_goes_there(opened: Open, stack: gradviz.Drawing) -> None:
    with opened(stack) as page:
        page.keyboard.press("/")
        page.keyboard.type("layers.7 linear")
        assert page.locator("#found li").first.is_visible()
        page.keyboard.press("Enter")
        assert "linear" in page.locator(".page").inner_text()
        assert "layers.7.fc" in page.locator(".page").inner_text()
        page.keyboard.press("/")
        assert "linear" in page.locator("#found li").first.inner_text()
        page.keyboard.press("Enter")
        assert page.locator(".node.selected").count() == 1
        page.keyboard.press("/")
        page.keyboard.press("Control+a")
        page.keyboard.type("no such thing")
        assert "nothing is found" in page.locator("#found").inner_text()


def test_keys_lead_along_the_edges(opened: Open, stack: gradviz.Drawing) -> None:
    with opened(stack) as page:
        page.locator(".stage").focus()
        page.keyboard.press("ArrowDown")
        names = [page.locator(".page h2").inner_text()]
        for _ in range(3):
            page.keyboard.press("ArrowUp")
            names.append(page.locator(".page h2").inner_text())
        assert names[:2] == ["loss", "mean"]
        assert len(set(names)) == 4
        before = page.locator(".drawing > g").get_attribute("transform")
        page.keyboard.press("+")
        page.keyboard.press("Shift+ArrowLeft")
        page.wait_for_function(
            "old => document.querySelector('.drawing > g').getAttribute('transform') !== old",
            arg=before,
        )
        page.keyboard.press("?")
        assert page.locator("dialog").is_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        assert "Nothing is selected" in page.locator(".page").inner_text()


def test_pointing_at_a_box_lights_the_way_of_its_gradient(opened: Open) -> None:
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    drawing = gradviz.draw((w.exp() * v.sin()).sum(), names={"w": w, "v": v})
    with opened(drawing) as page:
        page.locator(".node", has_text="exp").hover()
        page.wait_for_selector(".lighting")
        lit = page.locator(".node.lit").evaluate_all("all => all.map(e => e.ariaLabel)")
        assert any(str(label).startswith("w,") for label in lit)
        assert not any(str(label).startswith("v,") for label in lit)
        assert page.locator(".node.result.lit").count() == 1


def test_only_paths_and_bookkeeping(opened: Open, stack: gradviz.Drawing) -> None:
    with opened(stack) as page:
        before = nodes(page)
        page.locator(".drawing .node", has_text="head").first.click()
        page.get_by_role("button", name="Only paths through this").click()
        page.locator(".toolbar").get_by_role("button", name="Only paths through").click()
        assert nodes(page) == before
        page.get_by_label("Bookkeeping").check()
        page.get_by_role("button", name="Open all").click()
        assert any("accumulate_grad" in text for text in texts(page))
        page.get_by_label("Bookkeeping").uncheck()
        assert not any("accumulate_grad" in text for text in texts(page))


def test_a_value_has_the_name_of_its_own_result(opened: Open) -> None:
    w = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        for scale in (2.0, 3.0):
            (one := (w * scale).sum()).backward()
        (other := w.sum()).backward()
    with opened(gradviz.draw(run)) as page:
        assert page.locator(".moment").inner_text().endswith("one = 4")
        for _ in range(4):
            page.keyboard.press("]")
        assert page.locator(".moment").inner_text().endswith("other = 2")
        assert "line: one" in page.locator(".phases").inner_text()
    with opened(gradviz.draw(run.story[4:])) as page:  # one value in all frames: there is no line
        assert one is not other and "line" not in page.locator(".phases").inner_text()


@pytest.mark.parametrize("by", ["grad_norm", "saved_bytes", "dtype", "device", "module"])
def test_colors_come_with_a_legend(opened: Open, stack: gradviz.Drawing, by: str) -> None:
    with opened(stack) as page:
        rows = page.locator(".legend li").count()
        page.select_option("#color-by", by)
        assert page.locator(".legend li").count() > rows


def test_a_run_is_stepped_through(opened: Open, run: gradviz.Drawing) -> None:
    with opened(run) as page:
        assert page.locator(".story output").inner_text() == f"1 of {len(run.story)}"
        page.keyboard.press("]")
        assert page.locator(".story output").inner_text() == f"2 of {len(run.story)}"
        assert run.story[1].title in page.locator(".moment").inner_text()
        assert "Changed in this frame" in page.locator(".page").inner_text()
        page.get_by_role("button", name="next").click()
        page.get_by_role("button", name="next").press("Enter")
        assert page.locator(".story output").inner_text() == f"4 of {len(run.story)}"
        page.get_by_role("slider").fill("1")
        assert page.locator(".story output").inner_text() == f"1 of {len(run.story)}"
        assert page.get_by_role("button", name="back").is_disabled()
        page.locator(".strip rect").nth(2).click()
        assert page.locator(".story output").inner_text() == f"3 of {len(run.story)}"


def test_shared_nodes_stay_where_they_are_from_frame_to_frame(
    opened: Open, run: gradviz.Drawing
) -> None:
    with opened(run) as page:
        before = place_of(page.locator(".node.result").first)
        page.keyboard.press("]")
        after = place_of(page.locator(".node.result").first)
        assert (before["x"], before["y"]) == (after["x"], after["y"])


def test_a_view_is_exported(opened: Open, stack: gradviz.Drawing, tmp_path: Path) -> None:
    with opened(stack) as page:
        page.locator(".drawing .node", has_text="layers.1…11").dblclick()
        page.select_option("#color-by", "grad_norm")
        page.locator(".menu summary").click()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save as SVG").click()
        saved.value.save_as(tmp_path / "view.svg")
        said = page.get_by_text("graph.svg was given to the browser to save")
        said.wait_for(state="attached")
        svg = ET.parse(tmp_path / "view.svg").getroot()
        assert "layers.4" in "".join(svg.itertext())
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save as PNG").click()
        saved.value.save_as(tmp_path / "view.png")
        assert (tmp_path / "view.png").read_bytes()[:4] == b"\x89PNG"
        page.get_by_role("button", name="Copy command").click()
        command = page.locator(".copied", has_text="gradviz draw").inner_text()
        assert "--color-by grad_norm" in command
        page.get_by_role("button", name="Copy views").click()
        views = page.locator(".copied", has_text="views=[").inner_text()
        assert 'color_by("grad_norm")' in views
        drawn, hash = nodes(page), page.evaluate("location.hash")
    with opened(stack, hash=hash) as page:
        assert nodes(page) == drawn
        assert page.locator("#color-by").input_value() == "grad_norm"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_system_and_the_switch(
    opened: Open, stack: gradviz.Drawing, scheme: str
) -> None:
    def background(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    with opened(stack, color_scheme=scheme) as page:
        light, dark = "rgb(255, 255, 255)", "rgb(13, 17, 23)"
        assert background(page) == (dark if scheme == "dark" else light)
        page.keyboard.press("t")
        assert background(page) == light
        page.keyboard.press("t")
        assert background(page) == dark


def test_without_scripts_it_shows_the_still_picture(opened: Open, run: gradviz.Drawing) -> None:
    with opened(run, java_script_enabled=False) as page:
        assert page.locator("#still svg").first.is_visible()
        assert page.locator("#gradviz-viewer").is_hidden()
        assert page.locator("#still figure").count() == len(run.story)
        assert page.locator("#still nav").is_visible()
        page.emulate_media(media="print")
        assert page.locator("#still nav").is_hidden()


def test_hostile_names_are_text(opened: Open) -> None:
    w = torch.ones(2, requires_grad=True)
    other = torch.ones(2, requires_grad=True)
    loss = (w * other).sum()
    names = {HOSTILE: w, "два слова 🎉": other, "loss": loss}
    with opened(gradviz.draw(loss, names=names, title=HOSTILE)) as page:
        assert page.locator("h1").first.inner_text() == HOSTILE
        assert page.locator("img").count() == 0
        page.keyboard.press("/")
        page.keyboard.type("<img")
        page.keyboard.press("Enter")
        assert page.locator(".page h2").inner_text() == HOSTILE
        assert page.locator("img").count() == 0
        assert any("два слова 🎉" in text for text in texts(page))


def test_nothing_may_be_fetched(opened: Open, stack: gradviz.Drawing) -> None:
    with pytest.raises(AssertionError, match=r"example\.org"), opened(stack) as page:
        page.evaluate(
            "window.blocked = []; addEventListener('securitypolicyviolation',"
            " event => window.blocked.push(event.effectiveDirective))"
        )
        failed = page.evaluate(
            "() => new Promise(done => { const image = new Image();"
            " image.onerror = () => done(true); image.src = 'https://example.org/x.png' })"
        )
        assert failed
        page.wait_for_function("String(window.blocked) === 'img-src'")


@pytest.mark.parametrize("width", [320, 700, 1400])
def test_every_width_is_usable(opened: Open, run: gradviz.Drawing, width: int) -> None:
    with opened(run, width=width, height=720) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator(".stage").focus()
        page.keyboard.press("ArrowDown")
        assert page.locator(".page h2").is_visible()
        assert page.locator(".node.selected").count() == 1
        stage = place_of(page.locator(".stage"))
        assert stage["width"] >= 300 and stage["height"] >= 180
        heights = page.locator(".drawing .node text").evaluate_all(
            "all => all.map(e => parseFloat(e.getAttribute('font-size')) * e.getScreenCTM().d)"
        )
        assert min(heights) >= (9 if width > 820 else 7)
        page.get_by_role("button", name="next").click()
        assert page.locator(".story output").inner_text().startswith("2 of")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("subject", ["stack", "run"])
def test_axe_finds_nothing(
    opened: Open, request: pytest.FixtureRequest, subject: str, scheme: str
) -> None:
    with opened(request.getfixturevalue(subject), color_scheme=scheme) as page:
        page.locator(".node.result").first.click()
        violations = Axe().run(page).response["violations"]
        assert json.dumps([each["id"] for each in violations]) == "[]"


def test_it_works_in_a_sandbox(browser: Browser, tmp_path: Path, stack: gradviz.Drawing) -> None:
    (tmp_path / "inner.html").write_bytes(stack.render("html"))
    outer = tmp_path / "outer.html"
    outer.write_text('<iframe sandbox="allow-scripts" src="inner.html" width=1200 height=800>')
    wrong: list[str] = []
    with new_page(browser) as page:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(outer.as_uri())
        inner = page.frame_locator("iframe")
        inner.locator(".stage").press("ArrowDown")
        assert inner.locator(".page h2").inner_text() == "loss"
        inner.locator(".menu summary").click()
        inner.get_by_role("button", name="Save as SVG").click()
        inner.get_by_text("if there is no file, this notebook blocks downloads").wait_for(
            state="attached"
        )
    assert wrong == []


PROGRAM = """\
import torch
from torch import nn

torch.manual_seed(0)
first, second, unused, head = (nn.Linear(4, 4) for _ in range(4))
x = torch.randn(3, 4)
h = first(x).relu()
with torch.no_grad():
    g = second(h)
loss = head(h + g).pow(2).mean()
loss.backward()
"""


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "train.py").write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cli(["explain", "train.py", "-q", "-o", "why.html"], standalone_mode=False)
        cli(["record", "train.py", "-q", "-o", "run.html"], standalone_mode=False)
    return folder


def test_answers_lead_to_the_place_in_question(browser: Browser, explained: Path) -> None:
    with new_page(browser, explained / "why.html") as page:
        answers = page.locator(".answers > li")
        assert "no gradient (cut)" in answers.first.inner_text()
        assert "Fix:" in answers.first.inner_text()
        answers.first.get_by_role("button").click()
        stage, node = place_of(page.locator(".stage")), place_of(page.locator(".selected"))
        assert abs(node["x"] + node["width"] / 2 - stage["x"] - stage["width"] / 2) < 20
        fine = answers.filter(has_text="fine").first
        alarm, calm = (
            each.locator(".state").evaluate("e => getComputedStyle(e).color")
            for each in (answers.first, fine)
        )
        assert alarm != calm
        page.get_by_role("tab", name="Details").click()
        assert "no gradient" in page.locator(".page").inner_text()


def test_code_and_nodes_lead_to_each_other(browser: Browser, explained: Path) -> None:
    with new_page(browser, explained / "run.html") as page:
        page.get_by_role("tab", name="Code").click()
        page.locator('[data-line="train.py:9"] button').click()
        assert page.locator(".node.selected").get_attribute("aria-label").startswith("g,")
        assert page.locator(".code .chosen").get_attribute("data-line") == "train.py:9"
        assert page.locator(".code .now").count() == 1
        page.locator(".menu summary").click()
        page.get_by_role("button", name="Copy command").click()
        command = page.locator(".copied", has_text="gradviz").inner_text()
        assert "gradviz record train.py " in command and "--frames 1 -o graph.svg" in command
        page.keyboard.press("Escape")
        assert page.locator(".menu .items").is_hidden()
        page.get_by_role("tab", name="Explain").click()
        assert "at the end of the run" in page.locator(".page").inner_text()
        page.locator(".node", has_text="pow").first.click()
        page.get_by_role("tab", name="Details").click()
        page.get_by_role("button", name="train.py:10").click()
        assert page.locator(".code .chosen").get_attribute("data-line") == "train.py:10"


def test_memory_is_a_bar_for_each_module_and_says_when_it_is_freed(
    opened: Open, stack: gradviz.Drawing
) -> None:
    torch.manual_seed(0)
    model = Stack(2)
    with gradviz.record() as recording:
        model(torch.randn(3, 8)).pow(2).mean().backward()
    with opened(gradviz.draw(recording)) as page:
        page.get_by_role("tab", name="Memory").click()
        rows = page.locator(".bars li")
        assert rows.count() >= 2
        assert "freed in frame 2" in rows.first.inner_text()
        page.keyboard.press("]")
        assert "Nothing is kept for backward here." in page.locator(".page").inner_text()
        page.get_by_role("tab", name="Details").click()
        changes = page.locator(".page").inner_text()
        assert "operations: saved tensors freed" in changes
        assert "fc.weight .grad new" in changes


def test_what_the_modules_keep_adds_up(opened: Open) -> None:
    """Also what a module keeps in operations of its own, outside of the modules in it."""
    model = nn.Sequential(Block(), Block())
    loss = model(torch.randn(3, 8)).pow(2).mean()
    drawing = gradviz.draw(loss, names=model)
    kept = sum(row.get("saved_bytes", 0) for _, row in drawing.graph.nodes(data=True))
    with opened(drawing) as page:
        page.get_by_role("tab", name="Memory").click()
        assert page.locator(".page h2").inner_text() == f"Kept for backward: {bytes_text(kept)}"
        amounts = page.locator(".bars .amount").all_inner_texts()
        units = {"B": 1, "kB": 1000}
        listed = sum(float(n) * units[unit] for n, unit in map(str.split, amounts))
        assert listed == pytest.approx(kept, rel=0.01)
        assert "1 itself, without its parts" in page.locator(".bars").inner_text()


def test_the_module_tree_follows_and_leads(opened: Open, stack: gradviz.Drawing) -> None:
    with opened(stack) as page:
        tree = page.get_by_role("navigation", name="modules")
        tree.get_by_role("button", name="head").click()
        assert "head" in page.locator(".page dl").inner_text()
        page.keyboard.press("/")
        page.keyboard.type("layers.7.fc.weight")
        page.keyboard.press("Enter")
        assert tree.locator(".chosen").get_attribute("title") == "select layers.7.fc"


def test_the_view_command_prints_the_path_of_a_page(
    browser: Browser, explained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(explained)
        cli(["view", "train.py:loss", "--no-open", "-q"], standalone_mode=False)
    path = Path(capsys.readouterr().out.strip().splitlines()[-1])
    with new_page(browser, path) as page:
        assert page.locator(".node.result").count() == 1
        page.locator(".menu summary").click()
        page.get_by_role("button", name="Copy command").click()
        command = page.locator(".copied", has_text="gradviz draw").inner_text()
        assert "gradviz draw train.py:loss" in command


def test_in_a_notebook_the_viewer_lies_over_the_still_picture(
    browser: Browser, tmp_path: Path
) -> None:
    w = torch.ones(3, requires_grad=True)
    loss = (w * 2).sum()
    cell = tmp_path / "cell.html"
    cell.write_text(f"<!doctype html><body>{gradviz.view(loss)._repr_html_()}", encoding="utf-8")
    with new_page(browser, cell) as page:
        page.frame_locator("iframe").locator(".node.result").click()
        assert page.locator("body > div > img").count() == 1


def test_a_height_that_cannot_be_is_refused() -> None:
    with pytest.raises(gradviz.GradvizError, match="height must be an integer >= 200, got 10"):
        gradviz.view(gradviz.GradGraph(), height=10)


def test_the_viewer_is_saved_opened_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    w = torch.ones(3, requires_grad=True)
    viewer = gradviz.view((w * 2).sum())
    saved, opened = viewer.save(tmp_path / "loss.html"), viewer.open()
    assert saved.read_text("utf-8") == opened.read_text("utf-8") == viewer.html
    assert shown == [opened.as_uri()]
    assert str(viewer) == str(viewer.drawing)
    assert repr(viewer) == f"View({viewer.drawing!r})"


def test_what_is_copied_draws_what_is_seen(
    browser: Browser, explained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(explained)
    (explained / "deep.py").write_text(DEEP)
    cli(["draw", "deep.py:loss", "-q", "-o", "deep.html"], standalone_mode=False)
    with new_page(browser, explained / "deep.html") as page:

        def copied() -> tuple[list[str], str]:
            page.locator(".menu summary").click()
            page.get_by_role("button", name="Copy command").click()
            command = page.locator(".copied", has_text="gradviz draw").inner_text()
            page.get_by_role("button", name="Copy views").click()
            views = page.locator(".copied", has_text="views=[").inner_text()
            page.keyboard.press("Escape")
            return shlex.split(command.split(": ", 1)[-1])[1:], views.split(": ", 1)[-1]

        for step in ("", "only", "all"):
            page.evaluate("gradvizViewer.change({only: '', toggled: new Set()}, {})")
            if step == "only":
                page.evaluate("gradvizViewer.goTo('n0'); gradvizViewer.togglePaths()")
            if step == "all":
                page.get_by_role("button", name="Open all").click()
            arguments, views = copied()
            cli([*arguments, "-q"], standalone_mode=False)
            assert "<svg" in (explained / "graph.svg").read_text()
            chosen = eval(views.removeprefix("views="), {**vars(gradviz.views)})
            cli(["draw", "deep.py:loss", "-q", "-o", "deep.json"], standalone_mode=False)
            graph = gradviz.serialize.load("deep.json")[0].graph
            seen = gradviz.views.apply(graph, chosen)
            assert nodes(page) == seen.number_of_nodes(), (step, views)


def test_counts_of_edges_are_those_of_the_picture(opened: Open) -> None:
    cell, states = nn.LSTMCell(4, 8), []
    h = torch.zeros(2, 8), torch.zeros(2, 8)
    for _ in range(40):
        h = cell(torch.randn(2, 4), h)
        states.append(h[0].sum())
    drawing = gradviz.draw(torch.stack(states).sum(), names={"cell": cell})
    edges = drawing.shown[0].graph.edges(data="times", default=1)
    with opened(drawing) as page:
        shown = page.evaluate("gradvizViewer.picture.edges.map(edge => edge.times)")
    assert sorted(shown) == sorted(times for _, _, times in edges)
    assert max(shown) > 30


def test_a_program_s_recording_knows_the_modules(browser: Browser, explained: Path) -> None:
    with new_page(browser, explained / "run.html") as page:
        assert "first 2" in page.get_by_role("navigation", name="modules").inner_text()


DEEP = """\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(40)])
loss = model(torch.randn(3, 4)).sum()
"""
