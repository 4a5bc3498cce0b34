"""The gallery: every worked example drawn, on a page that needs nothing but itself."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gradviz.errors import OutputError
from gradviz.frontends import gallery
from gradviz.frontends.gallery import Lesson, draw_gallery, page

SIDES = ("width", "height")

GOOD = '''"""What is 1 < 2?

The `first` paragraph, with x & y.

The second.
"""

import torch

text = f"a {1 + 1} <b>"  # a comment
x = torch.ones(2, requires_grad=True)
loss = x.sum()
print("prints <this>", loss.item())
'''

FRAMES = '''"""A story of two frames."""
import torch
import gradviz

x = torch.ones(2, requires_grad=True)
loss = x.sum()
story = gradviz.Story((gradviz.Frame("one", gradviz.trace(loss)),
                       gradviz.Frame("two", gradviz.trace(loss * 2))))
'''


class Page(HTMLParser):
    """What a page holds: its tags, what it refers to, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.images, self.ids, self.open, self.words = [], [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.links += [found["href"]] if "href" in found else []
        self.images += [found] if tag == "img" else []
        self.ids += [found["id"]] if "id" in found else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """Lets the gallery draw these sources, by name, instead of the worked examples."""

    def use(**sources):
        folder = tmp_path / "sources"
        folder.mkdir(exist_ok=True)
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(source)
        monkeypatch.setattr(
            gallery, "_examples", lambda: [folder / f"{name}.py" for name in sources]
        )

    return use


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    said = []
    failures = draw_gallery(str(folder), said.append)
    return folder, said, failures


def test_every_worked_example_is_drawn(real):
    folder, said, failures = real
    assert failures == []
    names = [path.stem for path in gallery._examples()]
    assert len(names) >= 9
    files = {"index.html"} | {f"{name}.{kind}" for name in names for kind in ("svg", "txt")}
    pages = {path.name for path in folder.glob("*.html")} - {"index.html"}
    assert {"five_ways.html", "repeated_backward.html"} <= pages
    assert "first_backward.html" not in pages
    assert {path.name for path in folder.iterdir()} == files | pages
    assert [line.split()[0] for line in said[:-1]] == names
    assert all(re.search(r"\d+ x \d+$", line) for line in said[:-1])
    assert said[-1] == f"the page: {folder / 'index.html'}"


def test_the_page_shows_each_and_needs_nothing_else(real):
    folder, _, _ = real
    html = (folder / "index.html").read_text()
    found = Page(html)
    names = [path.stem for path in gallery._examples()]
    assert found.open == []
    assert [image["src"] for image in found.images] == [f"{n}.svg" for n in (names[0], *names)]
    assert all(len(image["alt"]) > 20 for image in found.images)
    assert set(found.ids) == set(names)
    inside = {f"#{name}" for name in names} | {f"{name}.svg" for name in names}
    pages = {path.name for path in folder.glob("*.html")} - {"index.html"}
    assert set(found.links) == inside | pages
    assert "script" not in found.tags
    assert "//" not in re.sub(r"xmlns\S+", "", html.split("<body>")[0])


def test_the_first_picture_is_on_top_and_fits_a_screen(real):
    folder, _, _ = real
    html = (folder / "index.html").read_text()
    front = html[: html.index("<nav")]
    assert [image["src"] for image in Page(front).images] == ["five_ways.svg"]
    picture = (folder / "five_ways.svg").read_text()
    width, height = (float(re.search(rf'{side}="([\d.]+)', picture)[1]) for side in SIDES)
    assert width <= 1_100 and height <= 1_000
    assert "five_ways.py:" in picture
    assert "/five_ways.py" not in picture


def test_a_story_can_be_stepped_through(examples, tmp_path):
    examples(frames=FRAMES, good=GOOD)
    draw_gallery(str(tmp_path / "out"))
    links = Page((tmp_path / "out" / "index.html").read_text()).links
    assert "frames.html" in links
    assert "good.html" not in links
    steps = (tmp_path / "out" / "frames.html").read_text()
    assert "<h1>A story of two frames</h1>" in steps
    assert steps.count("<figure") == 2
    assert not (tmp_path / "out" / "good.html").exists()


def test_the_working_folder_is_as_it_was(examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples(bad="1 / 0", good=GOOD)
    draw_gallery("out")
    assert Path.cwd() == tmp_path
    assert (tmp_path / "out" / "good.svg").exists()


def test_a_lesson_is_title_text_code_output_and_picture(examples, tmp_path):
    examples(good=GOOD)
    assert draw_gallery(str(tmp_path / "out")) == []
    html = (tmp_path / "out" / "index.html").read_text()
    words = "".join(Page(html).words)
    assert "What is 1 < 2?" in words
    assert "<p>The <code>first</code> paragraph, with x &amp; y.</p>\n<p>The second.</p>" in html
    code = GOOD.split('"""')[2].strip()
    assert code in words
    assert (
        '<span class="kn">import</span><span class="w"> </span><span class="nn">torch</span>'
        in html
    )
    assert '<span class="c1"># a comment</span>' in html
    assert "prints <this> 2.0" in words
    assert (tmp_path / "out" / "good.svg").read_text().startswith("<svg ")
    assert (tmp_path / "out" / "good.txt").read_text() in words


def test_a_story_is_preferred_and_told_in_the_alternative_text(examples, tmp_path):
    examples(frames=FRAMES)
    draw_gallery(str(tmp_path / "out"))
    image = Page((tmp_path / "out" / "index.html").read_text()).images[-1]
    assert image["alt"].startswith("one: 1 operation from 1 leaf to loss.")
    assert "two: 2 operations" in image["alt"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("1 / 0", r"bad: the example failed: ZeroDivisionError: division by zero \(.*bad\.py:1\)"),
        ("x = (", r"bad: .*bad\.py:1 is not valid Python"),
        ("x = 1", "bad: the example defines neither story nor loss"),
        ("loss = None", "bad: .*None"),
    ],
)
def test_an_example_that_fails_is_told_and_the_others_are_drawn(examples, tmp_path, bad, said):
    examples(bad=bad, good=GOOD)
    (failure,) = draw_gallery(str(tmp_path / "out"))
    assert re.match(said, failure)
    assert "\n" not in failure
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["good.svg", "good.txt", "index.html"]


def test_the_folder_is_made_and_what_else_is_in_it_stays(examples, tmp_path):
    examples(good=GOOD)
    out = tmp_path / "deep" / "out"
    draw_gallery(str(out))
    (out / "mine.txt").write_text("mine")
    first = (out / "index.html").read_bytes()
    draw_gallery(str(out))
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "index.html").read_bytes() == first
    assert len(list(out.iterdir())) == 4


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="it is a file, not a folder"):
        draw_gallery(str(tmp_path / "out"))
    with pytest.raises(OutputError, match="cannot make the folder"):
        draw_gallery(str(tmp_path / "out" / "deeper"))


def test_ctrl_c_in_an_example_stops_the_gallery(examples, tmp_path):
    examples(good=GOOD, stop="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        draw_gallery(str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.svg", "good.txt"]


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b'<svg xmlns="x" width="90pt" height="60.5pt">', (120.0, 60.5 * 4 / 3)),
        (b'<svg\n width="90"\n height="60px">', (90.0, 60.0)),
        (b"<svg>", (600.0, 600.0)),
    ],
)
def test_the_size_is_read_off_the_picture(head, size):
    lesson = Lesson("a", "A", "", "", "", head, "", "")
    assert lesson.size == pytest.approx(size)


def test_titles_with_quotes_and_tags_do_not_break_the_page():
    lesson = Lesson("a", "A \"<b>\" & 'c'", "", "x = 1\n", "", b"<svg>", "</pre>", '"<i>')
    found = Page(page([lesson]))
    assert found.open == []
    assert "b" not in found.tags
    assert found.images[0]["alt"] == '"<i>'
