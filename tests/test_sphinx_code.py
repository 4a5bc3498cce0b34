"""Code on a page: what is drawn, which variables are shared, and how errors are reported."""

from __future__ import annotations

import os
import random
import re
import sys
from pathlib import Path

import pytest
import torch
from sphinx_building import HEAD, Built, build, pages, site

import gradviz

LOSS = "   w = torch.ones(2, requires_grad=True)\n   loss = (w * 3).sum()\n"


def page(folder: Path, text: str, conf: str = HEAD, **options: object) -> Built:
    return build(pages(folder / "src", conf, index=f"Page\n====\n\n{text}"), **options)


def plain(built: Built, name: str = "index.html") -> str:
    return re.sub(r"<[^>]+>", "", built.read(name))


def alts(built: Built) -> list[str]:
    return [tag["alt"] for tag in built.tags("index.html")]


def test_names_are_drawn_and_no_name_is_a_recording(tmp_path: Path) -> None:
    code = f"{LOSS}   other = w.exp().sum()\n   cut = w.detach()\n"
    built = page(
        tmp_path,
        f".. gradviz:: loss\n\n{code}\n"
        f".. gradviz:: loss, other\n   :hide-code:\n\n{code}\n"
        f".. gradviz::\n   :hide-code:\n\n{code}\n",
    )
    one, both, recorded = alts(built)
    assert not built.warnings
    assert one.startswith("loss f32[] = 6;") and "exp" not in one
    assert "loss f32[] = 6;" in both and "other f32[] = 5.437; ← sum f32[]; ← exp" in both
    assert "loss" in recorded and "exp" in recorded
    assert "line 4" in built.picture("index.html", 2)  # that of detach, in the block


@pytest.mark.parametrize("name", ["run", "run.story", "frame", "graph", "drawing"])
def test_what_the_code_recorded_itself_is_drawn_as_it_is(name: str, tmp_path: Path) -> None:
    built = page(
        tmp_path,
        f".. gradviz:: {name}\n\n"
        "   w = torch.ones(2, requires_grad=True)\n"
        "   with gradviz.record() as run:\n"
        "       loss = (w * 3).sum()\n"
        "   frame, drawing = run.frames[0], gradviz.draw(run)\n"
        "   graph = frame.graph\n",
    )
    assert not built.warnings
    assert "loss f32[] = 6; ← sum f32[]; ← mul ×3" in alts(built)[0]


def test_every_line_of_a_sentence_is_told_as_the_page_counts(tmp_path: Path) -> None:
    built = page(
        tmp_path,
        ".. gradviz:: why\n\n"
        "   w, kept = torch.ones(2, requires_grad=True), torch.zeros(2)\n"
        "   try:\n"
        "       with gradviz.record() as run:\n"
        "           for _ in range(2):\n"
        "               kept = torch.tanh(w * kept)\n"
        "               kept.sum().backward()\n"
        "   except RuntimeError as error:\n"
        "       why = gradviz.explain(error, run)\n",
    )
    assert not built.warnings
    said = " ".join(re.sub(r"<[^>]+>", " ", built.picture("index.html")).split())
    assert "whose saved tensors backward at line 6 (kept.sum().backward()) freed" in said
    assert "gradviz-block" not in said


def test_frames_of_a_recording_that_the_code_made(tmp_path: Path) -> None:
    built = page(
        tmp_path,
        ".. gradviz:: run\n   :frames: 2\n\n"
        "   w = torch.ones(2, requires_grad=True)\n"
        "   with gradviz.record() as run:\n"
        "       (w * 3).sum().backward()\n",
    )
    assert not built.warnings
    assert alts(built)[0].startswith("after backward 1 (w.grad +3)")


def test_a_frame_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    text = f".. gradviz:: loss\n   :frames: 1,3\n\n{LOSS}   loss.backward()\n"
    built = page(tmp_path, text)
    said = "there is no frame 3: the recording has 2 frames"
    assert built.warnings == f"{built.src}/index.rst:4: WARNING: {said} [gradviz]\n"
    assert len(alts(built)) == 1


def test_blocks_share_variables_only_when_they_say_so(tmp_path: Path) -> None:
    built = page(
        tmp_path,
        f".. gradviz:: loss\n   :context:\n\n{LOSS}\n"
        ".. gradviz:: twice\n   :context:\n\n   twice = loss * 2\n\n"
        ".. gradviz:: twice\n   :context:\n\n"
        ".. gradviz:: fresh\n\n   fresh = loss\n\n"
        ".. gradviz:: again\n   :context: close\n\n   again = twice\n\n"
        ".. gradviz:: closed\n   :context:\n\n   closed = twice\n\n"
        ".. gradviz:: gone\n   :context: reset\n\n   gone = closed\n",
    )
    assert [alt.split()[0] for alt in alts(built)] == ["loss", "twice", "twice", "again"]
    assert re.findall(r"NameError: name '(\w+)'", built.warnings) == ["loss", "twice", "closed"]


def test_pages_share_nothing(tmp_path: Path) -> None:
    first = f"A\n=\n\n.. gradviz:: loss\n   :context:\n\n{LOSS}   torch.set_grad_enabled(False)\n"
    second = "B\n=\n\n.. gradviz:: loss\n   :context:\n\n   loss = loss * 2\n"
    index = "I\n=\n\n.. toctree::\n\n   a\n   b\n"
    built = build(pages(tmp_path / "src", index=index, a=first, b=second))
    assert "b.rst:7: WARNING: NameError: name 'loss' is not defined" in built.warnings


def test_random_numbers_are_the_same_whatever_ran_before(tmp_path: Path) -> None:
    code = (
        "   import random\n   import numpy\n"
        "   w = torch.rand(1, requires_grad=True)\n"
        "   loss = w * random.random() * numpy.random.rand()\n"
    )
    before = torch.get_rng_state(), random.getstate()
    built = page(
        tmp_path,
        f".. gradviz:: loss\n\n{code}\n"
        ".. gradviz:: loss\n\n   torch.rand(3)\n   torch.set_default_dtype(torch.float64)\n"
        f"{code}\n"
        f".. gradviz:: loss\n\n{code}\n",
    )
    one, other, same = alts(built)
    assert one == same != other
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        ("   a = 1\n\n   loss = a / 0", 8, "ZeroDivisionError: division by zero"),
        (
            "   def f():\n       return no\n\n   loss = f()",
            7,
            "NameError: name 'no' is not defined",
        ),
        ("   loss = (", 6, "SyntaxError: '(' was never closed"),
        ("   import sys\n   sys.exit(3)", 7, "it ended by sys.exit(3)"),
        ("   los = torch.ones(1)", 4, "the code has no loss; did you mean los?"),
        ("   loss = 3", 4, "cannot draw 3 (int)"),
        ("   loss = gradviz.Story()", 4, "there is nothing to draw: autograd recorded nothing"),
    ],
)
def test_an_error_is_a_warning_with_its_line_and_a_box(
    code: str, line: int, said: str, tmp_path: Path
) -> None:
    built = page(tmp_path, f".. gradviz:: loss\n\n{code}\n\nThe rest.\n")
    start = f"{built.src}/index.rst:{line}: WARNING: {said}"
    assert built.warnings.startswith(start), built.warnings
    assert built.warnings.rstrip().endswith("[gradviz]") and built.warnings.count("\n") == 1
    box = re.search(r'<div class="admonition error">(.*?)</div>', built.read("index.html"), re.S)
    assert box and "gradviz: " in box[1]
    assert "The rest." in plain(built)


def test_a_warning_fails_a_strict_build_and_can_be_suppressed(tmp_path: Path) -> None:
    text = ".. gradviz:: loss\n\n   loss = 1 / 0\n"
    (tmp_path / "strict").mkdir()
    assert page(tmp_path / "strict", text, warningiserror=True).status == 1
    built = page(tmp_path, text, HEAD + 'suppress_warnings = ["gradviz"]\n', warningiserror=True)
    assert (built.status, built.warnings) == (0, "")
    assert "division by zero" in plain(built)


def test_lines_are_told_in_included_files_lists_and_docstrings(tmp_path: Path) -> None:
    src = pages(
        tmp_path / "src",
        HEAD.replace('"gradviz"', '"gradviz", "sphinx.ext.autodoc"')
        + "import sys\nsys.path.insert(0, '.')\n",
        index="I\n=\n\n.. include:: part.inc\n\n* one\n\n"
        "  .. gradviz:: x\n\n     x = 2\n     1 / 0\n"
        "\n.. automodule:: lesson_with_docs\n",
        part__inc="A line.\n\n.. gradviz:: x\n\n   x = 1\n   1 / 0\n",
        lesson_with_docs__py='"""Docs.\n\n.. gradviz:: x\n\n   1 / 0\n"""\n',
    )
    conf = src / "conf.py"
    conf.write_text(conf.read_text().replace("'.'", repr(str(src))))
    places = re.findall(r"^(.*): WARNING: ZeroDivisionError", build(src).warnings, re.MULTILINE)
    # docutils tells an included file as seen from the current folder.
    assert [os.path.normpath(Path.cwd() / place) for place in places] == [
        f"{src}/part.inc:6",
        f"{src}/index.rst:11",
        f"{src}/lesson_with_docs.py:docstring of lesson_with_docs:5",
    ]


def test_an_error_that_is_wanted_is_shown(tmp_path: Path) -> None:
    code = f"{LOSS}   loss.backward()\n   loss.backward()\n"
    built = page(
        tmp_path,
        f".. gradviz::\n   :raises: RuntimeError\n\n{code.replace('w * 3', 'w.exp()')}\n"
        f".. gradviz:: loss\n   :raises: RuntimeError\n\n{LOSS}\n"
        f".. gradviz:: loss\n   :raises: ValueError\n\n{LOSS}   1 / 0\n",
    )
    shown = " ".join(plain(built).split())
    assert "RuntimeError: Trying to backward through the graph a second time" in shown
    assert "after backward 1" in alts(built)[0] and len(alts(built)) == 1
    missing, other = built.warnings.splitlines()
    assert "raises says RuntimeError, and the code raised nothing" in missing
    assert "index.rst:23: WARNING: ZeroDivisionError" in other


def test_what_code_prints_and_warns_is_not_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "   import warnings\n   print('printed')\n   warnings.warn('warned')\n"
    built = page(tmp_path, f".. gradviz:: loss\n   :hide-code:\n\n{code}{LOSS}")
    assert "printed" not in plain(built) and not built.warnings
    assert capfd.readouterr() == ("", "")


def test_code_runs_in_the_folder_of_its_page_and_leaves_no_trace(tmp_path: Path) -> None:
    here, path = Path.cwd(), sys.path[:]
    text = (
        ".. gradviz:: loss\n\n"
        "   import os, sys\n   import beside_the_page\n"
        "   assert os.path.exists('index.rst') and __name__ == '__main__'\n"
        "   sys.path.append('x'); os.chdir('/')\n"
        "   loss = beside_the_page.loss\n"
    )
    beside = "import torch\nloss = torch.ones(1) * 2\n"
    index = f"Page\n====\n\n{text}"
    built = build(pages(tmp_path / "src", index=index, beside_the_page__py=beside))
    assert not built.warnings
    assert Path.cwd() == here and sys.path == path
    assert "beside_the_page" not in sys.modules


def test_the_code_before_the_code(tmp_path: Path) -> None:
    text = ".. gradviz:: loss\n\n   loss = (T.ones(2, requires_grad=True) * 3).sum()\n"
    built = page(tmp_path, text, HEAD + 'gradviz_pre_code = "import torch as T"\n')
    assert not built.warnings
    assert alts(built)[0].startswith("loss f32[] = 6; ← sum f32[]; ← mul ×3")
    (tmp_path / "bad").mkdir()
    built = page(tmp_path / "bad", text, HEAD + 'gradviz_pre_code = "import no_such"\n')
    assert "gradviz_pre_code failed: ModuleNotFoundError" in built.warnings


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (":frames: 0", ":frames: must be integers >= 1, as in 1,3,5, got '0'"),
        (":views: nonsense", "there is no view 'nonsense'; views are none, hide_bookkeeping,"),
        (":depth: 0", ":depth: must be an integer >= 1"),
        (":views: focus_on", "the view focus_on needs a target: focus_on:NAME"),
        (":views: top:3", "the view top takes no '3'"),
        (":radius: -1", ":radius: must be an integer >= 0"),
        (":color-by: red", "must be one of grad_norm, saved_bytes"),
        (":direction: up", ":direction: must be one of data, gradient"),
        (":theme: blue", '"site", "both"'),
        (":format: gif", '"svg", "png"'),
        (":context: maybe", '"reset", or "close"'),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: str, said: str, tmp_path: Path) -> None:
    built = page(tmp_path, f".. gradviz:: loss\n   {options}\n\n{LOSS}")
    assert f"{built.src}/index.rst:4: ERROR: " in built.warnings
    assert said in built.warnings


def test_views_and_depth_change_the_picture(tmp_path: Path) -> None:
    code = "   net = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 2)))\n"
    code += "   loss = net(torch.ones(1, 2)).sum()\n"
    built = page(
        tmp_path,
        "".join(
            f".. gradviz:: loss\n   :hide-code:\n   {option}\n\n{code}\n"
            for option in (":views: none", ":views: hide_bookkeeping,reverse_flow", ":depth: 1")
        ),
    )
    whole, some, deep = alts(built)
    assert not built.warnings
    assert "accumulate_grad" in whole and "accumulate_grad" not in some
    assert deep != some


NET = "   net = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(9)])\n"
NET += "   loss = net(torch.ones(1, 2)).sum()\n   loss.backward()\n"


def test_a_part_all_of_it_and_its_colours(tmp_path: Path) -> None:
    options = (
        ":focus: net.3",
        ":focus: net.3\n   :radius: 0",
        ":all:",
        ":color-by: grad_norm",
        ":color-by: grad_norm\n   :direction: gradient",
        ":views: hide_bookkeeping,only_paths_to:net.5.weight",
    )
    built = page(
        tmp_path,
        "".join(f".. gradviz:: loss\n   :hide-code:\n   {each}\n\n{NET}\n" for each in options),
    )
    assert not built.warnings
    near, alone, whole, coloured, turned, ways = [
        " ".join(re.sub(r"<[^>]+>", " ", built.picture("index.html", number)).split())
        for number in range(len(options))
    ]
    assert "in focus: net.3, and 2 steps from there" in near
    assert "in focus: net.3, and 0 steps from there" in alone
    assert whole.count("linear") > near.count("linear") > alone.count("linear") > 0
    assert "norm of .grad:" in coloured and "norm of .grad:" in turned != coloured
    assert "net.5.weight" in ways and "net.5.bias" not in ways


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (":all:\n   :depth: 1", ":depth: and :all: exclude each other: give one of them"),
        (":focus: w\n   :views: none", ":focus: and :views: exclude each other"),
        (":radius: 3", ":radius: says how much to draw around a :focus:, and there is none"),
        (":focus: v", "nothing is called 'v'; there are loss, mul, sum, w"),
    ],
)
def test_options_that_contradict_each_other_are_a_warning(
    options: str, said: str, tmp_path: Path
) -> None:
    built = page(tmp_path, f".. gradviz:: loss\n   {options}\n\n{LOSS}")
    assert built.warnings.startswith(f"{built.src}/index.rst:4: WARNING: {said}"), built.warnings
    assert built.warnings.count("\n") == 1 and not alts(built)


def test_files_are_found_from_the_page_and_from_the_top(tmp_path: Path) -> None:
    built = build(site(tmp_path, "lessons"))
    page_text = plain(built, "files.html")
    assert page_text.count("A detached twin.") == 1  # the other one hides it
    first, second = built.tags("files.html")
    assert first["alt"].startswith("1 tracked; tracked f32[] = 6;")
    assert second["alt"].startswith("tracked f32[] = 6;")
    assert "detach.py:12" in built.picture("files.html")
    assert str(tmp_path) not in built.picture("files.html")


def test_a_module_a_whole_script_and_a_saved_graph(tmp_path: Path) -> None:
    src = pages(
        tmp_path / "src",
        lesson__py="import torch\nw = torch.ones(2, requires_grad=True)\n(w * 3).sum().backward()\n"
        "loss = w.exp().sum()\n",
        index="I\n=\n\n.. gradviz:: lesson:loss\n\n"
        ".. gradviz:: lesson.py\n   :frames: 2\n\n"
        ".. gradviz:: saved.json\n   :frames: 1\n",
    )
    w = torch.ones(2, requires_grad=True)
    gradviz.draw(w.sin(), names={"w": w}).save(src / "saved.json")
    built = build(src)
    assert not built.warnings
    module, script, saved = alts(built)
    assert "← exp" in module and "lesson" not in sys.modules
    assert "after backward 1 (w.grad +3)" in script
    assert "← sin" in saved
    assert plain(built).count("(w * 3).sum().backward()") == 2


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothing.py:loss", "there is no file nothing.py"),
        ("sub/nothing.py:loss", "the folder sub does not exist"),
        ("/good.py:los", "good.py has no variable los; did you mean loss?"),
        ("bad.py:loss", "ZeroDivisionError: division by zero (bad.py:1)"),
        ("no_such_module:loss", "there is no module 'no_such_module'"),
        ("", "there is nothing to draw: give code, or a target like train.py:loss"),
    ],
)
def test_a_target_that_fails_says_why_in_a_box(target: str, said: str, tmp_path: Path) -> None:
    src = pages(
        tmp_path / "src",
        good__py="import torch\nloss = torch.ones(1)\n",
        bad__py="1 / 0\nloss = 0\n",
        index=f"I\n=\n\n.. gradviz:: {target}\n",
    )
    built = build(src)
    assert built.warnings.startswith(f"{src}/index.rst:4: WARNING: ") and said in built.warnings
    assert said.replace("'", "’")[:30] in plain(built).replace("‘", "’")
    assert os.fspath(tmp_path) not in plain(built)
