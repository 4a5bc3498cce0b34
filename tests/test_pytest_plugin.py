"""The fixture ``gradviz_snapshot``, used as a user's tests use it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: F401

import gradviz.frontends.pytest_plugin
import gradviz.recording.api  # noqa: F401

pytest_plugins = ["pytester"]

# The imports above are for pytester, which forgets what a test imports: torch cannot be imported
# twice in a process, and classes of a gradviz imported twice are not the same.

# By its module, whether the installed gradviz brings the entry point or not.
PLUGIN = ("-p", "no:gradviz", "-p", "gradviz.frontends.pytest_plugin", "-p", "no:cacheprovider")

KINDS = ("python", "text")

TEST = """
import torch

def test_loss(gradviz_snapshot):
    w = torch.randn(3, requires_grad=True)
    h = (w * 2).exp()
    loss = h.sum()
    gradviz_snapshot(loss)
"""


def run(pytester: pytest.Pytester, *arguments: str) -> Any:
    return pytester.runpytest_inprocess(*PLUGIN, *arguments)


def snapshots(pytester: pytest.Pytester) -> dict[str, str]:
    folder = pytester.path / "__gradviz__"
    return {path.name: path.read_text() for path in sorted(folder.glob("*"))}


def test_a_missing_snapshot_fails_and_says_how_to_write_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_model=TEST)
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*gradviz_snapshot(loss)",
            "*there is no snapshot __gradviz__/test_model.test_loss.txt",
            "*pytest --gradviz-update writes it*",
        ]
    )
    assert not (pytester.path / "__gradviz__").exists()


def test_written_once_it_passes_whatever_the_numbers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_model=TEST)
    result = run(pytester, "--gradviz-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*gradviz snapshots written*", "*test_model.test_loss.txt"])
    assert snapshots(pytester) == {
        "test_model.test_loss.txt": "loss  f32[]\n← sum  f32[]\n← exp  h\n← mul  ×2\n"
        "← w  f32[3]  leaf  .grad  None\n"
    }
    run(pytester).assert_outcomes(passed=1)
    pytester.makepyfile(test_model="# a line more\n" + TEST)
    run(pytester).assert_outcomes(passed=1)


def test_a_change_of_the_graph_fails_with_a_diff_and_can_be_accepted(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_model=TEST)
    run(pytester, "--gradviz-update")
    pytester.makepyfile(test_model=TEST.replace(".exp()", ".detach() + w"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*the graph has changed since its snapshot was written:",
            "*--- __gradviz__/test_model.test_loss.txt",
            "*+++ now",
            "*-← exp  h",
            "*-← mul  ×2",
            "*+← add  with a constant  h",
            "*(pytest --gradviz-update accepts the graph as it is now)",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")
    run(pytester, "--gradviz-update").assert_outcomes(passed=1)
    run(pytester).assert_outcomes(passed=1)


def test_several_in_a_test_are_numbered_or_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_model="""
        import pytest, torch

        w = torch.ones(3, requires_grad=True)

        class TestAll:
            @pytest.mark.parametrize("word", ["exp", "a/b"])
            def test_it(self, gradviz_snapshot, word):
                gradviz_snapshot(w.sum())
                gradviz_snapshot(w.sum(), name="second one")
                gradviz_snapshot(w.sum(), w.exp())
        """
    )
    run(pytester, "--gradviz-update").assert_outcomes(passed=2)
    names = [name.partition("-")[0] for name in snapshots(pytester)]
    assert len(snapshots(pytester)) == 6
    assert {
        "test_model.TestAll.test_it[exp].txt",
        "test_model.TestAll.test_it[exp].3.txt",
        "test_model.TestAll.test_it[exp].second",
        "test_model.TestAll.test_it[a",
    } == set(names)
    run(pytester).assert_outcomes(passed=2)


def test_numbers_count_when_they_are_asked_for(pytester: pytest.Pytester) -> None:
    test = TEST.replace("torch.randn(3", "torch.tensor([1.0, 2.0]")
    test = test.replace("snapshot(loss)", "snapshot(loss, values=True, names={'weight': w})")
    pytester.makepyfile(test_model=test)
    run(pytester, "--gradviz-update").assert_outcomes(passed=1)
    assert "weight  f32[2]  leaf  now  1 2" in snapshots(pytester)["test_model.test_loss.txt"]
    pytester.makepyfile(test_model=test.replace("1.0", "1.5"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*+← weight  f32[[]2]  leaf  now  1.5 2*"])


def test_a_gradient_that_is_there_is_told_without_its_numbers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_model="""
        import gradviz, torch

        def test_run(gradviz_snapshot):
            w = torch.randn(3, requires_grad=True)
            with gradviz.record() as run:
                loss = (w.detach() * w).sum()
                loss.backward()
            gradviz_snapshot(run)
        """
    )
    run(pytester, "--gradviz-update").assert_outcomes(passed=1)
    text = snapshots(pytester)["test_model.test_run.txt"]
    assert "1  forward" in text
    assert "2  after backward 1\n" in text
    assert "w  f32[3]  leaf  .grad  set" in text
    assert "(cut: detach)" in text
    run(pytester).assert_outcomes(passed=1)


def test_a_name_cannot_be_used_twice_and_a_wrong_subject_says_so(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_model="""
        import torch

        def test_twice(gradviz_snapshot):
            w = torch.ones(3, requires_grad=True)
            gradviz_snapshot(w, name="a")
            gradviz_snapshot(w, name="a")

        def test_nothing(gradviz_snapshot):
            gradviz_snapshot(None)
        """
    )
    result = run(pytester, "--gradviz-update")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*this test has a snapshot 'a' already: give another name", "*SubjectError*None*"]
    )


def test_a_snapshot_of_a_large_graph_leaves_nothing_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_model="""
        import torch

        def test_deep(gradviz_snapshot):
            x = torch.ones(3, requires_grad=True)
            y = x
            for _ in range(1000):
                y = y.sin()
            gradviz_snapshot(y)
        """
    )
    run(pytester, "--gradviz-update").assert_outcomes(passed=1)
    assert snapshots(pytester)["test_model.test_deep.txt"].count("← sin") == 1000


def test_views_are_the_user_s_choice(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_model=TEST.replace("snapshot(loss)", "snapshot(loss, views=())"))
    run(pytester, "--gradviz-update").assert_outcomes(passed=1)
    assert "accumulate_grad" in snapshots(pytester)["test_model.test_loss.txt"]


def test_two_processes_write_and_compare(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_model=TEST)
    for arguments in (["--gradviz-update"], ["-n", "1"]):
        result = pytester.runpytest_subprocess(*PLUGIN, *arguments)
        result.assert_outcomes(passed=1)


def test_pytest_starts_without_torch() -> None:
    code = (
        "import sys, gradviz.frontends.pytest_plugin; "
        "print([name for name in ('torch', 'networkx', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_how_to_page_tells_what_is_written(pytester: pytest.Pytester) -> None:
    page = (Path(__file__).parent.parent / "docs" / "howto" / "snapshots.md").read_text()
    code, text = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in KINDS)
    pytester.makepyfile(test_model=code)
    run(pytester, "--gradviz-update").assert_outcomes(passed=1)
    name, _, told = text.partition("\n")
    assert snapshots(pytester) == {name.rpartition("/")[2]: told}


def test_setup_names_the_plugin() -> None:
    """What pip installs as an entry point is a plugin that pytest can load."""
    setup = (Path(__file__).parent.parent / "setup.cfg").read_text()
    assert "pytest11 =\n    gradviz = gradviz.frontends.pytest_plugin\n" in setup
