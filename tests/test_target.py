"""From ``train.py:loss`` to the tensor: all successful cases, and all errors."""

import multiprocessing
import os
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from gradviz.errors import ScriptError, TargetError
from gradviz.frontends.cli import cli
from gradviz.frontends.program import run_script
from gradviz.frontends.target import Target, load_target, parse_target


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Writes train.py in an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write(source, name="train.py"):
        Path(name).write_text(textwrap.dedent(source))
        return name

    return write


def load(text, argv=()):
    return load_target(parse_target(text), argv)


@pytest.mark.parametrize(
    ("text", "place", "names"),
    [
        ("train.py:loss", "train.py", ("loss",)),
        ("train.py:loss,aux", "train.py", ("loss", "aux")),
        ("train.py: loss , aux", "train.py", ("loss", "aux")),
        ("train.py:model.loss", "train.py", ("model.loss",)),
        ('train.py:out["a:b,c"]', "train.py", ("out['a:b,c']",)),
        ("train.py:losses[-1].grad", "train.py", ("losses[-1].grad",)),
        ("train.py:grid[0, 1]", "train.py", ("grid[0, 1]",)),
        ("train.py", "train.py", ()),
        ("train.py:", "train.py", ()),
        ("a:b/x.v2.PY:loss", "a:b/x.v2.PY", ("loss",)),
        (r"C:\x.py:loss", r"C:\x.py", ("loss",)),
        (r"C:\x.py", r"C:\x.py", ()),
        ("package.module:loss", "package.module", ("loss",)),
        ("package", "package", ()),
        ("out/graph.json", "out/graph.json", ()),
        ("train.py:größe", "train.py", ("größe",)),
    ],
)
def test_a_target_is_a_place_and_names(text, place, names):
    assert parse_target(text) == Target(place, names)


@pytest.mark.parametrize(
    "names",
    [
        "f(x)",
        "x + 1",
        "x[i]",
        "x[0:2]",
        "[x]",
        "*x",
        "3.0",
        "x)",
        "(",
        "x y",
        "import os",
        "x(",
    ],
)
def test_only_names_attributes_and_constants_are_read(names):
    with pytest.raises(TargetError, match=r"a name is like loss, main\.loss"):
        parse_target(f"train.py:{names}")


def test_a_saved_graph_has_no_names():
    with pytest.raises(TargetError, match=r"graph\.json is a saved graph and is taken whole"):
        parse_target("graph.json:loss")


def test_values_are_taken_by_name_attribute_and_index(script):
    script("""
        class model: loss = 1
        out = {"a": 2, ("b", 3): 4}
        rows = [[5, 6]]
    """)
    found = load("train.py:model.loss,out['a'],out['b', 3],rows[0][-1]")
    assert found.values == (1, 2, 4, 6)
    assert found.failure is None
    assert found.run.namespace["rows"] == [[5, 6]]


@pytest.mark.parametrize("name", ["run", "story", "drawing"])
def test_what_a_script_recorded_or_drew_is_taken_as_it_is(script, name):
    source = """
        import gradviz, torch
        w = torch.ones(2, requires_grad=True)
        with gradviz.record() as run:
            (w * 3).sum().backward()
        story, drawing = run.story, gradviz.draw(run)
        """
    traced = load(f"{script(source)}:{name}").traced()
    assert [frame.title for frame in traced] == ["forward", "after backward 1 (w.grad +3)"]


def test_a_script_runs_as_python_would_run_it(script):
    Path("deep").mkdir()
    script("helped = 'by a neighbour'", "deep/neighbour.py")
    script(
        """
        import os, pickle, sys, inspect
        from neighbour import helped
        class Thing: pass
        done = []
        if __name__ == "__main__":
            done.append("main block")
        argv, path, file, spec = sys.argv, sys.path[0], __file__, __spec__
        thing = pickle.loads(pickle.dumps(Thing()))
        source = inspect.getsource(Thing)
        cwd = os.getcwd()
        """,
        "deep/train.py",
    )
    got = load("deep/train.py:done", ["--epochs", "3"]).run.namespace
    assert got["done"] == ["main block"]
    assert got["argv"] == ["deep/train.py", "--epochs", "3"]
    assert got["path"] == os.path.realpath("deep")
    assert got["file"] == str(Path("deep/train.py").absolute())
    assert got["spec"] is None
    assert got["cwd"] == str(Path.cwd())
    assert got["source"] == "class Thing: pass\n"


@pytest.mark.parametrize(
    "ending", ["", "raise ValueError", "sys.exit(3)", "raise KeyboardInterrupt"]
)
def test_the_interpreter_is_as_it_was_afterwards(script, ending):
    script(f"""
        import os, sys
        sys.argv.append("more"); sys.path.append("more"); os.chdir("/")
        sys.stdout = sys.stdin = None
        loss = 1
        {ending}
    """)

    def look():
        return (
            sys.argv[:],
            sys.path[:],
            sys.modules["__main__"],
            Path.cwd(),
            sys.stdout,
            sys.stdin,
        )

    before = look()
    if "Interrupt" in ending:
        with pytest.raises(KeyboardInterrupt):
            load("train.py:loss")
    else:
        load("train.py:loss")
    assert look() == before


def test_the_script_does_not_inherit_our_future_imports(script):
    script("def f(x: int): ...\nkind = type(f.__annotations__['x'])")
    assert load("train.py:kind").values == (type,)


def test_processes_that_the_script_spawns_find_its_functions(script):
    script("""
        import multiprocessing

        def double(queue):
            queue.put(42)

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            child = context.Process(target=double, args=(queue,))
            child.start()
            answer = queue.get(timeout=60)
            child.join()
    """)
    assert load("train.py:answer").values == (42,)
    assert multiprocessing.active_children() == []


def test_a_module_is_found_from_the_current_folder(script, monkeypatch):
    Path("pack_t").mkdir()
    script("", "pack_t/__init__.py")
    script("import sys\nloss = 7\nargv = sys.argv[1:]", "pack_t/mod.py")
    found = load("pack_t.mod:loss,argv", ["a"])
    assert found.values == (7, ["a"])
    script("late = 0\nloss = 8\nlate = 1 / 0", "pack_t/broken.py")
    broken = load("pack_t.broken:loss")
    assert broken.values == (8,)
    assert "ZeroDivisionError: division by zero" in (broken.failure or "")
    assert "pack_t.broken" not in sys.modules
    for name in [name for name in sys.modules if name.startswith("pack_t")]:
        monkeypatch.delitem(sys.modules, name)


FAULTS = [
    # source, target, error, what the message says
    ("x = 1", "trian.py:x", TargetError, r"no file trian\.py; did you mean train\.py\?"),
    ("x = 1", "no/train.py:x", TargetError, "the folder no does not exist"),
    ("x = 1", "folder.py:x", TargetError, r"folder\.py is a folder; give a script in it"),
    ("x = 1", "folder:x", TargetError, "folder is a folder and no module"),
    ("x = 1", "./folder:x", TargetError, r"\./folder is a folder; give a script in it"),
    ("x = 1", "notes.txt:x", TargetError, r"notes\.txt is no Python file: a script ends in \.py"),
    (
        "x = 1",
        "notes.ipynb:x",
        TargetError,
        r"in a notebook, write gradviz\.draw\(loss\) in a cell",
    ),
    (
        "x = 1",
        "no_such.module:x",
        TargetError,
        r"no module 'no_such\.module'.*no_such/module\.py:loss",
    ),
    ("x = 1", "os.nothing:x", TargetError, r"no module 'os\.nothing'"),
    ("x = 1", "a b:x", TargetError, "a target is like train.py:loss"),
    ("", "train.py:loss", TargetError, r"train\.py has no variable loss$"),
    (
        "x = (1",
        "train.py:x",
        ScriptError,
        r"train\.py:1 is not valid Python: '\(' was never closed",
    ),
    ("loss = 1", "train.py:los", TargetError, r"train\.py has no variable los; did you mean"),
    ("1 / 0\nloss = 1", "train.py:los", TargetError, r"no variable los; did you mean loss\?"),
    ("from os.path import *", "train.py:los", TargetError, r"train\.py has no los: it defines no"),
    ("exec('lost = 1')", "train.py:los", TargetError, r"train\.py has no los; did you mean lost"),
    (
        "loss = 1",
        "train.py:loss.z",
        TargetError,
        r"cannot read loss\.z .*AttributeError.* of type int",
    ),
    ("o = {}", "train.py:o['k']", TargetError, r"cannot read o\['k'\] in train\.py: KeyError: 'k'"),
    ("o = [1]", "train.py:o[1]", TargetError, "IndexError: list index out of range"),
    (
        "def train():\n    loss = 1",
        "train.py:loss",
        TargetError,
        r"train\.py ran to its end, and loss never had a value in train \(train\.py:1\)",
    ),
    (
        "def one():\n    loss = 1\ndef two(loss):\n    pass",
        "train.py:loss",
        TargetError,
        r"train\.py has several variables loss: one\.loss \(train\.py:2\), two\.loss "
        r"\(train\.py:3\); choose one: gradviz draw train\.py:one\.loss",
    ),
    (
        "def one():\n    loss = 1",
        "train.py:one",
        TargetError,
        r"one is a function \(train\.py:1\); its variables are loss: gradviz draw train\.py:one",
    ),
    ("def f():\n    x = 1", "train.py:f.y", TargetError, r"f in train\.py has no variable y"),
    ("x = 1\n\n\n", "train.py:3", TargetError, r"line 3 of train\.py assigns no variable; the"),
    (
        "def step():\n    1 / 0\nstep()\nloss = 1",
        "train.py:loss",
        ScriptError,
        r"train\.py did not get as far as loss: ZeroDivisionError: division by zero "
        r"\(train\.py:2, in step\)$",
    ),
    (
        "raise ValueError('a\\nb')\nloss = 1",
        "train.py:loss",
        ScriptError,
        r"ValueError: a\nb \(train\.py:1\)",
    ),
    (
        "class E(BaseException): pass\nraise E\nloss = 1",
        "train.py:loss",
        ScriptError,
        r"E \(train\.py:2\)",
    ),
    (
        "import json\njson.loads('{')\nloss = 1",
        "train.py:loss",
        ScriptError,
        r"Expecting .* \(train\.py:2\)",
    ),
    (
        "import sys\nsys.exit()\nloss = 1",
        "train.py:loss",
        ScriptError,
        r"sys\.exit\(\) \(train\.py:2\)",
    ),
    (
        "import sys\nsys.exit('no')\nloss = 1",
        "train.py:loss",
        ScriptError,
        r"ended by sys\.exit\('no'\)",
    ),
    (
        "import broken\nloss = 1",
        "train.py:loss",
        ScriptError,
        r"SyntaxError: .* \(broken\.py:1\) \(train\.py:1\)",
    ),
    (
        "import nowhere_at_all\nloss = 1",
        "train.py:loss",
        ScriptError,
        "No module named 'nowhere_at_all'",
    ),
    ("1 / 0", "train.py", ScriptError, r"train\.py failed: ZeroDivisionError"),
    ("x = 1", "broken:x", ScriptError, r"SyntaxError: .* \(broken\.py:1\)"),
    (
        "x = 1",
        "train.py",
        TargetError,
        "there is nothing in train.py to draw: it defines no tensors",
    ),
]


@pytest.mark.parametrize(("source", "target", "error", "said"), FAULTS)
def test_every_fault_is_one_clear_line(script, source, target, error, said):
    script(source)
    Path("folder").mkdir()
    Path("folder.py").mkdir()
    for name in ("notes.txt", "notes.ipynb"):
        Path(name).write_text("text")
    script("def (", "broken.py")
    with pytest.raises(error, match=said) as caught:
        load(target)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value).replace("a\nb", "")  # what a program says stays whole


def test_bytes_that_are_no_python_source(script):
    script("")
    Path("train.py").write_bytes(b"x = '\xff\xfe'")
    with pytest.raises(ScriptError, match=r"train\.py.* is not valid Python: .*utf-8"):
        load("train.py:x")
    Path("train.py").write_bytes(b"x = 1\0")
    with pytest.raises(ScriptError, match="null bytes"):
        load("train.py:x")


def test_an_encoding_that_the_file_declares_is_read(script):
    script("")
    Path("train.py").write_bytes("# coding: latin-1\nx = 'ü'".encode("latin-1"))
    assert load("train.py:x").values == ("ü",)


@pytest.mark.parametrize(
    ("ending", "failure"),
    [
        ("sys.exit()", None),
        ("sys.exit(0)", None),
        ("sys.exit(3)", "it ended by sys.exit(3) (train.py:4)"),
        ("1 / 0", "ZeroDivisionError: division by zero (train.py:4)"),
    ],
)
def test_what_was_there_before_the_script_stopped_is_found(script, ending, failure):
    script(f"""
        import sys
        loss = 1
        {ending}
    """)
    found = load("train.py:loss")
    assert found.values == (1,)
    told = failure and f"train.py failed after it had set loss: {failure}"
    assert found.failure == told


def test_without_a_name_the_tensors_are_listed_results_first(script):
    script("""
        import torch
        x = torch.ones(3, requires_grad=True)
        _hidden = x * 2
        loss = (x * 2).sum()
        mask = torch.ones(2, 2, dtype=torch.bool)
    """)
    with pytest.raises(TargetError) as caught:
        load("train.py")
    assert str(caught.value) == (
        "say what of train.py to draw: it defines the tensors loss f32[], mask bool[2,2], "
        "x f32[3]; try: gradviz draw train.py:loss"
    )


@pytest.mark.parametrize(
    ("command", "verb", "typed"),
    [
        ("memory", "list", "gradviz memory train.py:loss"),
        ("summary", "sum up", "gradviz summary train.py:loss"),
        ("compare", "compare", "train.py:loss"),
    ],
)
def test_each_command_says_what_to_give_to_it(script, command, verb, typed):
    script("""
        import torch
        net = torch.nn.Linear(2, 1)
        loss = net(torch.ones(2)).sum()
    """)
    there = f": it defines the tensors loss f32[]; try: {typed}"
    done = CliRunner().invoke(cli, [command, *["train.py"] * (2 if command == "compare" else 1)])
    assert done.exit_code == 2
    assert done.stderr == f"Error: say what of train.py to {verb}{there}\n"
    with pytest.raises(TargetError) as caught:
        load_target(parse_target("train.py:zz9", command))
    assert str(caught.value) == "train.py has no variable zz9; its variables are net, loss"


def test_many_tensors_are_not_all_listed(script):
    script("import torch\nfor i in range(30): globals()[f't{i}'] = torch.ones(())")
    with pytest.raises(TargetError, match=r"t22 f32\[\] and 22 more; try"):
        load("train.py")


def test_the_run_keeps_the_tensors_alive(script):
    script("import torch\nclass M: pass\nx = torch.ones(2, requires_grad=True)\nloss = x.sum()")
    found = load("train.py:loss")
    found.values[0].backward()
    assert torch.equal(found.run.namespace["x"].grad, torch.ones(2))


def test_the_failing_line_is_the_scripts_own(script):
    script("def fail():\n    raise RuntimeError('deep')", "helper.py")
    script("import helper\n\nhelper.fail()")
    run = run_script("train.py")
    assert run.failed
    assert run.ending == "RuntimeError: deep (train.py:3)"
    sys.modules.pop("helper")


def test_a_local_module_is_refused_with_what_to_draw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(
        "import torch\n"
        "def main():\n"
        "    model = torch.nn.Linear(2, 2)\n"
        "    loss = model(torch.ones(2)).sum()\n"
        "    loss.backward()\n"
        "main()\n"
    )
    result = CliRunner().invoke(cli, ["draw", "train.py:model"])
    assert result.exit_code == 2
    assert "train.py:model: cannot draw a Linear" in result.stderr and "model(x)" in result.stderr
