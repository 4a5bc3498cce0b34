"""The claims of docs/reference/security.md."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from children import start
from click.testing import CliRunner

import gradviz
from gradviz import serialize
from gradviz.errors import DamagedFileError, TargetError
from gradviz.frontends.cli import cli
from gradviz.frontends.files import FORMATS
from gradviz.frontends.target import parse_target

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a\x1b[2J\x1b]0;title\x07b",
    "]]>&amp;<!--",
    'x"; n0 -> n1 [label="',
    "{{7*7}} ${7*7} `touch x` $(touch x)",
    "`]:::click call alert()",
    "two words\nline 🔥 é",
    "\ud800",
)


class _Page(HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [name for name, _ in attrs]


def _drawing(names: tuple[str, ...], title: str) -> gradviz.Drawing:
    tensors = [torch.ones(2, requires_grad=True) for _ in names]
    loss = torch.stack(tensors).sum()
    loss.backward()
    return gradviz.draw(loss, names=dict(zip(names, tensors, strict=True)), title=title)


PLAIN = tuple(f"name{number}" for number in range(len(HOSTILE)))


@pytest.fixture(scope="module")
def drawings() -> tuple[gradviz.Drawing, gradviz.Drawing]:
    """The same picture with hostile names and with plain ones."""
    return _drawing(HOSTILE, HOSTILE[0]), _drawing(PLAIN, "title")


Drawings = tuple[gradviz.Drawing, gradviz.Drawing]


def test_names_add_no_element_to_an_svg(drawings: Drawings) -> None:
    hostile, plain = (ET.fromstring(each.svg) for each in drawings)
    assert {each.tag for each in hostile.iter()} == {each.tag for each in plain.iter()}
    used = {name for each in hostile.iter() for name in each.attrib}
    assert used == {name for each in plain.iter() for name in each.attrib}
    assert not any(name.startswith("on") for name in used)


def test_names_add_no_element_to_a_page(drawings: Drawings) -> None:
    pages = []
    for each in drawings:
        page = _Page()
        page.feed(each.html)
        pages.append(page)
    hostile, plain = pages
    assert hostile.elements.count("script") == plain.elements.count("script")
    assert set(hostile.elements) == set(plain.elements)
    assert set(hostile.attributes) == set(plain.attributes)
    assert not any(name.startswith("on") for name in hostile.attributes)


def test_a_page_may_fetch_nothing(drawings: Drawings) -> None:
    page = drawings[0].html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and "default-src 'none'" in policy[1]
    assert not re.search(r'(?:src|href)="?https?:', page)


def test_names_are_quoted_in_dot(drawings: Drawings) -> None:
    counts = [each.render("dot").decode().count(" -> ") for each in drawings]
    nodes = [re.findall(r"^\s*(n\d+) \[", each.dot.source, re.MULTILINE) for each in drawings]
    assert nodes[0] == nodes[1]
    assert counts[0] <= counts[1] + 2  # the text of the name itself


def test_names_are_quoted_in_mermaid(drawings: Drawings) -> None:
    text = drawings[0].render("mmd").decode()
    assert "<script" not in text and "<img" not in text and "`]:::click" not in text


def test_control_characters_do_not_reach_a_terminal(drawings: Drawings) -> None:
    text = drawings[0].text + drawings[0].terminal_text(80)
    assert not [char for char in text if ord(char) < 32 and char != "\n"]


def test_json_is_read_back_as_the_same_text(drawings: Drawings) -> None:
    text = drawings[0].render("json").decode("utf-8", "surrogatepass")
    names = [row.get("name") for row in json.loads(text)["frames"][0]["nodes"]]
    assert {*HOSTILE[:-1]} <= {*names}


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_run_nothing_in_any_format(
    drawings: Drawings, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    drawings[0].save(f"picture.{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == [f"picture.{suffix}"]


def test_tables_quote_names(drawings: Drawings, tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_bytes(drawings[0].render("json"))
    target = str(tmp_path / "table.csv")
    result = CliRunner().invoke(cli, ["memory", str(tmp_path / "graph.json"), "-o", target])
    assert result.exit_code == 0, result.output
    rows = list(csv.reader(io.StringIO(Path(target).read_text(encoding="utf-8"))))
    assert len({len(row) for row in rows}) == 1


# What is read.


def _story(**changes: object) -> str:
    node = {"id": "n0", "kind": "leaf", "shape": [2], **changes}
    frame = {"title": "", "graph": {}, "nodes": [node], "edges": []}
    return json.dumps({"gradviz": 2, "title": "", "frames": [frame]})


@pytest.mark.parametrize(
    "text",
    [
        _story(shape=["__import__('os').system('touch x')"]),
        _story(id=["n0"], shape=[None]),
        _story(version=10**400),
        _story(level="1e999", grad=[]),
        _story(shape=[1e999]).replace("Infinity", "1e999"),
        _story(saved=[["a", 0, [1], "float32", 0]]),
        _story(options="text"),
        "[" * 200_000,
        '{"a":' * 200_000,
        _story().replace('"shape": [2]', '"shape": ' + "[" * 200_000),
        _story().replace("2]", "9" * 5_000 + "]"),
        json.dumps({"gradviz": 2, "title": "", "frames": [], "ranks": [{"rank": "0"}]}),
        json.dumps({"gradviz": 2, "title": "", "frames": [], "ranks": [{"rank": 0, "state": 3}]}),
        json.dumps({"gradviz": 2, "title": "", "frames": [], "verdicts": [{"verdict": []}]}),
        json.dumps({"gradviz": 2, "title": "", "frames": {"a": 1}}),
    ],
    ids=range(15),
)
def test_hostile_json_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(DamagedFileError) as caught:
        serialize.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert time.process_time() - began < 20
    result = CliRunner().invoke(cli, ["draw", str(path)])
    assert result.exit_code == 1 and result.output.count("\n") == 1


def test_ranks_that_point_nowhere_are_drawn() -> None:
    text = json.loads(_story())
    text["ranks"] = [
        {"rank": -5, "state": "gathered", "frame": 99, "absent": ["n7"]},
        {"rank": 10**9, "state": "gathered", "tensors": [{"node": "n8"}], "frame": 0},
        {"rank": 10**9, "state": "no answer"},
    ]
    story = serialize.loads(json.dumps(text))
    assert gradviz.draw(story).svg and gradviz.draw(story).html


def test_a_saved_graph_runs_nothing_and_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(_story(name="__import__('os')"), encoding="utf-8")
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    code = "import sys, gradviz.frontends.cli as cli; sys.argv[1:] = ['draw', 'graph.json']"
    code += "; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "torch was imported" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "__import__('os').system('touch x')",
        "loss; import os",
        "(lambda: 0)()",
        "x[open('y').read()]",
        "x if y else z",
        "f'{x}'",
        "x := 3",
        "a" + "[0" * 5_000,
        "(" * 5_000,
        "\x00",
    ],
)
def test_a_target_is_a_name_and_no_program(name: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(f"train.py:{name}")
    assert str(caught.value)


def test_a_program_is_run_by_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("raise SystemExit('the program ran')")
    CliRunner().invoke(cli, ["draw", "train.py:__import__('os').system('touch x')"])
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


# What is written.

_WRITER = """
import sys
from gradviz.frontends.files import write_atomically
print("ready", flush=True)
while True:
    for letter in (b"a", b"b"):
        write_atomically(sys.argv[1], (letter * 65_536 for _ in range(64)))
"""


def test_kill_9_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "gráph 1.json"
    for number in range(4):
        writer = start([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.05 + 0.013 * number)  # in the middle of some write
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=60)
        data = path.read_bytes()
        assert (len(data), len(set(data))) == (64 * 65_536, 1)
