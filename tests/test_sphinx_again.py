"""Building again: what has not changed is neither run nor drawn, and what has is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sphinx_building import HEAD, Built, build, pages, site

from gradviz.frontends.drawing import Drawing

BLOCK = """
.. gradviz:: loss
   :caption: number {number}
   :context:

   open({log!r}, "a").write("{number} ")
   x = torch.rand(3, requires_grad=True)
   loss = (x * {number}).sum()
"""


def forty(folder: Path) -> tuple[Path, Path]:
    """A site of 40 directives on ten pages, and the file in which each says that it ran."""
    log = folder / "ran.txt"
    texts = {}
    for page in range(10):
        blocks = "".join(
            BLOCK.format(number=4 * page + each, log=os.fspath(log)) for each in range(4)
        )
        texts[f"page{page}"] = f"Page {page}\n======\n{blocks}"
    index = "Index\n=====\n\n.. toctree::\n   :glob:\n\n   page*\n"
    return pages(folder / "src", index=index, **texts), log


def what_a_reader_gets(built: Built) -> dict[str, bytes]:
    return built.files("*.html") | built.files("*.svg") | built.files("*.js")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The formats of what is drawn, in order."""
    formats: list[str] = []
    render = Drawing.render

    def counted(self: Drawing, format: str) -> bytes:
        formats.append(format)
        return render(self, format)

    monkeypatch.setattr(Drawing, "render", counted)
    return formats


def test_a_second_build_runs_and_draws_nothing(tmp_path: Path, drawn: list[str]) -> None:
    src, log = forty(tmp_path)
    first = build(src)
    assert not first.warnings
    assert sorted(map(int, log.read_text().split())) == list(range(40))
    assert drawn.count("svg") == 40
    before = what_a_reader_gets(first)
    second = build(src)
    assert len(log.read_text().split()) == 40
    assert drawn.count("svg") == 40
    assert what_a_reader_gets(second) == before


def test_another_builder_runs_nothing_and_draws_nothing_twice(
    tmp_path: Path, drawn: list[str]
) -> None:
    src, log = forty(tmp_path)
    build(src)
    build(src, "dirhtml")
    assert (len(log.read_text().split()), drawn.count("svg")) == (40, 40)


def test_other_words_on_a_page_run_its_code_and_draw_nothing(
    tmp_path: Path, drawn: list[str]
) -> None:
    src, log = forty(tmp_path)
    before = build(src).files("*.svg")
    page = src / "page3.rst"
    page.write_text(page.read_text() + "\nMore.\n")
    assert build(src).files("*.svg") == before
    assert log.read_text().split()[40:] == ["12", "13", "14", "15"]
    assert drawn.count("svg") == 40


def test_two_jobs_give_the_same_bytes_as_one(tmp_path: Path) -> None:
    src, log = forty(tmp_path)
    made = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        # In a process of its own: this one may have threads of torch, which do not survive a fork.
        command = [sys.executable, "-m", "sphinx", "-W", "-q", "-j", str(jobs), "-b", "html"]
        subprocess.run([*command, src, out], check=True, timeout=120)
        made.append(what_a_reader_gets(Built(src, out, "", 0)))
    assert sorted(map(int, log.read_text().split())) == sorted([*range(40), *range(40)])
    assert len(made[0]) > 50
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [("detach.py", "1.0, 2.0", "1.0, 5.0", "= 12;"), ("helper.py", "x * 2", "x * 7", "mul ×7")],
)
def test_a_file_that_changed_is_run_again(
    name: str, old: str, new: str, said: str, tmp_path: Path
) -> None:
    src = site(tmp_path, "lessons")
    before = build(src)
    path = src / "examples" / name
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
    after = build(src)
    assert before.files("index.html") == after.files("index.html")
    for tag in after.tags("files.html"):
        assert said in tag["alt"]


def test_a_page_that_failed_is_tried_again(tmp_path: Path) -> None:
    wanted = tmp_path / "data.txt"
    code = f"loss = torch.ones(len(open({str(wanted)!r}).read()))"
    src = pages(tmp_path / "src", index=f"Page\n====\n\n.. gradviz:: loss\n\n   {code}\n")
    assert "FileNotFoundError" in build(src).warnings
    assert "FileNotFoundError" in build(src).warnings
    wanted.write_text("four")
    built = build(src)
    assert not built.warnings
    assert built.tags("index.html")[0]["alt"].startswith("loss f32[4]")


def test_another_version_of_torch_reads_everything_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src, log = forty(tmp_path)
    build(src)
    monkeypatch.setattr("gradviz.frontends.pages.__version__", "99")
    build(src)
    assert len(log.read_text().split()) == 80


def test_builds_in_one_process_share_nothing(tmp_path: Path) -> None:
    modules = set(sys.modules)
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        src = pages(
            tmp_path / str(number) / "src",
            HEAD,
            index="I\n=\n\n.. gradviz:: lesson.py:loss\n",
            lesson__py="from part import loss\n",
            part__py=f"import torch\nloss = torch.ones({number}, requires_grad=True) * 2\n",
        )
        alt = build(src).tags("index.html")[0]["alt"]
        assert alt.startswith(f"loss f32[{number}]")
    assert not {"part", "lesson"} & (set(sys.modules) - modules)
