"""The rules of the house, kept by reading the source: who imports whom, and who does what.

The places stand in a chain, and each imports only from itself and from places to its left:
errors, cells, shown, torch_messages -> graph -> facts -> story, serialize -> capture ->
recording -> views -> diagnosis, comparison, checking, reports -> renderers -> frontends -> the
package itself.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAIN = (
    ("errors", "cells", "shown", "torch_messages"),
    ("graph",),
    ("facts",),
    ("story", "serialize"),
    ("capture",),
    ("recording",),
    ("views",),
    ("diagnosis", "comparison", "checking", "reports"),
    ("renderers",),
    ("frontends",),
    ("__init__", "__main__"),
)
ROOMS = ("autograd", "tensors", "tracing")  # of capture, a chain too
RANK = {place: rank for rank, places in enumerate(CHAIN) for place in places}

# Package -> where it may be imported: a place, or one file.
HOMES = {
    "torch": ("capture", "recording", "checking"),
    "networkx": ("graph", "capture", "recording", "views", "comparison", "diagnosis", "reports"),
    "graphviz": ("renderers",),
    "pygraphviz": ("renderers",),
    "IPython": ("frontends/notebook.py", "frontends/display.py"),
    "sphinx": ("frontends/sphinx",),
    "docutils": ("frontends/sphinx",),
}
TORCH_PRIVATE = re.compile(
    r"^(_saved_\w*|_raw_saved_\w*|_input_metadata|_(get_)?sequence_nr|_version|_forward_cls"
    r"|_backward_hooks|_post_accumulate_grad_hooks|_engine_run_backward|_cdata|_call_impl|_global_\w*hooks\w*)$"
)
PRIVATE_HOME = "capture/autograd/"
MAY_WRITE = ("frontends", "__main__", "renderers/layout/_pygraphviz_child.py")
MAX_FILE, MAX_FUNCTION = 600, 60


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def inside(path: Path) -> str:
    """The path within the package: ``capture/tracing/tracer.py``."""
    return path.relative_to(ROOT / "gradviz").as_posix()


def place_of(path: Path) -> str:
    return inside(path).split("/")[0].removesuffix(".py")


def is_at(path: Path, homes: tuple[str, ...]) -> bool:
    folders = {parent.as_posix() for parent in path.relative_to(ROOT / "gradviz").parents}
    return place_of(path) in homes or inside(path) in homes or not folders.isdisjoint(homes)


def is_importer(called: ast.expr) -> bool:
    return ast.unparse(called).split(".")[-1] in ("import_module", "__import__")


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Each import anywhere in a file, as (line, dotted name of what is imported)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = path.relative_to(ROOT).parts[: -node.level]
                base = ".".join([*parents, *filter(None, [base])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "gradviz":
            yield node.lineno, f"gradviz.{node.attr}"
        elif isinstance(node, ast.Call) and node.args and is_importer(node.func):
            yield node.lineno, ast.unparse(node.args[0]).strip("'")


def lines_for_types(tree: ast.AST) -> set[int]:
    """The lines under ``if TYPE_CHECKING``, which never run."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for line in range(statement.lineno, (statement.end_lineno or 0) + 1)
    }


def docstrings(tree: ast.AST) -> set[ast.AST]:
    """The string literals that stand alone: documentation, not code."""
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def breaches_of_chain(tree: ast.AST, path: Path) -> Iterator[str]:
    rank = RANK.get(place_of(path))
    if rank is None:
        yield f"{inside(path)}: {place_of(path)!r} has no place in the chain"
        return
    for line, name in imports(tree, path):
        package, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if package != "gradviz" or not target or target.startswith("__"):
            continue
        if RANK.get(target, RANK["__init__"]) > rank:
            yield f"{inside(path)}:{line} imports {name}, which is to its right"
        if target in ("capture", "recording", "checking") and place_of(path) in (
            "views",
            "renderers",
        ):
            yield f"{inside(path)}:{line} imports {name}, which needs torch"


def breaches_of_homes(tree: ast.AST, path: Path) -> Iterator[str]:
    only_types = lines_for_types(tree)
    for line, name in imports(tree, path):
        homes = HOMES.get(name.split(".")[0])
        if homes is not None and not is_at(path, homes) and line not in only_types:
            yield f"{inside(path)}:{line} imports {name}, allowed in {', '.join(homes)} alone"


def breaches_of_privacy(tree: ast.AST, path: Path) -> Iterator[str]:
    if inside(path).startswith(PRIVATE_HOME):
        return
    documentation = docstrings(tree)
    for node in ast.walk(tree):
        word = ""
        if isinstance(node, ast.Attribute):
            word = "torch._C" if ast.unparse(node) == "torch._C" else node.attr
        elif isinstance(node, ast.Constant) and node not in documentation:
            word = node.value if isinstance(node.value, str) else ""
        if word == "torch._C" or TORCH_PRIVATE.match(word):
            yield f"{inside(path)}:{node.lineno} uses {word}, allowed in {PRIVATE_HOME} alone"
    for line, name in imports(tree, path):
        if name.startswith("torch._C"):
            yield f"{inside(path)}:{line} imports {name}, allowed in {PRIVATE_HOME} alone"


def writes_or_exits(node: ast.AST) -> str:
    """What a node does that only a front-end may do, or ""."""
    if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr"):
        return ast.unparse(node)
    if isinstance(node, ast.Raise) and node.exc and "SystemExit" in ast.unparse(node.exc):
        return "raise SystemExit"
    if not isinstance(node, ast.Call):
        return ""
    called = ast.unparse(node.func)
    last = called.split(".")[-1]
    if called in ("print", "exit", "quit", "sys.exit", "os._exit"):
        return called
    if last in ("write_text", "write_bytes", "mkdir", "unlink", "NamedTemporaryFile", "mkstemp"):
        return called
    if last == "open":
        modes = [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
        literals = [m.value for m in modes if isinstance(m, ast.Constant)]
        if any(isinstance(m, str) and re.fullmatch(r"[rbt]*[wax+][wax+bt]*", m) for m in literals):
            return f"{called} for writing"
    return ""


def breaches_of_quiet(tree: ast.AST, path: Path) -> Iterator[str]:
    if is_at(path, MAY_WRITE):
        return
    for node in ast.walk(tree):
        deed = writes_or_exits(node)
        if deed:
            line = getattr(node, "lineno", 0)
            yield f"{inside(path)}:{line} has {deed}: only front-ends print, write or exit"


def breaches_of_rooms(tree: ast.AST, path: Path) -> Iterator[str]:
    room = inside(path).split("/")[1] if "/" in inside(path) else ""
    if place_of(path) != "capture" or room not in ROOMS:
        return
    for line, name in imports(tree, path):
        parts = name.split(".")
        if parts[:2] == ["gradviz", "capture"] and parts[2] in ROOMS[ROOMS.index(room) + 1 :]:
            yield f"{inside(path)}:{line} imports {name}, which is to its right"


RULES = {
    "imports only leftwards": breaches_of_chain,
    "the rooms of capture in order": breaches_of_rooms,
    "packages stay in their homes": breaches_of_homes,
    "torch's private names in one room": breaches_of_privacy,
    "only front-ends print, write or exit": breaches_of_quiet,
}


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_kept(rule: str) -> None:
    breaches = []
    for path in sources("gradviz"):
        breaches += RULES[rule](ast.parse(path.read_text(encoding="utf-8")), path)
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(
    ("rule", "file", "code"),
    [
        ("imports only leftwards", "capture/x.py", "from gradviz.renderers import svg"),
        ("imports only leftwards", "capture/x.py", "from ..renderers import svg"),
        ("imports only leftwards", "views/x.py", "from gradviz import draw"),
        ("imports only leftwards", "views/x.py", "import gradviz\ngradviz.draw(1)"),
        ("imports only leftwards", "renderers/x.py", "from gradviz.capture.tracing import tracer"),
        ("imports only leftwards", "novelty/x.py", "pass"),
        (
            "the rooms of capture in order",
            "capture/tensors/x.py",
            "from gradviz.capture.tracing.walk import Walk",
        ),
        ("packages stay in their homes", "views/x.py", "def f():\n    import torch.nn"),
        ("packages stay in their homes", "frontends/x.py", "import networkx as nx"),
        ("packages stay in their homes", "views/x.py", "import_module('graphviz')"),
        ("torch's private names in one room", "capture/x.py", "fn._saved_self"),
        ("torch's private names in one room", "capture/x.py", "getattr(fn, '_raw_saved_self')"),
        ("torch's private names in one room", "capture/x.py", "torch._C._functions"),
        ("only front-ends print, write or exit", "views/x.py", "print(1)"),
        ("only front-ends print, write or exit", "views/x.py", "raise SystemExit(1)"),
        ("only front-ends print, write or exit", "views/x.py", "Path('a').open('w')"),
        ("only front-ends print, write or exit", "views/x.py", "open('a', mode='ab')"),
        ("only front-ends print, write or exit", "views/x.py", "sys.stderr.write('a')"),
    ],
)
def test_rule_sees_a_breach(rule: str, file: str, code: str) -> None:
    assert list(RULES[rule](ast.parse(code), ROOT / "gradviz" / file))


@pytest.mark.parametrize(
    ("rule", "file", "code"),
    [
        ("imports only leftwards", "frontends/x.py", "from gradviz import __version__"),
        ("imports only leftwards", "frontends/x.py", "import gradviz\ngradviz.__file__"),
        ("imports only leftwards", "story.py", "from gradviz.graph import GradGraph"),
        ("packages stay in their homes", "views/x.py", "if TYPE_CHECKING:\n    import torch"),
        ("torch's private names in one room", "capture/x.py", '"""Never read _saved_self."""'),
        ("only front-ends print, write or exit", "views/x.py", "open('read')"),
        ("only front-ends print, write or exit", "frontends/cli.py", "print(1)"),
    ],
)
def test_rule_allows(rule: str, file: str, code: str) -> None:
    assert not list(RULES[rule](ast.parse(code), ROOT / "gradviz" / file))


def test_files_and_functions_stay_short() -> None:
    too_long = []
    for path in sources("gradviz", "examples", "benchmarks", "tests"):
        source = path.read_text(encoding="utf-8")
        where = path.relative_to(ROOT)
        lines = len(source.splitlines())
        if lines > MAX_FILE:
            too_long.append(f"{where} has {lines} lines, of {MAX_FILE} allowed")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            first = node.body[1] if ast.get_docstring(node) and node.body[1:] else node.body[0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            if lines > MAX_FUNCTION:
                too_long.append(f"{where}: {node.name} has {lines} lines, of {MAX_FUNCTION}")
    assert not too_long, "\n".join(too_long)


WITHOUT_TORCH = """
import importlib, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NoTorch())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_drawing_a_saved_graph_needs_no_torch() -> None:
    """Everything but the capture can be imported where torch is not installed."""
    names = [
        "gradviz." + inside(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in sources("gradviz")
        if place_of(path) not in ("__init__", "__main__", "capture", "recording", "checking")
    ]
    assert {"gradviz.views", "gradviz.renderers"} <= set(names)
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
