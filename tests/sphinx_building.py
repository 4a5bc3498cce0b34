"""Builds small Sphinx projects for the tests, in this process."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphinx.testing.util import SphinxTestApp

SITES = Path(__file__).with_name("sphinx_sites")
HEAD = 'project = "test"\nextensions = ["gradviz"]\n'


@dataclass
class Built:
    """A project after a build: what is in its files, and what Sphinx warned of."""

    src: Path
    out: Path
    warnings: str
    status: int

    def read(self, name: str) -> str:
        return (self.out / name).read_text(encoding="utf-8")

    def files(self, pattern: str) -> dict[str, bytes]:
        """The bytes of the files of that pattern, by their path."""
        return {
            path.relative_to(self.out).as_posix(): path.read_bytes()
            for path in sorted(self.out.rglob(pattern))
        }

    def tags(self, name: str) -> list[dict[str, str]]:
        """The attributes of the images of a page, in order."""
        found = re.findall(r"<img ([^>]*?)/?>", self.read(name))
        return [dict(re.findall(r'(\w+)="([^"]*)"', tag)) for tag in found]

    def picture(self, name: str, number: int = 0) -> str:
        """The text of the SVG that is an image of a page."""
        return (self.out / name).parent.joinpath(self.tags(name)[number]["src"]).read_text()


def site(folder: Path, name: str) -> Path:
    """A copy of one of the projects in ``sphinx_sites``."""
    return Path(shutil.copytree(SITES / name, folder / name))


def pages(folder: Path, conf: str = HEAD, **texts: str) -> Path:
    """A project of pages; ``__`` in a name means a dot; a name without one ends in .rst."""
    folder.mkdir(exist_ok=True)
    folder.joinpath("conf.py").write_text(conf, encoding="utf-8")
    for name, text in texts.items():
        file = name.replace("__", ".") if "__" in name else f"{name}.rst"
        folder.joinpath(file).write_text(text, encoding="utf-8")
    return folder


def build(src: Path, builder: str = "html", jobs: int = 1, **options: Any) -> Built:
    """Build a project; a second build uses the results of the first."""
    app = SphinxTestApp(
        builder, srcdir=src, builddir=src.parent / f"build-{src.name}", parallel=jobs, **options
    )
    try:
        app.build()
        warnings = re.sub(r"\x1b\[[\d;]*m", "", app.warning.getvalue())
        return Built(src, Path(app.outdir), warnings, app.statuscode)
    finally:
        app.cleanup()
