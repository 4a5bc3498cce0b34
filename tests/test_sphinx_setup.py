"""The registration in Sphinx, and the error without Sphinx."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from sphinx.testing.util import SphinxTestApp
from sphinx_building import build, pages, site

import gradviz

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_SPHINX = """
import sys

class NoSphinx:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sphinx", "docutils"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoSphinx())
import torch
import gradviz
import gradviz.frontends.cli

print(gradviz.draw(torch.ones(2, requires_grad=True) * 2))
try:
    gradviz.setup(None)
except gradviz.GradvizError as error:
    print(type(error).__name__, isinstance(error, ImportError), error)
"""


def test_without_sphinx_everything_else_works_and_setup_says_what_is_missing() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_SPHINX],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "← mul  ×2" in run.stdout
    assert run.stdout.splitlines()[-1] == (
        "MissingPackageError True the gradviz directive needs Sphinx, and docutils is not "
        "installed: pip install 'gradviz[docs]'"
    )


def test_setup_is_loaded_when_it_is_asked_for() -> None:
    code = "import gradviz, sys; print('sphinx' in sys.modules, callable(gradviz.setup))"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == ["False", "True"]
    assert "setup" not in gradviz.__all__


def test_sphinx_is_told_the_version_and_that_parallel_is_safe(tmp_path: Path) -> None:
    app = SphinxTestApp("html", srcdir=pages(tmp_path / "src", index="I\n=\n"))
    try:
        extension = app.extensions["gradviz"]
        assert extension.version == gradviz.__version__
        assert extension.parallel_read_safe and extension.parallel_write_safe
    finally:
        app.cleanup()


def test_documents_keep_the_graph_and_can_be_pickled(tmp_path: Path) -> None:
    built = build(site(tmp_path, "lessons"), "dummy")
    tree = pickle.loads((built.out.parent / "doctrees" / "index.doctree").read_bytes())
    stories = [node["story"] for node in tree.findall() if node.tagname == "picture"]
    assert [story[:12] for story in stories] == ['{"gradviz": ', '{"gradviz": ']
    assert "Tensor" not in (built.out.parent / "doctrees" / "index.doctree").read_text("latin-1")
