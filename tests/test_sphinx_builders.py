"""The directive in every builder: the picture where pictures are, the text where they are not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sphinx_building import build, pages, site

FRAMES = (
    "1 forward; loss f32[] = 6; ← sum f32[]; ← mul ×2; ← x f32[3] leaf = 1 1 1 .grad None; "
    "2 operations from 1 leaf to loss. x.grad is None. "
    "2 after backward 2 (x.grad +2); loss f32[] = 6; ← sum f32[]; ← mul ×2 freed; "
    "← x f32[3] leaf = 1 1 1 .grad 4 4 4 new; x.grad: new. Saved tensors are freed."
)


@pytest.mark.parametrize("builder", ["html", "dirhtml", "singlehtml", "epub"])
def test_pages_of_html(builder: str, tmp_path: Path) -> None:
    built = build(site(tmp_path, "lessons"), builder)
    name = f"index.{'xhtml' if builder == 'epub' else 'html'}"
    page = built.read(name)
    assert not built.warnings
    tags = {tag["alt"]: tag for tag in built.tags(name)}
    assert FRAMES in tags
    assert tags["y comes from w"]["style"] == "width: 50%;"
    assert {"align-center", "small"} <= set(tags["y comes from w"]["class"].split())
    assert re.search(r'<figure[^>]* id="passes">', page)
    assert '<span class="caption-text">Two <em>backward</em> passes</span>' in page
    assert re.search(r'href="[^"]*#passes"><span class="std std-ref">Two backward passes', page)
    assert "retain_graph" in page and "never to be seen" not in page
    for picture in (built.out / tag["src"] for tag in tags.values()):
        # A page of dirhtml is a folder deeper than its pictures, except the first.
        assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
        assert not re.search(r"<script|<image|href=|@import|url\(", picture.read_text())


def test_the_frames_that_were_asked_for_are_in_the_picture(tmp_path: Path) -> None:
    svg = build(site(tmp_path, "lessons")).picture("index.html")
    assert "after backward 2" in svg
    assert "after backward 1" not in svg


def test_a_picture_links_to_its_file_in_its_natural_size(tmp_path: Path) -> None:
    built = build(site(tmp_path, "lessons"), "dirhtml")
    tag = built.tags("shared/index.html")[0]
    svg = built.picture("shared/index.html")
    assert f'href="{tag["src"]}"' in built.read("shared/index.html")
    width = float(re.search(r'<svg [^>]*width="([\d.]+)"', svg)[1])  # type: ignore[index]
    assert tag["style"] == f"width: {round(width)}px;"


def test_latex_gets_pdf_files(tmp_path: Path) -> None:
    built = build(site(tmp_path, "lessons"), "latex")
    tex = built.read("lessons.tex")
    assert not built.warnings
    assert r"\caption{Two \sphinxstyleemphasis{backward} passes}" in tex
    assert r"\label{\detokenize{index:passes}}" in tex
    included = re.findall(r"\\sphinxincludegraphics(?:\[[^]]*\])?\{\{([\w-]+)\}\.pdf\}", tex)
    assert len(included) == 6
    assert r"width=0.500\linewidth" in tex
    for name in included:
        assert (built.out / f"{name}.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.latex
def test_latex_makes_a_document_with_the_pictures_in_it(tmp_path: Path) -> None:
    built = build(site(tmp_path, "lessons"), "latex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "lessons.tex"]
    for _ in range(2):  # the second time with references
        ran = subprocess.run(command, cwd=built.out, capture_output=True, check=False, timeout=120)
        assert ran.returncode == 0, ran.stdout[-2000:].decode("latin-1")
    log = (built.out / "lessons.log").read_text("latin-1")
    assert "undefined references" not in log and "Overfull \\hbox" not in log
    read = ["pdftotext", "-layout", "lessons.pdf", "-"]
    text = subprocess.run(read, cwd=built.out, capture_output=True, check=True).stdout.decode()
    said = " ".join(text.split())
    assert re.search(r"Fig\. ?\d[.\d]*: Two backward passes", said), said
    # The letters of a picture are letters in the document: they can be found and copied.
    assert "2 after backward 2 (x.grad +2)" in said
    assert "mul ×2 freed" in said


@pytest.mark.parametrize(("builder", "name"), [("text", "index.txt"), ("man", "lessons.1")])
def test_where_there_are_no_pictures_the_graph_is_text(
    builder: str, name: str, tmp_path: Path
) -> None:
    built = build(site(tmp_path, "lessons"), builder)
    page = built.read(name)
    assert not built.warnings
    assert "2  after backward 2 (x.grad +2)" in page
    assert "← mul  ×2  freed" in page
    assert re.search(r"^ *Two (\*|\\fI)backward(\*|\\fP) passes$", page, re.MULTILINE)
    assert "never to be seen" not in page


def test_gettext_collects_captions_and_runs_on(tmp_path: Path) -> None:
    built = build(site(tmp_path, "lessons"), "gettext")
    assert 'msgid "Two *backward* passes"' in built.read("index.pot")


@pytest.mark.parametrize("builder", ["xml", "pseudoxml", "texinfo", "dummy", "linkcheck"])
def test_other_builders_get_through(builder: str, tmp_path: Path) -> None:
    built = build(site(tmp_path, "lessons"), builder)
    assert (built.status, built.warnings) == (0, "")


def test_markdown_by_myst(tmp_path: Path) -> None:
    built = build(site(tmp_path, "notes"))
    page = built.read("index.html")
    assert '<span class="caption-text">From <em>Markdown</em></span>' in page
    assert 'href="#markdown"><span class="std std-ref">From Markdown' in page
    assert built.tags("index.html")[0]["alt"].startswith("end; loss f32[] = 6; ← sum")
    assert built.warnings.splitlines() == [
        f"{built.src}/broken.md:11: WARNING: ZeroDivisionError: division by zero [gradviz]",
        f"{built.src}/broken.md:17: WARNING: NameError: name 'undefined' is not defined [gradviz]",
    ]


@pytest.mark.parametrize(
    ("fmt", "said"),
    [("txt", "← mul  ×3"), ("dot", "digraph"), ("mmd", "flowchart"), ("json", "MulBackward0")],
)
def test_formats_that_are_text_are_shown_as_such(fmt: str, said: str, tmp_path: Path) -> None:
    text = f".. gradviz:: y\n   :format: {fmt}\n\n   y = torch.ones(2, requires_grad=True) * 3\n"
    built = build(pages(tmp_path / "src", index=f"Page\n====\n\n{text}"))
    plain = re.sub(r"<[^>]+>", "", built.read("index.html"))
    assert not built.warnings
    assert said in plain
    assert not built.tags("index.html")


def test_png_is_shown_at_half_its_pixels(tmp_path: Path) -> None:
    text = ".. gradviz:: y\n   :format: png\n\n   y = torch.ones(2, requires_grad=True) * 3\n"
    built = build(pages(tmp_path / "src", index=f"Page\n====\n\n{text}"))
    tag = built.tags("index.html")[0]
    png = (built.out / tag["src"]).read_bytes()
    assert tag["style"] == f"width: {int.from_bytes(png[16:20], 'big') // 2}px;"


def test_a_picture_that_does_not_fit_its_format_is_shown_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradviz.renderers.scene_files._MOST_PIXELS", 20)
    text = ".. gradviz:: y\n   :format: png\n\n   y = torch.ones(2, requires_grad=True) * 3\n"
    built = build(pages(tmp_path / "src", index=f"Page\n====\n\n{text}"))
    assert "too large for a PNG" in built.warnings and "shown as text" in built.warnings
    assert f"{built.src}/index.rst:4: WARNING" in built.warnings
    assert "← mul" in re.sub(r"<[^>]+>", "", built.read("index.html"))
