"""Graphviz may be absent, broken, slow or crash: the result is a picture or one clear line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import children
import pytest

from gradviz.errors import GradvizError, LayoutError, UsageError
from gradviz.renderers.layout.engines import (
    Output,
    engine_name,
    engines,
    lay_out,
    run_engine,
    run_graphviz,
)
from gradviz.renderers.layout.routing import Box, Link

GRAPH = "digraph { a -> b }"
DOT = pytest.param("dot", marks=pytest.mark.tool)
PINNED = (
    'digraph { a [pos="50,100"]; b [pos="50,20"]; a -> b [pos="e,50,40 50,80 50,70 50,60 50,50"] }'
)
X_TO_Y = ([Box("x", 60, 30), Box("y", 60, 30)], [Link("x", "y")])


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program of our own on PATH, alone, under the names dot and neato."""

    def install(body: str) -> Path:
        for name in ("dot", "neato"):
            script = tmp_path / name
            script.write_text(f"#!{sys.executable}\n{textwrap.dedent(body)}")
            script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return tmp_path

    monkeypatch.delenv("GRADVIZ_ENGINE", raising=False)
    return install


def gone(pid: int) -> bool:
    """Wait until a process has ended."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("engine", [DOT, "pygraphviz"])
@pytest.mark.parametrize(("format", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
@pytest.mark.parametrize(
    ("source", "program", "arguments"),
    [(GRAPH, "dot", []), (PINNED, "neato", ["-n2"]), (PINNED, "nop2", [])],
)
def test_pictures(engine, format, start, source, program, arguments, monkeypatch) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", engine)
    picture = run_graphviz(source, program=program, arguments=arguments, format=format, limit=60)
    assert picture.startswith(start)


@pytest.mark.parametrize("engine", [DOT, "pygraphviz"])
def test_pinned_places_are_kept_and_resolution_counts(engine: str) -> None:
    def draw(*arguments: str, kind: str) -> bytes:
        return run_engine(engine, PINNED, Output(kind, "neato", ("-n2", *arguments)), limit=60)

    plain = draw(kind="plain").decode().split()
    assert plain[plain.index("a") + 1 : plain.index("a") + 3] == ["0.375", "1.3611"]
    width = [
        int.from_bytes(draw(f"-Gdpi={dpi}", kind="png")[16:20], "big") for dpi in ("96", "192")
    ]
    assert abs(width[1] - 2 * width[0]) <= 2


def test_no_dot_on_path_means_the_wheel(fake) -> None:
    (fake("") / "dot").unlink()
    assert engines() == ["pygraphviz", "layered"]
    assert run_graphviz(GRAPH, format="png", limit=60).startswith(b"\x89PNG")
    assert lay_out(*X_TO_Y).engine.startswith("Graphviz of pygraphviz")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys; sys.exit('no such plugin')", "failed (exit code 1): no such plugin"),
        ("print('hello')", "gave something that is no png"),
        ("", "gave nothing"),
        ("import os; os.kill(os.getpid(), 11)", "crashed (signal 11, SIGSEGV)"),
        (
            "import sys; sys.stderr.write('Fontconfig error: none\\nreal trouble'); sys.exit(3)",
            "failed (exit code 3): real trouble",
        ),
    ],
)
def test_a_broken_dot_is_named_and_replaced(fake, body: str, said: str) -> None:
    fake(body)
    with pytest.raises(LayoutError) as error:
        run_engine("dot", GRAPH, Output("png"), limit=60)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert run_graphviz(GRAPH, format="png", limit=60).startswith(b"\x89PNG")
    assert lay_out(*X_TO_Y).engine.startswith("Graphviz of pygraphviz")


@pytest.mark.parametrize("answer", ["{", "{}", '{"objects": [], "edges": []}'])
def test_json_that_is_no_layout_is_not_believed(fake, answer: str) -> None:
    fake(f"print('''{answer}''')")
    assert lay_out(*X_TO_Y).engine.startswith("Graphviz of pygraphviz")


def test_a_file_that_cannot_run(fake) -> None:
    folder = fake("")
    (folder / "dot").write_bytes(b"\x00\x01 not a program")
    with pytest.raises(LayoutError, match="dot cannot be started"):
        run_engine("dot", GRAPH, Output("png"), limit=60)
    assert lay_out(*X_TO_Y).engine.startswith("Graphviz of pygraphviz")


HANGS = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.path.join(os.path.dirname(__file__), "pids"), "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    time.sleep(600)
"""


def test_a_dot_that_hangs_is_ended_with_what_it_started(fake) -> None:
    folder = fake(HANGS)
    with pytest.raises(LayoutError, match=r"dot took longer than 2 s"):
        run_graphviz(GRAPH, format="png", limit=2)
    for pid in (folder / "pids").read_text().split():
        assert gone(int(pid))
    layout = lay_out(*X_TO_Y, limit=0.5)
    assert layout.engine == "gradviz layered (dot took longer than 0.5 s)"
    assert set(layout.centers) == {"x", "y"}


def test_ctrl_c_ends_graphviz(fake) -> None:
    folder = fake(HANGS)
    program = (
        "from gradviz.renderers.layout.engines import run_graphviz\n"
        "run_graphviz('digraph {}', format='png', limit=600)\n"
    )
    process = children.start(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )
    pids = folder / "pids"
    while not pids.exists() or len(pids.read_text().split()) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert b"KeyboardInterrupt" in stderr
    for pid in pids.read_text().split():
        assert gone(int(pid))


def test_the_library_is_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = range(400)
    dense = "".join(f"{a} -> {a + b};" for a in nodes for b in (1, 2, 7, 40, 160, 333))
    with pytest.raises(TimeoutError, match="the Graphviz of pygraphviz took longer than 1 s"):
        run_engine("pygraphviz", f"digraph {{ {dense} }}", Output("json"), limit=1)


def test_large_input_does_not_block(fake) -> None:
    fake("import sys; sys.stdout.write('{' + sys.stdin.read())")
    source = "a" * 3_000_000
    assert len(run_engine("dot", source, Output("json"), limit=60)) == len(source) + 1
    fake("import sys; sys.stderr.write('e' * 3_000_000); print('{}')")
    assert run_engine("dot", source, Output("json"), limit=60) == b"{}\n"


@pytest.mark.parametrize("engine", [DOT, "pygraphviz"])
@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [("digraph {", "png", "syntax error"), (GRAPH, "nonsense", "nonsense")],
)
def test_what_graphviz_says_reaches_the_user(
    engine: str, source: str, kind: str, said: str
) -> None:
    with pytest.raises(GradvizError, match=said):
        run_engine(engine, source, Output(kind), limit=60)


def test_an_unknown_argument_is_refused_by_the_library() -> None:
    with pytest.raises(LayoutError, match="'-x' is not known"):
        run_engine("pygraphviz", GRAPH, Output("png", "dot", ("-x",)), limit=60)


def test_unknown_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", "fdp")
    with pytest.raises(UsageError, match="'fdp', not one of dot, pygraphviz, layered"):
        engines()


def test_no_graphviz_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GRADVIZ_ENGINE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert engines() == ["layered"]
    assert lay_out(*X_TO_Y).engine == "gradviz layered (no Graphviz)"
    with pytest.raises(LayoutError, match="pip install pygraphviz, or save as svg"):
        run_graphviz(GRAPH, format="png", limit=60)
    monkeypatch.setenv("GRADVIZ_ENGINE", "layered")
    with pytest.raises(LayoutError, match="GRADVIZ_ENGINE=layered rules it out"):
        run_graphviz(GRAPH, format="png", limit=60)


def test_engines_are_named_with_their_version() -> None:
    assert engine_name("pygraphviz").removeprefix("Graphviz of pygraphviz ")[0].isdigit()
    assert engine_name("dot").startswith("dot")
