"""A site built by MkDocs, with fences that are run and drawn."""

from __future__ import annotations

import base64
import logging
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html import unescape
from pathlib import Path
from typing import Any

import markdown
import pytest
import torch
from mkdocs.commands.build import build
from mkdocs.config import load_config

import gradviz

CONFIG = """
site_name: lessons
theme: {name: mkdocs}
markdown_extensions:
  - attr_list
  - pymdownx.superfences:
      custom_fences:
        - name: gradviz
          class: gradviz
          format: !!python/name:gradviz.markdown_fence
          validator: !!python/name:gradviz.markdown_options
"""

LESSON = """# Lesson

```gradviz
import torch
x = torch.ones(3, requires_grad=True)
loss = (x * 2).sum()
loss.backward()
```

```{.gradviz .wide draw=loss context=true caption="One <loss>" alt="a loss" #first}
import torch
x = torch.ones(3, requires_grad=True)
loss = (x * 2).sum()
```

```gradviz draw="loss" context="true" hide_code="true" theme="both"
loss = loss + x.detach().sum()
```

- in a list

    ```{.gradviz frames=2 hide-code=true}
    import torch
    w = torch.ones(2, requires_grad=True)
    w.sum().backward()
    ```

```{.gradviz raises=RuntimeError}
import torch
loss = torch.ones(2).sum()
loss.backward()
```
"""

BROKEN = """---
title: Broken
---

```gradviz
import torch
y = x + 1
```

```{.gradviz frame=1}
w = 1
```

```{.gradviz depth=no}
w = 2
```

> ```gradviz theme="blue"
> w = 3
> ```

```{.gradviz frames="1,9"}
import torch
w = torch.ones(2, requires_grad=True)
w.sum().backward()
```

```python
"as it was"
```
"""


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as a warning or worse: other tests may have made mkdocs say more."""
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def site(folder: Path, **pages: str) -> dict[str, str]:
    """Build a site; returns its pages as HTML."""
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "mkdocs.yml").write_text(CONFIG)
    for name, text in pages.items():
        (folder / "docs" / f"{name}.md").write_text(text)
    build(load_config(str(folder / "mkdocs.yml")))
    return {
        name: (folder / "site" / ("" if name == "index" else name) / "index.html").read_text()
        for name in pages
    }


def figures(html: str) -> list[str]:
    return re.findall(r"<figure.*?</figure>", html, re.DOTALL)


def pictures(html: str) -> list[str]:
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"#]+)', html)
    return [base64.b64decode(data).decode() for data in found]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: Any) -> str:
    return site(tmp_path_factory.mktemp("lesson"), index=LESSON)["index"]


def test_code_is_shown_and_its_recording_drawn(lesson: str) -> None:
    recorded = figures(lesson)[0]
    (picture,) = pictures(recorded)
    assert "after backward 1 (x.grad +2)" in "".join(ET.fromstring(picture).itertext())
    assert 'alt="1 forward; loss f32[] = 6; ← sum f32[];' in recorded
    before = lesson[: lesson.index(recorded)]
    assert (
        '<span class="n">loss</span><span class="o">.</span><span class="n">backward</span>'
        in (before[before.rindex('<div class="highlight">') :])
    )


def test_options_reach_the_figure(lesson: str) -> None:
    figure = figures(lesson)[1]
    assert figure.startswith('<figure class="gradviz wide" id="first"><img alt="a loss" ')
    assert "<figcaption>One &lt;loss&gt;</figcaption>" in figure
    assert len(pictures(figure)) == 1


def test_blocks_share_variables_when_they_say_so_and_code_can_be_hidden(lesson: str) -> None:
    light, dark = pictures(figures(lesson)[2])
    assert "= 9" in "".join(ET.fromstring(light).itertext()).replace("=9", "= 9")
    assert ('fill="#ffffff"' in light, 'fill="#0d1117"' in dark) == (True, True)
    assert re.findall(r"#only-\w+", figures(lesson)[2]) == ["#only-light", "#only-dark"]
    assert "detach" not in re.sub("<[^>]+>", "", lesson)


def test_a_fence_in_a_list_and_one_frame_of_two(lesson: str) -> None:
    item = re.findall(r"<li>\s*<p>in a list</p>.*?</li>", lesson, re.DOTALL)
    (picture,) = pictures(item[0])
    assert 'alt="after backward 1 (w.grad +1);' in item[0]
    assert "w.grad is set" in picture


def test_an_error_that_is_wanted_is_shown_with_the_picture(lesson: str) -> None:
    assert "RuntimeError: element 0 of tensors does not require grad" in unescape(lesson)
    assert "admonition" not in lesson
    assert len(figures(lesson)) == 5


SCRIPT = """import torch
from widths import WIDTH

open("../log", "a").write("script ")
w = torch.ones(WIDTH, requires_grad=True)
loss = (w * 3).sum()
loss.backward()
"""


def scripted(folder: Path) -> Path:
    """A project with a script beside its docs; returns where it notes its runs."""
    (folder / "lessons").mkdir()
    (folder / "lessons" / "lesson.py").write_text(SCRIPT)
    (folder / "lessons" / "widths.py").write_text("WIDTH = 2\n")
    return folder / "log"


def said(picture: str) -> str:
    return " ".join("".join(ET.fromstring(picture).itertext()).split())


def test_a_file_is_run_in_its_own_folder_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scripted(tmp_path)
    x = torch.ones(2, requires_grad=True)
    gradviz.draw(x.sin(), names={"x": x}).save(tmp_path / "docs.json")
    monkeypatch.chdir("/")
    text = """
```gradviz file="lessons/lesson.py:loss"
```

```{.gradviz file=lessons/lesson.py frames=2 hide-code=true}
```

```{.gradviz file="docs.json"}
```
"""
    html = site(tmp_path, index=text)["index"]
    assert not warnings_in(caplog)
    named, recorded, saved = figures(html)
    assert 'alt="loss f32[] = 6; ← sum f32[]; ← mul' in named
    assert 'alt="after backward 1 (w.grad +3);' in recorded
    assert "← sin" in saved
    assert html.count('<div class="highlight">') == 1
    assert "WIDTH" in html and str(tmp_path) not in html


@pytest.mark.parametrize(
    ("fence", "reason"),
    [
        ('file="no.py:loss"\n', "there is no file no.py"),
        ('file="lessons/lesson.py:los"\n', "lesson.py has no variable los; did you mean loss?"),
        ('file="x.py"\nw = 1\n', 'there is code on the page, and file="x.py" names another'),
        ('file="x.py" draw="w"\n', 'draw is for code on the page, not for a file: write file="x'),
        ('file="x.py" context="true"\n', "context is for code on the page, not for a file"),
        ('all="true" depth="2"\nw = 1\n', "depth and all exclude each other: give one of them"),
        ('radius="2"\nw = 1\n', "radius says how much to draw around a focus, and there is none"),
        ('color_by="red"\nw = 1\n', "color-by must be one of grad_norm, saved_bytes,"),
    ],
)
def test_what_contradicts_itself_is_a_box_and_nothing_runs(
    fence: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scripted(tmp_path)
    html = site(tmp_path, index=f"# Home\n\n```gradviz {fence}```\n")["index"]
    (warned,) = warnings_in(caplog)
    assert warned.startswith(f"gradviz: index.md:3: {reason}")
    assert reason in unescape(html) and not figures(html)


def test_a_part_and_its_colours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = """import torch
net = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(9)])
loss = net(torch.ones(1, 2)).sum()
loss.backward()
"""
    options = ("focus=net.3 radius=0", "all", "color-by=grad_norm", "direction=gradient")
    fences = [f"```{{.gradviz draw=loss {each}}}\n{code}```\n" for each in options]
    html = site(tmp_path, index="\n".join(fences))["index"]
    assert not warnings_in(caplog)
    part, whole, coloured, _ = map(said, pictures(html))
    assert "in focus: net.3, and 0 steps from there" in part
    assert whole.count("linear") > part.count("linear")
    assert "norm of .grad:" in coloured


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("all=0", "all must be true or false, got '0'"),
        ("hide-code=no", "hide-code must be one of true, false, got 'no'"),
        ("color-by=dtype colour-by=device", "colour-by is the old name of color-by: write one"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: str, said: str
) -> None:
    site(tmp_path, index=f"```{{.gradviz {options}}}\nx = 1\n```\n")
    assert any(said in message for message in warnings_in(caplog))


def test_an_error_is_a_box_and_a_warning_with_the_line_of_the_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mkdocs"):
        html = site(tmp_path, index="# Home", broken=BROKEN)["broken"]
    told = [record.getMessage() for record in caplog.records if record.name == "mkdocs.gradviz"]
    assert told == [
        "gradviz: broken.md:7: NameError: name 'x' is not defined",
        "gradviz: broken.md:10: there is no option 'frame'; options are draw, file, frames, "
        "raises, views, depth, focus, radius, all, color-by, direction, rankdir, width, font-size, "
        "legend, labels, colors, highlight, events, title, transparent, theme, alt, caption, "
        "hide-code, context, interactive",
        "gradviz: broken.md:14: depth must be an integer >= 1, got 'no'",
        "gradviz: broken.md:18: theme must be one of auto, light, dark, both, got 'blue'",
        "gradviz: broken.md:22: there is no frame 9: the recording has 2 frames",
    ]
    assert html.count('<div class="admonition danger">') == 4
    assert "NameError: name &#x27;x&#x27; is not defined (line 2)</p>" in html
    assert len(pictures(html)) == 1
    assert "as it was" in html


def test_strict_fails_on_an_error(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text(CONFIG)
    (tmp_path / "docs" / "index.md").write_text("```gradviz\n1 +\n```\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "index.md:2: SyntaxError: invalid syntax" in done.stderr


def test_markdown_alone_forgets_a_page_when_it_is_reset(caplog: pytest.LogCaptureFixture) -> None:
    fence = {
        "name": "gradviz",
        "class": "gradviz",
        "format": gradviz.markdown_fence,  # type: ignore[attr-defined]
        "validator": gradviz.markdown_options,  # type: ignore[attr-defined]
    }
    md = markdown.Markdown(
        extensions=["pymdownx.superfences"],
        extension_configs={"pymdownx.superfences": {"custom_fences": [fence]}},
    )
    first = '```gradviz draw="x" context="true"\nimport torch\nx = torch.ones(1)\n```'
    again = '```gradviz draw="x" context="true"\nx = x + 1\n```'
    assert len(pictures(md.convert(first))) == 1
    assert len(pictures(md.convert(again))) == 1
    md.reset()
    assert not pictures(md.convert(again))
    assert warnings_in(caplog) == ["gradviz: NameError: name 'x' is not defined"]


def test_the_how_to_page_does_what_it_says(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "howto" / "mkdocs.md").read_text()
    config = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]
    example = re.findall(r"````markdown\n(.*?)````", page, re.DOTALL)[0]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(example)
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\n{config}")
    build(load_config(str(tmp_path / "mkdocs.yml"), strict=True))
    html = (tmp_path / "site" / "index.html").read_text()
    assert len(figures(html)) == 2
    assert "<figcaption>One operation</figcaption>" in html
    assert html.count('<div class="highlight">') == 1
