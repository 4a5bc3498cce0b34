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


def site(folder: Path, **pages: str) -> dict[str, str]:
    """Build a site; returns its pages as HTML."""
    (folder / "docs").mkdir()
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
    assert 'alt="1 after backward 1 (w.grad +1);' in item[0]
    assert "w.grad is set" in picture


def test_an_error_that_is_wanted_is_shown_with_the_picture(lesson: str) -> None:
    assert "RuntimeError: element 0 of tensors does not require grad" in unescape(lesson)
    assert "admonition" not in lesson
    assert len(figures(lesson)) == 5


def test_an_error_is_a_box_and_a_warning_with_the_line_of_the_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mkdocs"):
        html = site(tmp_path, index="# Home", broken=BROKEN)["broken"]
    said = [record.getMessage() for record in caplog.records if record.name == "mkdocs.gradviz"]
    assert said == [
        "gradviz: broken.md:7: NameError: name 'x' is not defined",
        "gradviz: broken.md:10: there is no option 'frame'; there are draw, frames, views, depth, "
        "theme, alt, caption, raises, hide-code, context",
        "gradviz: broken.md:14: depth takes a number from 1 up; not 'no'",
        "gradviz: broken.md:18: theme cannot be 'blue': write auto, light, dark, both",
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
    assert caplog.messages == ["gradviz: NameError: name 'x' is not defined"]


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
