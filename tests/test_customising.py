"""A picture changed by hand: direction, size, legend, labels, colors and a path that stands out."""

from __future__ import annotations

import io
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from click.testing import CliRunner, Result
from IPython.core.interactiveshell import InteractiveShell

import gradviz
from gradviz.__main__ import main as started
from gradviz.errors import UsageError
from gradviz.frontends.cli import cli
from gradviz.story import EventKind

AWKWARD = ['größe "1"', "a <b> & c", "🙂 ❤", "x" * 80]


def network() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    return model, model(torch.ones(2, 3)).sum()


def picture(**options: Any) -> gradviz.Drawing:
    model, loss = network()
    return gradviz.draw(loss, names=model, **options)


def centers(drawing: gradviz.Drawing) -> dict[str, tuple[float, float]]:
    """The middle of the first box of each node of the SVG."""
    found = {}
    for group in ElementTree.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}g"):
        box = group.find("{http://www.w3.org/2000/svg}rect")
        if box is not None and "-node" in group.get("class", ""):
            x, y, width, height = (
                float(box.get(name, 0)) for name in ("x", "y", "width", "height")
            )
            found[group.get("id", "").partition("-")[2]] = (x + width / 2, y + height / 2)
    return found


def test_rankdir_turns_the_flow() -> None:
    def goes_on(drawing: gradviz.Drawing, axis: int) -> bool:
        places = centers(drawing)
        return all(
            places[one][axis] < places[two][axis] for one, two in drawing.shown[0].graph.edges()
        )

    assert (goes_on(picture(), 1), goes_on(picture(), 0)) == (True, False)
    sideways = picture(rankdir="LR")
    chain = [key for key, data in sideways.shown[0].graph.nodes(data=True) if data.get("op")]
    assert len({centers(sideways)[key][0] for key in chain}) == len(chain)
    assert "rankdir=LR" in str(picture(rankdir="LR").digraph.source)
    assert "flowchart LR" in picture(rankdir="LR").render("mmd").decode()


@pytest.mark.parametrize(
    ("width", "points"),
    [("8cm", 226.77), ("80mm", 226.77), ("3in", 216.0), ("96px", 72.0), (90, 90)],
)
def test_width_is_that_of_the_picture(width: Any, points: float) -> None:
    root = ElementTree.fromstring(picture(width=width).svg)
    assert float(root.get("width", "").removesuffix("pt")) == pytest.approx(points, abs=0.01)
    assert root.get("width", "").endswith("pt")


def test_font_size_scales_the_picture() -> None:
    drawing = picture(font_size=26)
    root = ElementTree.fromstring(drawing.svg)
    box = [float(value) for value in root.get("viewBox", "").split()]
    assert float(root.get("width", "").removesuffix("pt")) == pytest.approx(2 * box[2], abs=0.02)


def test_without_a_legend() -> None:
    assert "leaf, with its .grad" in picture().svg
    assert "leaf, with its .grad" not in picture(legend=False).svg


@pytest.mark.parametrize("label", AWKWARD)
def test_labels_are_what_nodes_are_called(label: str) -> None:
    drawing = picture(labels={"0.weight": label})
    assert label[-8:] in str(drawing)
    assert "0.weight" not in str(drawing)
    assert ElementTree.fromstring(drawing.svg) is not None
    assert drawing.graph.find("0.weight")  # what was recorded stays as it is


def test_a_caption_uses_the_labels() -> None:
    w = torch.ones(2, requires_grad=True)
    loss = (w * 2).sum()
    assert str(gradviz.draw(loss, labels={"w": "weights"})).endswith("weights.grad is None.")


def test_colors_by_name_module_operation_and_code() -> None:
    svg = picture(colors={"0.weight": "green", "relu": "#f0c", "2": "orange"}).svg
    for color in ("#009e73", "#ff00cc", "#e69f00"):
        assert svg.count(f'stroke="{color}"') >= 1, color
    assert "prefers-color-scheme" in svg
    assert 'COLOR="#ff00cc"' in str(picture(colors={"relu": "#f0c"}).digraph.source)
    assert "stroke:#ff00cc" in picture(colors={"relu": "#f0c"}).render("mmd").decode()


def test_a_highlighted_tensor_stands_out_with_its_path() -> None:
    model, loss = network()
    for chosen in (model[2].bias, "2.bias", ["2.bias"]):  # type: ignore[index]
        graph = gradviz.draw(loss, names=model, highlight=chosen).shown[0].graph
        bold = [graph.nodes[key].get("op", graph.nodes[key].get("name")) for key in graph
                if graph.nodes[key].get("highlight")]  # fmt: skip
        assert sorted(bold) == ["2.bias", "linear", "loss", "sum"]
    svg = gradviz.draw(loss, names=model, highlight="2.bias").svg
    assert "highlighted: the path of the gradient to 2.bias" in svg


def test_a_highlighted_tensor_in_a_recording_and_in_a_folded_part() -> None:
    model, _ = network()
    with gradviz.record(model) as run:
        model(torch.ones(2, 3)).sum().backward()
    w = model[0].weight  # type: ignore[index]
    assert "highlighted" in gradviz.draw(run, names=model, highlight=w).svg
    torch.manual_seed(0)
    deep = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(60)))
    drawing = gradviz.draw(deep(torch.ones(1, 4)).sum(), names=deep, highlight="30.weight")
    graph = drawing.shown[0].graph
    assert "30.weight" not in {data.get("name") for _, data in graph.nodes(data=True)}
    assert any(data.get("highlight") and "members" in data for _, data in graph.nodes(data=True))


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"width": "8 apples"}, 'width must be a length such as "8cm", "3in", "400px" or 300'),
    ({"width": 0}, "width must be a length"),
    ({"width": "8cm", "font_size": 9}, "width and font_size exclude each other"),
    ({"font_size": -1}, "font_size must be a number > 0, got -1"),
    ({"rankdir": "RL"}, "rankdir must be one of TB, LR, got 'RL'"),
    ({"legend": 0}, "legend must be True or False, got 0"),
    ({"labels": ["w"]}, "labels must be a dict of strings"),
    ({"labels": {"nope": "x"}}, "nothing is called 'nope'; there are"),
    ({"colors": {"relu": "reddish"}}, "a color must be #rrggbb or one of black, gray"),
    ({"colors": {"nope": "red"}}, "nothing is called 'nope'"),
    ({"highlight": 3}, "highlight must be a tensor, the name of one, or a list of them, got 3"),
    ({"highlight": "0.wieght"}, "nothing is called '0.wieght'; there are 0.weight"),
    ({"events": "cats"}, "events must be few, all, or kinds of events: operation, cut"),
    ({"views": [gradviz.views.focus_on]}, "the view focus_on needs a target"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), FAULTS)
def test_a_wrong_value_is_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        assert picture(**options).svg
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def _loss() -> torch.Tensor:
    return (torch.ones(2, requires_grad=True) * 2).sum()


def _closed() -> io.BytesIO:
    file = io.BytesIO()
    file.close()
    return file


MISUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "draw None": (lambda: gradviz.draw(None), "cannot draw None: pass the loss"),
    "save to a number": (
        lambda: picture().save(5),  # type: ignore[call-overload]
        "path must be a path or a file object, got 5",
    ),
    "save to a folder": (lambda: picture().save("."), "it is a folder; give a file in it"),
    "save as another format": (
        lambda: picture().save("x.svg", format="png"),
        "the suffix of x.svg is of another format than 'png'",
    ),
    "save to a closed file": (
        lambda: picture().save(_closed(), format="svg"),
        "cannot write bytes to",
    ),
    "compare numbers": (lambda: gradviz.compare(5, 6), "cannot compare 5 (int)"),
    "compare a module": (
        lambda: gradviz.compare(_loss(), torch.nn.Linear(1, 1)),
        "a Linear (a module): pass its output",
    ),
    "compare nothing": (
        lambda: gradviz.compare(_loss(), gradviz.record()),
        "the recording has no frame yet",
    ),
    "memory of a module": (
        lambda: gradviz.memory(torch.nn.Linear(1, 1)),
        "pass its output: memory(model(x), names=model)",
    ),
    "check a number": (lambda: gradviz.check(5), "fn must be a function of tensors, got 5"),
    "a story of numbers": (
        lambda: gradviz.Story([5]),  # type: ignore[list-item]
        "each frame of a story must be a gradviz.Frame, got 5",
    ),
    "gather a tensor": (lambda: gradviz.gather(torch.ones(9, 9)), "got tensor([[1., 1., 1.,"),
    "find": (lambda: gradviz.trace(_loss()).find("nope"), "no node is called 'nope'"),
}


@pytest.mark.parametrize("case", MISUSED)
def test_misuse_is_one_line(case: str) -> None:
    call, said = MISUSED[case]
    with pytest.raises(gradviz.GradvizError) as caught:
        call()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ctrl_c_while_the_command_line_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gradviz.frontends.cli.main", stopped)
    with pytest.raises(SystemExit) as ended:
        started()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\ngradviz: stopped\n"


def test_an_empty_story_says_so() -> None:
    drawing = gradviz.draw(gradviz.Story())
    assert "There is nothing to draw." in str(drawing)
    assert "There is nothing to draw." in drawing.svg
    assert "There is nothing to draw." in drawing.html


def test_an_error_is_explained_with_a_recording_that_was_never_entered() -> None:
    answer = gradviz.explain(RuntimeError("element 0 of tensors"), gradviz.record())
    assert str(answer) == str(gradviz.explain(RuntimeError("element 0 of tensors")))


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        ({"rankdir": "LR"}, "txt"),
        ({"width": "8cm"}, "mmd"),
        ({"transparent": True}, "html"),
        ({"depth": 1}, "json"),
        ({"events": "all"}, "svg"),
        ({"theme": "dark"}, "txt"),
    ],
)
def test_an_option_without_effect_is_refused(
    options: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    (name,) = options
    with pytest.raises(UsageError, match=f"^{name} has no effect on {suffix}: it is for "):
        picture(**options).save(tmp_path / f"x.{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_picture_goes_to_a_file_object() -> None:
    file = io.BytesIO()
    assert picture().save(file, format="svg") is file
    assert file.getvalue() == picture().render("svg")
    with pytest.raises(UsageError, match="a file object needs a format"):
        picture().save(io.BytesIO())
    with pytest.raises(UsageError, match="format must be one of svg, png"):
        picture().save(io.BytesIO(), format="wav")
    with pytest.raises(UsageError, match="open in mode 'wb'"):
        picture().save(io.StringIO(), format="svg")  # type: ignore[call-overload]


def test_eps_is_postscript(tmp_path: Path) -> None:
    data = picture(labels={"relu": "größe →"}).save(tmp_path / "x.eps").read_bytes()
    assert data.startswith(b"%!PS-Adobe")


def test_show_opens_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    picture().show()
    picture(rankdir="LR").show()
    picture(transparent=True).show()
    assert [url.rpartition(".")[2] for url in opened] == ["html", "html", "svg"]
    assert all(Path(url.removeprefix("file://")).exists() for url in opened)
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    with pytest.raises(gradviz.GradvizError, match="there is no browser to show"):
        picture().show()


PROGRAM = """
import torch
w = torch.ones(2, requires_grad=True)
for _ in range(3):
    loss = (w * 3).relu().sum()
    loss.backward()
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(PROGRAM)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_the_shell_has_the_same_names(program: Path) -> None:
    result = run(
        *("draw", "train.py:loss", "-o", "x.svg", "--rankdir", "LR", "--width", "8cm"),
        *("--labels", "w=weights,relu=activation", "--colors", "w=red", "--highlight", "w"),
        *("--no-legend",),
    )
    assert result.exit_code == 0, result.output
    svg = Path("x.svg").read_text()
    assert 'width="226.77pt"' in svg
    for text in ("weights", "activation", "#d55e00"):
        assert text in svg
    assert "leaf, with its .grad" not in svg


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--labels", "w"), "--labels must be like NAME=LABEL,..., got 'w'"),
        (("--font-size", "big"), "--font-size must be a number > 0, got 'big'"),
        (("--width", "wide"), "--width must be a length"),
        (("--no-legend", "-o", "x.mmd"), "--no-legend has no effect on mmd: it is for svg"),
        (("--highlight", "q", "-o", "x.svg"), "nothing is called 'q'; there are"),
    ],
)
def test_misuse_in_the_shell_is_one_line(program: Path, words: tuple[str, ...], said: str) -> None:
    result = run("draw", "train.py:loss", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list(Path().glob("x.*"))


def test_events_are_told_once_all_or_by_kind(program: Path) -> None:
    few = run("record", "train.py").stdout
    assert "3 times:\n│ train.py:5  mul, relu, loss = sum\n" in few
    assert "+3, pass 1 … +3, pass 3" in few
    assert "(16 events; --events all lists each)" in few
    everything = run("record", "train.py", "--events", "all").stdout
    assert everything.count("train.py:5  mul\n") == 3
    kinds = run("record", "train.py", "--events", "backward").stdout
    assert kinds.startswith("train.py:6  loss  backward\ntrain.py:6  loss  backward\n")
    assert "mul, " not in kinds
    with gradviz.record() as story:
        exec(compile(PROGRAM, str(program / "train.py"), "exec"), {})
    text = gradviz.draw(story, events=EventKind.BACKWARD.value).text
    assert text.count("backward\n") == 3


MODULES = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
for _ in range(4):
    for _ in range(2):
        net(torch.ones(1, 3)).sum().backward()
    for p in net.parameters():
        p.grad = None
"""


def test_initialization_is_one_line_and_loops_are_nested(program: Path) -> None:
    Path("train.py").write_text(MODULES)
    few = run("record", "train.py").stdout
    names = "net.0.weight, net.0.bias, net.1.weight, net.1.bias"
    assert f"train.py:4  4 parameters initialized: {names}\n" in few
    assert "4 times:\n│ 2 times:\n│ │ train.py:7  " in few


def test_a_saved_recording_is_taken_by_every_command(program: Path) -> None:
    assert run("record", "train.py", "-o", "größe 'a' 🙂.json").exit_code == 0
    Path("größe 'a' 🙂.json").rename("story.json")
    live = run("explain", "train.py:w", "--full")
    saved = run("explain", "story.json:w")
    assert live.stdout == saved.stdout
    assert "accumulated" in saved.stdout
    assert run("explain", "story.json").stdout.startswith("w  accumulated")
    assert run("explain", "story.json", "-o", "why.svg").exit_code == 0
    second = run("draw", "story.json", "--frames", "2")
    assert second.stdout.startswith("after backward 1")
    compared = run("compare", "story.json", "story.json", "--frames", "1,2")
    assert "w  .grad  None → 3 3" in compared.stdout
    assert run("summary", "story.json", "--frames", "1").exit_code == 0
    assert run("memory", "story.json").exit_code == 0
    for words, code, said in (
        (("draw", "story.json", "--frames", "99"), 2, "--frames asks for 99; the recording has"),
        (("compare", "story.json", "story.json"), 2, "frames, and one is compared: choose one"),
        (("explain", "story.json:nope"), 2, "nothing is called 'nope'; there are w"),
        (("draw", "train.py:loss", "--frames", "2"), 2, "--frames is for a recording"),
    ):
        result = run(*words)
        assert (result.exit_code, said in result.stderr) == (code, True), result.output


def test_a_graph_without_answers_says_so(program: Path) -> None:
    assert run("draw", "train.py:loss", "-o", "graph.json").exit_code == 0
    result = run("explain", "graph.json")
    assert result.exit_code == 2
    assert "graph.json has no answers in it: explain the program, or record it" in result.stderr


def test_tables_are_written_as_csv_and_json(program: Path) -> None:
    result = run("summary", "train.py:loss", "-o", "x.csv", "-o", "x.json", "-o", "-")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("module")
    assert Path("x.csv").read_text().splitlines()[0].startswith("module,ops,parameters,saved_bytes")
    assert '"module": "total"' in Path("x.json").read_text()
    assert run("memory", "train.py:loss", "-o", "m.csv").exit_code == 0
    assert Path("m.csv").read_text().startswith("tensor,bytes,what,name,source,module,savers\n")
    wrong = run("summary", "train.py:loss", "-o", "x.svg")
    assert wrong.exit_code == 2
    assert "is none of .txt .csv .json" in wrong.stderr


def test_format_is_for_outputs_without_a_suffix(program: Path) -> None:
    result = run("draw", "train.py:loss", "-o", "x.svg", "-o", "-", "--format", "txt")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("loss  f32[]")
    assert Path("x.svg").exists()
    wrong = run("draw", "train.py:loss", "-o", "x.svg", "--format", "txt")
    assert (wrong.exit_code, "x.svg is svg by its suffix" in wrong.stderr) == (2, True)


def test_compare_takes_modules(program: Path) -> None:
    Path("other.py").write_text(PROGRAM.replace("relu", "sin"))
    result = run("compare", "-m", "train:loss", "other:loss")
    assert result.exit_code == 0, result.output
    assert "sin" in result.stdout


def test_a_line_draws_a_variable_and_a_cell_runs_a_file(
    program: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "gradviz")
    assert shell.run_cell("%%gradviz\n%run train.py").success
    assert "after backward 3 (w.grad +3)" in capfd.readouterr().out
    assert shell.run_cell("%gradviz loss --labels w=weights").success
    assert "weights" in capfd.readouterr().out
    for line, said in (
        ("%gradviz", "needs the name of a variable"),
        ("%gradviz nope", "there is no nope"),
        ("%gradviz loss --width wide", "--width must be a length"),
    ):
        shell.run_cell(line)
        out, err = capfd.readouterr()
        assert said in out + err, line
