"""What the tests share: the golden files, and a graph for each program of the case table."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from processes import starting

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from viewing import Open

# A busy machine is no failure, and CI tries the same programs every time.
settings.register_profile("gradviz", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("gradviz")

# Projects that tests copy and build: pages and scripts of their own, not tests.
collect_ignore_glob = ["sphinx_sites/*"]
collect_ignore = [] if torch.cuda.is_available() else ["test_gpu.py"]

GOLDEN = Path(__file__).with_name("golden")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is drawn now")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a process."""
    for item in items:
        if isinstance(item, pytest.Function) and item.originalname in starting(item.path):
            item.add_marker("process")


@pytest.fixture(autouse=True)
def distributions_check_their_arguments() -> None:
    """`torch.compile` switches these checks off for the whole process."""
    torch.distributions.Distribution.set_default_validate_args(True)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)`` fails with a diff when ``text`` is not what the file holds."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"there is no golden file {name}: run pytest --update-golden and read it")
        expected = path.read_text(encoding="utf-8")
        diff = difflib.unified_diff(
            expected.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm=""
        )
        if expected != text:
            pytest.fail("\n".join(diff) + "\n(pytest --update-golden accepts what is drawn now)")

    return check


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    import viewing

    with viewing.chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Open:
    """``with opened(drawing) as page:`` shows the page of a drawing."""
    import viewing

    return partial(viewing.opened, browser, tmp_path)
