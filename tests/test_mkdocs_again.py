"""What MkDocs builds again: nothing that is as it was."""

from __future__ import annotations

from pathlib import Path

from test_mkdocs import figures, pictures, said, scripted, site

NOTED = """
```{.gradviz draw=loss context=true}
import torch
open("log", "a").write("first ")
loss = torch.ones(2, requires_grad=True) * 2
```

```{.gradviz draw=loss context=true}
open("log", "a").write("second ")
loss = loss * 3
```

```{.gradviz file="lessons/lesson.py:loss"}
```

```{.gradviz}
open("log", "a").write("fails ")
1 / 0
```
"""


def test_what_has_not_changed_is_not_run_again(tmp_path: Path) -> None:
    log = scripted(tmp_path)

    def runs(text: str) -> tuple[str, str]:
        log.write_text("")
        return site(tmp_path, index=text)["index"], log.read_text()

    first, ran = runs(NOTED)
    assert ran == "first second script fails "
    second, ran = runs(NOTED)
    assert (figures(second), ran) == (figures(first), "fails ")  # a failure is tried again
    (tmp_path / "lessons" / "widths.py").write_text("WIDTH = 1 + 2\n")
    third, ran = runs(NOTED)
    assert ran == "script fails "
    assert 'alt="loss f32[] = 9;' in figures(third)[2]
    # Blocks that share variables with a changed block run again.
    fourth, ran = runs(NOTED.replace("loss * 3", "loss * 4"))
    assert ran == "first second fails "
    assert ["loss f32[2] = 8 8;" in each for each in figures(fourth)] == [False, True, False]
    assert (tmp_path / ".cache" / "gradviz" / ".gitignore").read_text() == "*\n"


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    log = scripted(tmp_path)
    first = site(tmp_path, index=NOTED)["index"]
    for file in (tmp_path / ".cache" / "gradviz").glob("*.json"):
        file.write_text('{"outcome": {}}')
    log.write_text("")
    assert figures(site(tmp_path, index=NOTED)["index"]) == figures(first)
    assert log.read_text() == "first second script fails "


def test_files_of_one_name_and_text_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    for folder, maths in (("one", "h.exp()"), ("other", "h.tanh()")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper.py").write_text(f"def make(h):\n    return {maths}.sum()\n")
        (tmp_path / folder / "train.py").write_text(
            "import torch\nfrom helper import make\nx = torch.ones(2, requires_grad=True)\n"
            "loss = make(x)\n"
        )
    fences = [f"```{{.gradviz file={each}/train.py:loss}}\n```\n" for each in ("one", "other")]
    one, other = map(said, pictures(site(tmp_path, index="\n".join(fences))["index"]))
    assert "exp" in one and "tanh" in other
