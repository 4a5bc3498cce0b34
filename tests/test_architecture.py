"""The rules of the house, kept by reading the source: who imports whom, and who does what.

The places are a chain; each imports only from itself and from places to its left:
errors, shown, torch_messages -> graph -> facts -> story, wording,
serialize -> capture -> recording -> views -> diagnosis, comparison, checking, reports ->
viewer -> renderers -> frontends -> the package itself.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest
from house import ROOT, parsed, sources

CHAIN = (
    ("errors", "shown", "torch_messages"),
    ("graph",),
    ("facts",),
    ("story", "wording", "serialize"),
    ("capture",),
    ("recording",),
    ("views",),
    ("diagnosis", "comparison", "checking", "reports"),
    ("viewer",),
    ("renderers",),
    ("frontends",),
    ("__init__", "__main__"),
)
ROOMS = ("autograd", "tensors", "walk", "tracer")  # of capture, a chain too
RANK = {place: rank for rank, places in enumerate(CHAIN) for place in places}

# Package -> where it may be imported: a place, or one file.
HOMES = {
    "torch": ("capture", "recording", "checking"),
    "networkx": ("graph", "capture", "recording", "views", "comparison", "diagnosis", "reports"),
    "graphviz": ("renderers",),
    "pygraphviz": ("renderers",),
    "IPython": ("frontends/notebook.py", "frontends/display.py"),
    "sphinx": ("frontends/sphinx.py", "frontends/__init__.py"),
    "docutils": ("frontends/sphinx.py",),
}
TORCH_PRIVATE = re.compile(
    r"^(_saved_\w*|_raw_saved_\w*|_input_metadata|_(get_)?sequence_nr|_version|_forward_cls"
    r"|_backward_hooks|_post_accumulate_grad_hooks|_engine_run_backward|_cdata|_call_impl|_global_\w*hooks\w*)$"
)
PRIVATE_HOME = "capture/autograd/"
MAY_WRITE = ("frontends", "__main__", "renderers/layout/_pygraphviz_child.py")
MAX_FILE, MAX_FUNCTION = 600, 60


def inside(path: Path) -> str:
    """The path within the package: ``capture/tracer.py``."""
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
    """The string literals that are statements: documentation, not code."""
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
    room = inside(path).split("/")[1].removesuffix(".py") if "/" in inside(path) else ""
    if place_of(path) != "capture" or room not in ROOMS:
        return
    for line, name in imports(tree, path):
        parts = name.split(".")
        if parts[:2] == ["gradviz", "capture"] and parts[2] in ROOMS[ROOMS.index(room) + 1 :]:
            yield f"{inside(path)}:{line} imports {name}, which is to its right"


# What reads words for people: rules about facts, see `breaches_of_facts`.
PROSE = ("detail", "title", "caption", "reason", "fix")
SPOKEN = ("event", "entry", "note", "frame", "story", "told", "explanation", "problem")
TEXT_METHODS = {
    *("startswith", "endswith", "partition", "rpartition", "split", "rsplit", "splitlines"),
    *("removeprefix", "removesuffix", "find", "rfind", "index", "rindex", "count", "replace"),
    *("isdigit", "strip", "lower", "casefold"),
}
PATTERN_METHODS = {"search", "match", "fullmatch", "findall", "finditer", "sub", "subn", "split"}
WORDING = ("wording",)
ERROR_NAME = re.compile(r"(\w*_)?(err|error|exc|exception|problem|trouble)")
MESSAGES = ("torch_messages", "frontends/program.py")  # the latter: pytest's, of standard input
# File -> what it reads with regular expressions, none of it our own text.
PATTERNS = {
    "torch_messages.py": "PyTorch's exception texts",
    "capture/tensors/names.py": "names in IPython's namespace",
    "capture/tracer.py": "paths of tensors in a nested structure",
    "frontends/gallery.py": "sizes in an SVG, paragraphs of a docstring",
    "frontends/pages.py": "file names in Python's tracebacks",
    "frontends/pytest_plugin.py": "a test's name made a file name",
    "frontends/sphinx.py": "the size in an SVG",
    "frontends/target.py": "what was typed on the command line",
    "graph/operations.py": "class names of autograd's nodes",
    "renderers/scene_files.py": "ids in an SVG, the output of Graphviz",
    "renderers/layout/engines.py": "the output of Graphviz",
    "reports/modules.py": "names of dtypes",
    "views/modules.py": "paths and names of the user's parameters",
    "views/repeats.py": "numbers in the user's names",
    "views/siblings.py": "numbers in the user's names",
    "viewer/__init__.py": "imports, exports and comments of the modules of the viewer",
}


def text_operands(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions that a node reads as text: compared, cut to pieces, searched."""
    if isinstance(node, ast.Compare):
        yield from (node.left, *node.comparators)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        # Line breaks and blanks alone are no logic: text is wrapped and shortened with them.
        for_display = not node.args or ast.unparse(node.args[0]) in (r"'\n'", "' '")
        is_split = "split" in node.func.attr or "partition" in node.func.attr
        if node.func.attr in TEXT_METHODS and not (is_split and for_display):
            yield node.func.value
        if node.func.attr in PATTERN_METHODS:
            yield from node.args


def made_a_string(node: ast.AST) -> str:
    """``error`` of ``str(error)``, or ""."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "str" and node.args:
        return ast.unparse(node.args[0]).split(".")[-1]
    return ""


def reads_prose(expression: ast.expr) -> bool:
    for node in ast.walk(expression):
        if isinstance(node, ast.Attribute) and node.attr in PROSE:
            return ast.unparse(node.value) != "nodes"  # docutils has a class called caption
        if made_a_string(node) in SPOKEN:
            return True
    return False


def reads_message(expression: ast.expr) -> bool:
    for node in ast.walk(expression):
        if isinstance(node, ast.Attribute) and node.attr == "message":
            return True
        if isinstance(node, ast.Name) and node.id == "message":
            return True
        if ERROR_NAME.fullmatch(made_a_string(node)):
            return True
    return False


def breaches_of_facts(tree: ast.AST, path: Path) -> Iterator[str]:
    """What decides by a sentence: the fact that the sentence was made from has to be asked."""
    if is_at(path, WORDING):
        return
    for node in ast.walk(tree):
        if any(map(reads_prose, text_operands(node))):
            line = getattr(node, "lineno", 0)
            yield f"{inside(path)}:{line} reads words for people: `{ast.unparse(node)}`"


def breaches_of_messages(tree: ast.AST, path: Path) -> Iterator[str]:
    if is_at(path, MESSAGES):
        return
    for node in ast.walk(tree):
        if any(map(reads_message, text_operands(node))):
            line = getattr(node, "lineno", 0)
            yield f"{inside(path)}:{line} reads an exception's text: `{ast.unparse(node)}`"


def breaches_of_patterns(tree: ast.AST, path: Path) -> Iterator[str]:
    if inside(path) in PATTERNS:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.fullmatch(r"re\.\w+", ast.unparse(node.func)):
            code = ast.unparse(node)
            yield f"{inside(path)}:{node.lineno} has a pattern, and no place in PATTERNS: `{code}`"


RULES = {
    "imports only leftwards": breaches_of_chain,
    "the rooms of capture in order": breaches_of_rooms,
    "packages stay in their homes": breaches_of_homes,
    "torch's private names in one room": breaches_of_privacy,
    "only front-ends print, write or exit": breaches_of_quiet,
    "facts are asked, not sentences": breaches_of_facts,
    "exception texts in one file": breaches_of_messages,
    "no patterns over our own text": breaches_of_patterns,
}


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_kept(rule: str) -> None:
    breaches: list[str] = []
    for path in sources("gradviz"):
        breaches += RULES[rule](parsed(path), path)
    assert not breaches, "\n".join(breaches)


def imported_modules(files: dict[Path, ast.AST]) -> "nx.DiGraph[str]":
    """Which module of gradviz imports which, anywhere in a file, for types as well."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    names = {name.removesuffix(".__init__"): name for name in modules}
    for name, path in modules.items():
        for _, target in imports(files[path], path):
            while target and target not in names:
                target = target.rpartition(".")[0]
            # The version is read from the package itself, which imports the others when asked.
            if target not in ("", "gradviz") and names[target] != name:
                graph.add_edge(name, names[target])
    return graph


def circles(files: dict[Path, ast.AST]) -> list[str]:
    groups = nx.strongly_connected_components(imported_modules(files))
    return [" <-> ".join(sorted(group)) for group in groups if len(group) > 1]


def names_of_two_classes(files: dict[Path, ast.AST]) -> list[str]:
    places = defaultdict(list)
    for path, tree in files.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{inside(path)}:{node.lineno}")
    return [f"{name}: {', '.join(where)}" for name, where in places.items() if len(where) > 1]


def test_no_import_goes_in_a_circle() -> None:
    assert not circles({path: parsed(path) for path in sources("gradviz")})


def test_each_class_name_stands_for_one_thing() -> None:
    assert not names_of_two_classes({path: parsed(path) for path in sources("gradviz")})


def house_of(**files: str) -> dict[Path, ast.AST]:
    return {
        ROOT / "gradviz" / (name.replace("__", "/") + ".py"): ast.parse(code)
        for name, code in files.items()
    }


@pytest.mark.parametrize(
    "code",
    [
        "from gradviz.views.b import g",
        "def f():\n    from gradviz.views import b",
        "if TYPE_CHECKING:\n    import gradviz.views.b",
    ],
)
def test_a_circle_is_seen(code: str) -> None:
    other = "from gradviz.views.c import h"
    back = "from .a import f"
    assert circles(house_of(views__a=code, views__b=other, views__c=back))
    assert not circles(house_of(views__a=code, views__b=other, views__c="import ast"))


def test_a_name_of_two_classes_is_seen() -> None:
    assert names_of_two_classes(house_of(story="class Cut: pass", views__x="class Cut: pass"))
    assert not names_of_two_classes(house_of(story="class Cut: pass", views__x="class Run: pass"))


@pytest.mark.parametrize(
    ("rule", "file", "code"),
    [
        ("imports only leftwards", "capture/x.py", "from gradviz.renderers import svg"),
        ("imports only leftwards", "capture/x.py", "from ..renderers import svg"),
        ("imports only leftwards", "views/x.py", "from gradviz import draw"),
        ("imports only leftwards", "views/x.py", "import gradviz\ngradviz.draw(1)"),
        ("imports only leftwards", "renderers/x.py", "from gradviz.capture import tracer"),
        ("imports only leftwards", "novelty/x.py", "pass"),
        (
            "the rooms of capture in order",
            "capture/tensors/x.py",
            "from gradviz.capture.walk import Walk",
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
        ("facts are asked, not sentences", "diagnosis/x.py", "event.detail == 'off'"),
        ("facts are asked, not sentences", "diagnosis/x.py", "'off' in event.detail"),
        ("facts are asked, not sentences", "diagnosis/x.py", "f.title.startswith('after ')"),
        ("facts are asked, not sentences", "diagnosis/x.py", "e.detail.partition(' by ')[2]"),
        ("facts are asked, not sentences", "diagnosis/x.py", "_ZERO.search(event.detail)"),
        ("facts are asked, not sentences", "diagnosis/x.py", "'NaN' in str(event)"),
        ("exception texts in one file", "diagnosis/x.py", "'freed' in str(error)"),
        ("exception texts in one file", "diagnosis/x.py", "_P.search(trouble.message)"),
        ("exception texts in one file", "diagnosis/x.py", "'complex' in message"),
        ("no patterns over our own text", "diagnosis/x.py", "re.compile('x').match(y)"),
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
        ("facts are asked, not sentences", "wording.py", "event.detail == 'off'"),
        ("facts are asked, not sentences", "renderers/x.py", "lines = frame.caption.split()"),
        ("facts are asked, not sentences", "renderers/x.py", "if story.title: add(story.title)"),
        ("exception texts in one file", "torch_messages.py", "'complex' in message"),
        ("exception texts in one file", "views/x.py", "str(error).partition('\\n')[0]"),
        ("no patterns over our own text", "renderers/scene_files.py", "re.compile('x').match(y)"),
    ],
)
def test_rule_allows(rule: str, file: str, code: str) -> None:
    assert not list(RULES[rule](ast.parse(code), ROOT / "gradviz" / file))


def test_files_and_functions_stay_short() -> None:
    too_long = []
    for path in sources("gradviz", "examples", "benchmarks", "tests"):
        where = path.relative_to(ROOT)
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE:
            too_long.append(f"{where} has {lines} lines, of {MAX_FILE} allowed")
        for node in ast.walk(parsed(path)):
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
