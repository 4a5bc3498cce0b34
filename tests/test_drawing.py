"""`draw` and `Drawing`: what they take, what they save, what a notebook shows."""

from __future__ import annotations

import base64
import inspect
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import networkx as nx
import pytest
import torch
from graphs import graph_of

import gradviz
from gradviz import views
from gradviz.errors import GradvizError, OutputError, SubjectError, UsageError
from gradviz.frontends.files import FORMATS
from gradviz.frontends.options import OPTIONS

weights = torch.ones(4, requires_grad=True)


def loss_of(scale: float = 3.0) -> torch.Tensor:
    return (weights * scale).sum()


def test_names_come_from_the_calling_code() -> None:
    loss = loss_of()
    drawing = gradviz.draw(loss)
    assert drawing.graph.find("loss") in drawing.graph.roots
    assert drawing.graph.leaves == [drawing.graph.find("weights")]
    assert "weights" not in gradviz.draw(loss, names={}).text


def test_names_from_a_module_and_from_a_dict() -> None:
    model = torch.nn.Linear(2, 1)
    y = model(torch.ones(1, 2))
    assert "weight" in gradviz.draw(y, names=model).text
    assert "kernel" in gradviz.draw(y, names={"kernel": model.weight}).text


def test_several_roots_in_their_order() -> None:
    a, b = loss_of(1.0), loss_of(2.0)
    graph = gradviz.draw(b, [a]).graph
    assert [graph.nodes[key]["name"] for key in graph.roots] == ["b", "a"]


def test_views_are_applied_in_order_and_none_shows_everything() -> None:
    loss = loss_of()
    assert gradviz.draw(loss, views=()).shown[0].graph.number_of_nodes() == 5
    assert gradviz.draw(loss).shown[0].graph.number_of_nodes() == 4
    turned = gradviz.draw(loss, views=[views.hide_bookkeeping, views.reverse_flow()])
    shown = turned.shown[0].graph
    assert nx.has_path(shown, shown.find("loss"), shown.find("weights"))


def test_draw_has_the_options_of_the_table() -> None:
    parameters = inspect.signature(gradviz.draw).parameters
    named = [name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY]
    assert named == ["names", *OPTIONS]
    assert all(f"{name}: {option.help}" in gradviz.draw.__doc__ for name, option in OPTIONS.items())


def test_a_drawing_is_a_snapshot() -> None:
    loss = loss_of()
    drawing = gradviz.draw(loss)
    loss.backward()
    weights.grad = None
    assert ".grad  None" in drawing.text
    del loss
    assert drawing.svg


STARTS = {"svg": b"<svg ", "png": b"\x89PNG", "pdf": b"%PDF", "dot": b"digraph", "json": b"{"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_save_goes_by_suffix_and_returns_the_path(
    suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = gradviz.draw(graph_of("mlp"), title="A title").save(tmp_path / f"x.{suffix.upper()}")
    assert path == tmp_path / f"x.{suffix.upper()}"
    assert path.read_bytes().startswith(STARTS.get(suffix, b""))
    assert list(tmp_path.iterdir()) == [path]
    assert capfd.readouterr() == ("", "")


def test_json_holds_what_was_recorded_and_draws_the_same(tmp_path: Path) -> None:
    from gradviz import serialize

    drawing = gradviz.draw(graph_of("lstm_cell"), title="LSTM")
    again = gradviz.draw(serialize.load(drawing.save(tmp_path / "x.json")))
    assert again.svg == drawing.svg


def test_what_cannot_be_saved_leaves_nothing(tmp_path: Path) -> None:
    drawing = gradviz.draw(graph_of("mlp"))
    with pytest.raises(UsageError, match=r"'.wav' is none of"):
        drawing.save(tmp_path / "x.wav")
    with pytest.raises(OutputError, match="missing"):
        drawing.save(tmp_path / "missing" / "x.svg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"theme": "blue"}, "theme must be one of auto, light, dark, got 'blue'"),
        ({"views": views.hide_bookkeeping}, "views must be a list of views"),
        ({"views": ["hide"]}, "there is no view 'hide'; views are none, hide_bookkeeping"),
        ({"views": 3}, "views must be a list of views from gradviz.views or of their names"),
        ({"title": 5}, "title must be a string, got 5"),
        ({"transparent": "no"}, "transparent must be True or False, got 'no'"),
        ({"depth": 0}, "depth must be an integer >= 1, got 0"),
        ({"depth": True}, "depth must be an integer >= 1, got True"),
        ({"depth": 1, "all": True}, "depth and all exclude each other"),
        ({"radius": 1}, "radius says how much to draw around a focus, and there is none"),
        ({"dept": 1}, "there is no option 'dept'; options are views, depth"),
        ({"names": 3}, "names cannot be 3"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        gradviz.draw(loss_of(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("result", [None, 3, "graph"])
def test_a_view_that_returns_no_graph_is_named(result: object) -> None:
    def forgetful(graph: gradviz.GradGraph) -> object:
        return result

    kind = type(result).__name__
    with pytest.raises(UsageError, match=f"view forgetful returned {kind}: .* returns one"):
        _ = gradviz.draw(loss_of(), views=[forgetful]).svg


def test_views_may_come_one_by_one() -> None:
    chosen = [views.hide_bookkeeping, views.reverse_flow]
    loss = loss_of()
    one_by_one = gradviz.draw(loss, views=(each for each in chosen))  # type: ignore[arg-type]
    assert one_by_one.text == gradviz.draw(loss, views=chosen).text


def test_a_wrong_subject_says_what_to_pass() -> None:
    with pytest.raises(SubjectError, match="None"):
        gradviz.draw(loss_of().backward())
    weights.grad = None
    with pytest.raises(UsageError, match="gif"):
        gradviz.draw(loss_of()).render("gif")


def test_a_notebook_gets_an_image_with_words_for_those_who_do_not_see_it() -> None:
    drawing = gradviz.draw(loss_of())
    (tag,) = re.findall("<img [^>]*>", drawing._repr_html_())
    image = ET.fromstring(tag.replace('">', '"/>'))
    assert "2 operations" in (image.get("alt") or "")
    kind, _, data = (image.get("src") or "").partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert base64.b64decode(data).decode() == drawing.svg


def test_a_display_hook_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = gradviz.draw(loss_of())

    def fail(*_: object, **__: object) -> str:
        raise GradvizError("no <room>")

    monkeypatch.setattr("gradviz.frontends.drawing.compose", fail)
    assert "no &lt;room&gt;" in drawing._repr_html_()


def test_a_program_that_shows_no_html_gets_svg_and_latex_gets_pdf() -> None:
    drawing = gradviz.draw(loss_of())
    assert drawing._repr_svg_() == drawing.svg
    assert (drawing._repr_pdf_() or b"").startswith(b"%PDF-")


def test_without_a_pdf_there_is_no_svg_for_which_latex_would_call_inkscape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", "layered")
    drawing = gradviz.draw(loss_of())
    assert (drawing._repr_svg_(), drawing._repr_pdf_()) == (None, None)
    assert "data:image/svg+xml" in drawing._repr_html_()


def test_a_recording_whose_result_is_gone_is_drawn() -> None:
    with gradviz.record() as run:
        weights.sum().item()
    assert gradviz.draw(run).text.splitlines()[-1].startswith("1 operation")


def test_repr_counts_and_str_is_the_text() -> None:
    drawing = gradviz.draw(loss_of())
    assert repr(drawing).startswith("Drawing(GradGraph(1 result, 2 operations")
    assert str(drawing).splitlines()[0] == "result  f32[]  =  12"


def test_frames_stand_side_by_side() -> None:
    frames = [gradviz.Frame(f"step {number}", graph_of("mul_chain")) for number in range(7)]
    root = ET.fromstring(gradviz.draw(gradviz.Story(tuple(frames))).svg)
    texts = "".join(root.itertext())
    assert all(f"step {number}" in texts for number in range(7))
    assert float(root.get("width") or 0) < 1300


def test_nothing_to_draw_is_a_picture_too() -> None:
    for empty in (gradviz.Story(), gradviz.GradGraph()):
        drawing = gradviz.draw(empty)
        for format in ("svg", "txt", "mmd", "dot", "json"):
            assert drawing.render(format)


def test_import_loads_neither_torch_nor_networkx() -> None:
    program = "import sys, gradviz; print([m for m in ('torch', 'networkx') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert out.stdout.strip() == "[]"


def test_the_public_names_are_there() -> None:
    assert set(gradviz.__all__) <= set(dir(gradviz))
    for name in gradviz.__all__:
        assert getattr(gradviz, name).__doc__
    with pytest.raises(AttributeError, match="drawn"):
        _ = gradviz.drawn
