"""Pages of the viewer in Chromium, driven by Playwright, for the tests of the viewer."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, FloatRect, Locator, Page, sync_playwright

from gradviz import Drawing
from gradviz.viewer import script

__all__ = ["Open", "chromium", "module_page", "new_page", "opened", "place_of"]

_LIMIT = 120_000  # milliseconds for each thing that is waited for: a busy machine is no failure

Open = Callable[..., AbstractContextManager[Page]]  # a browser and a folder are known


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser of the system, without a window."""
    path = shutil.which("chromium")
    assert path, "chromium is not installed; these tests are marked 'tool'"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=_LIMIT
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def new_page(browser: Browser, path: Path | None = None, **options: Any) -> Iterator[Page]:
    """A page in a context of its own, which is closed also when the test fails.

    Args:
        browser: of the tests.
        path: what the page shows; None for an empty page.
        options: of the context.
    """
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    context.set_default_timeout(_LIMIT)
    try:
        page = context.new_page()
        if path:
            page.goto(path.as_uri())
        yield page
    finally:
        context.close()


def place_of(found: Locator) -> FloatRect:
    """Where an element is on the screen, after the picture was drawn there."""
    found.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    place = found.bounding_box()
    assert place
    return place


@contextlib.contextmanager
def opened(
    browser: Browser,
    folder: Path,
    drawing: Drawing,
    *,
    width: int = 1400,
    height: int = 900,
    hash: str = "",
    **options: Any,
) -> Iterator[Page]:
    """A page of a drawing; it fails the test when a script fails or anything is loaded.

    With the environment variable ``GRADVIZ_SCREENSHOTS``, a folder, what the page shows at the end
    of the test is kept there under the name of the test.
    """
    path = folder / "page.html"
    path.write_bytes(drawing.render("html"))
    size = {"width": width, "height": height}
    wrong: list[str] = []
    with new_page(browser, viewport=size, reduced_motion="reduce", **options) as page:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("data:", "blob:", path.as_uri()))
                else wrong.append(request.url)
            ),
        )
        page.goto(f"{path.as_uri()}{hash}")
        yield page
        if screenshots := os.environ.get("GRADVIZ_SCREENSHOTS"):
            name = os.environ.get("PYTEST_CURRENT_TEST", "page").split("::")[-1].split(" ")[0]
            page.screenshot(path=Path(screenshots, f"{name.replace('/', '-')}-{width}.png"))
    assert not wrong, wrong


@contextlib.contextmanager
def module_page(browser: Browser, name: str) -> Iterator[Page]:
    """An empty page in which what a module of the viewer exports can be called as ``it``."""
    with new_page(browser) as page:
        page.add_script_tag(content=script(name, exposed="it"))
        yield page
