"""A real notebook, run by a real kernel, and what nbconvert makes of it."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import browser
import nbclient
import nbconvert
import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image, ImageColor

import gradviz
from gradviz.frontends.display import waiting
from gradviz.renderers.theme import color

CELLS = {
    "draw": """
import torch, gradviz
x = torch.tensor([1.0, 2.0], requires_grad=True)
loss = (x * 3).sum()
gradviz.draw(loss)""",
    "load": "%load_ext gradviz",
    "record": """
%%gradviz
w = torch.ones(3, requires_grad=True)
h = (w * 2).detach() + w
out = h.sum()
out.backward()
w.grad""",
    "name": """
%%gradviz out --title "one picture" --theme dark
out = (w * 3).sum()
out.backward();""",
    "fails": """
%%gradviz --into run
y = w.exp()
y.add_(1)
y.sum().backward()""",
    "explain": "gradviz.explain(run)",
    "recording": "run",
    "lines": """
with gradviz.record() as again:
    out = (w.detach() + w).sum()
print(again.events[0])""",
    "compare": "gradviz.compare(run.frames[0], run.frames[-1])",
    "check": """
x = torch.ones(2, dtype=torch.float64, requires_grad=True)
gradviz.check(lambda v: v.sin(), x)""",
    "frames": "%%gradviz --frames 2\nout = w.sum()\nout.backward()",
    "no frame": "%%gradviz --frames 7\nw.sum().backward()",
    "part": """
%%gradviz --focus net.3 --radius 0 --color-by grad_norm
net = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(9)])
net(torch.ones(1, 2)).sum().backward()""",
    "both": "%%gradviz --all --depth 1\nw.sum().backward()",
    "no name": "%%gradviz los\nout = w.sum()\nout.backward()",
    "misuse": "%%gradviz --frames one\nw.sum().backward()",
    "nothing": "%%gradviz\nnumber = 1",
    "silent": "%%gradviz\nw.sum().item();",
    "syntax": "%%gradviz\nw = = 1",
    "shape": "%%gradviz\n(w * 2).view(7)",
    "await": "%%gradviz\nimport asyncio\nawait asyncio.sleep(0)\nw.sum().backward()",
    "awaited": "import asyncio\nwith gradviz.record() as run:\n    await asyncio.sleep(0)\n"
    "    out = (w.detach() + w).sum()\nrun",
    "plain": "number",
    "summary": "gradviz.summary(net(torch.ones(1, 2)).sum(), names=net)",
    "printed": "print(gradviz.summary(net(torch.ones(1, 2)).sum(), names=net))",
    "slow": "import time\nfrom gradviz.frontends.display import waiting\n"
    "with waiting('drawing it all'): time.sleep(1.3)",
    "unload": "%unload_ext gradviz",
    "gone": "%%gradviz\nw.sum()",
}


@pytest.fixture(scope="module")
def notebook() -> Any:
    cells = [nbformat.v4.new_code_cell(code.strip()) for code in CELLS.values()]
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbclient.NotebookClient(made, allow_errors=True, timeout=120).execute()
    return made


@pytest.fixture
def outputs(notebook: Any) -> dict[str, list[Any]]:
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def plain(outputs: list[Any]) -> str:
    """All text output: results, streams, and errors without their colors."""
    parts = []
    for output in outputs:
        if output.output_type == "error":
            parts.append(re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback)))
        else:
            parts.append(output.get("text") or output.data.get("text/plain", ""))
    return "\n".join(parts)


def pictures(outputs: list[Any]) -> list[str]:
    """The SVG of each image in the HTML."""
    html = "".join(each.data.get("text/html", "") for each in outputs if "data" in each)
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    return [base64.b64decode(data).decode() for data in found]


def test_a_drawing_is_a_picture_in_every_format_that_a_reader_may_want(outputs: Any) -> None:
    data = outputs["draw"][0].data
    assert set(data) == {"text/html", "text/plain", "image/svg+xml", "application/pdf"}
    assert 'alt="2 operations from 1 leaf to loss.' in data["text/html"]
    assert pictures(outputs["draw"]) == [data["image/svg+xml"]]
    assert base64.b64decode(data["application/pdf"]).startswith(b"%PDF-")
    assert data["text/plain"].startswith("loss  f32[]  =  9\n← sum")


def test_a_recorded_cell_shows_its_moments_and_then_its_value(outputs: Any) -> None:
    drawn, value = outputs["record"]
    (picture,) = pictures([drawn])
    assert "detach" in picture
    assert "In[3]:3" in picture  # as the notebook counts: the magic command is line 1
    assert "after backward 1 (w.grad +1)" in picture
    assert (value.output_type, value.data["text/plain"]) == (
        "execute_result",
        "tensor([1., 1., 1.])",
    )


def test_a_name_draws_the_last_moment_of_that_variable(outputs: Any) -> None:
    (output,) = outputs["name"]
    (picture,) = pictures([output])
    assert "one picture" in picture
    assert "prefers-color-scheme" not in picture
    assert "freed" in output.data["text/plain"]


def test_a_cell_that_fails_shows_the_moment_and_its_own_line(outputs: Any) -> None:
    drawn, error = outputs["fails"]
    assert "add_ at In[5]:3 made it version 1" in plain([drawn])
    assert error.ename == "RuntimeError"
    said = plain([error])
    assert re.search(r"Cell In\[5\], line 4\n.*\n?.*\n?.*\n?---?-> ?4 y.sum\(\).backward\(\)", said)
    assert "torch/autograd/__init__.py" in said
    shape = plain(outputs["shape"])
    assert shape.endswith("RuntimeError: shape '[7]' is invalid for input of size 3")
    assert "gradviz/" not in said + shape


def test_answers_are_words_and_a_picture(outputs: Any) -> None:
    for name, words in (
        ("explain", "add_ at In[5]:3 (y.add_(1)) changed it afterwards"),
        ("compare", "~ exp y  problem  none"),
        ("check", "v  ok"),
    ):
        html = outputs[name][0].data["text/html"]
        assert html.startswith('<pre style="font-family:monospace">')
        assert words in html
        assert len(pictures(outputs[name])) == 1
        assert words in plain(outputs[name])
    assert len(pictures(outputs["recording"])) == 1
    assert "<pre" not in outputs["recording"][0].data["text/html"]


def test_a_summary_is_its_table(outputs: Any) -> None:
    (output,) = outputs["summary"]  # nothing else comes under the cell
    head, *rows = output.data["text/plain"].splitlines()
    assert head.split()[:5] == ["module", "output", "ops", "params", "saved"]
    assert [row.split()[1:3] for row in rows if row.startswith("total")] == [["19", "54"]]
    assert plain(outputs["printed"]) == output.data["text/plain"] + "\n"


def test_a_line_is_told_as_ipython_tells_it(outputs: Any) -> None:
    assert plain(outputs["lines"]) == "In[8]:2  detach\n"


def test_frames_are_chosen(outputs: Any) -> None:
    said = plain(outputs["frames"])
    assert said.startswith("after backward 1")
    assert "the recording has 2 frames" in plain(outputs["no frame"])


def test_a_part_is_drawn_with_its_colours(outputs: Any) -> None:
    assert "in focus: net.3, and 0 steps from there" in plain(outputs["part"])
    (picture,) = pictures(outputs["part"])
    assert "norm of .grad:" in " ".join(re.sub("<[^>]+>", " ", picture).split())


def test_a_syntax_error_is_told_as_without_the_command(outputs: Any) -> None:
    said = plain(outputs["syntax"])
    assert re.search(r"Cell In\[\d+\], line 2\n +w = = 1\n +\^\nSyntaxError: invalid syntax", said)
    assert "notebook.py" not in said and "interactiveshell" not in said


def test_who_awaits_is_told_what_to_write_and_that_records(outputs: Any) -> None:
    assert plain(outputs["await"]).strip().startswith("UsageError: %%gradviz cannot await")
    (picture,) = pictures(outputs["awaited"])
    assert "detach" in picture


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no name", "no frame of this cell shows a tensor los"),
        ("misuse", "UsageError: --frames must be integers >= 1, as in 1,3,5, got 'one'"),
        ("both", "UsageError: --depth and --all exclude each other: give one of them"),
        ("nothing", "gradviz: autograd recorded nothing in this cell"),
        ("syntax", "SyntaxError"),
        ("gone", "Cell magic `%%gradviz` not found"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(outputs: Any, name: str, said: str) -> None:
    assert said in plain(outputs[name])
    assert not pictures(outputs[name])


def test_the_notebook_goes_on_with_the_variables_of_the_cell(outputs: Any) -> None:
    assert plain(outputs["plain"]) == "1"
    assert [each.output_type for each in outputs["silent"]] == ["display_data"]


def test_who_waits_is_told_and_the_line_is_taken_away(outputs: Any, capsys: Any) -> None:
    (output,) = outputs["slow"]  # as it is at the end
    assert (output.output_type, output.data["text/plain"]) == ("display_data", "")
    with waiting("nothing"):
        pass
    assert capsys.readouterr() == ("", "")


def test_html_markdown_and_latex_hold_the_pictures(notebook: Any) -> None:
    html, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    assert html.count('<img alt="') == html.count('src="data:image/svg+xml;base64') >= 8
    assert '<body class="jp-Notebook" data-jp-theme-light="true"' in html
    assert "[data-jp-theme-light=true] .gradviz-output{color-scheme:light}" in html
    markdown, _ = nbconvert.MarkdownExporter().from_notebook_node(notebook)
    assert markdown.count('src="data:image/svg+xml;base64') >= 8
    latex, resources = nbconvert.LatexExporter().from_notebook_node(notebook)
    files = re.findall(r"\\adjustimage\{[^}]*\{[^}]*\}\{[^}]*\}\}\{(.*?\.pdf)\}", latex)
    assert len(files) >= 4
    assert all(resources["outputs"][file].startswith(b"%PDF-") for file in files)


@pytest.mark.tool
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_picture_has_the_theme_of_its_page_whatever_the_system_s(
    theme: str, notebook: Any, tmp_path: Path
) -> None:
    leaf = {name: ImageColor.getrgb(color("leaf", name)) for name in ("light", "dark")}
    exporter = nbconvert.HTMLExporter(theme=theme, exclude_input=True, exclude_output_prompt=True)
    only = nbformat.v4.new_notebook(cells=notebook.cells[:1])
    html, _ = exporter.from_notebook_node(only)
    file, shot = tmp_path / "notebook.html", tmp_path / "notebook.png"
    file.write_text(re.sub("<script.*?</script>", "", html, flags=re.DOTALL), encoding="utf-8")
    for prefers in (0, 1):  # dark, light
        scheme = f"--blink-settings=preferredColorScheme={prefers}"
        browser.run(
            tmp_path, scheme, f"--screenshot={shot}", "--window-size=600,400", file.as_uri()
        )
        found = Image.open(shot).convert("RGB").getcolors(600 * 400)
        drawn = {pixel for count, pixel in found or () if count > 500}
        assert [name for name, pixel in leaf.items() if pixel in drawn] == [theme]


def test_the_terminal_shows_text_and_lays_nothing_out() -> None:
    """IPython without a notebook: the answer's words, not the repr of a dataclass."""
    shell = InteractiveShell()
    shell.display_formatter.active_types = ["text/plain"]
    story = gradviz.Story([gradviz.Frame("before", gradviz.GradGraph())])
    explanation = gradviz.Explanation(gradviz.Verdict.FROZEN, "w", "requires_grad is False")
    for answer in (gradviz.draw(story), explanation, gradviz.Explanations((explanation,))):
        data, _ = shell.display_formatter.format(answer)
        assert data == {"text/plain": str(answer)}


def test_the_viewer_and_its_still_picture_follow_the_theme_of_the_page() -> None:
    output = gradviz.view((torch.ones(2, requires_grad=True) * 2).sum())._repr_html_()
    assert "[data-jp-theme-light=false] .gradviz-output{color-scheme:dark}" in output
    assert output.count('class="gradviz-output"') == 2
