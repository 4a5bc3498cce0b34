"""Run a user's program in this process as Python itself would, and clean up afterwards."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import itertools
import logging
import os
import shutil
import sys
import threading
import traceback
from collections import UserDict
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn, Union

from gradviz.errors import ScriptError, TargetError
from gradviz.frontends.files import aside

_OURS = str(Path(__file__).resolve().parent.parent)

Contexts = tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]
Within = Union[contextlib.AbstractContextManager[Any], "Watch", None]
"""Entered before the first line of a program and left after its last, or what creates those."""

# The frame of these lines has the script's variables: code that searches the variables of its
# callers, as the recording does at its end, finds the global ones.
_WITHIN = """with first, context:
    exec(code, globals(), names)
    call()"""


@dataclass(frozen=True)
class ProgramRun:
    """A program that has run, to its end or not."""

    module: ModuleType  # the module in which it ran; it keeps the program's tensors alive
    ending: str = ""  # how it stopped early, ``"ValueError: bad (train.py:3)"``; "" if it did not
    failed: bool = False  # whether it stopped with an error; ``sys.exit(0)`` is not an error
    error: BaseException | None = None  # the exception that stopped it
    is_fork: bool = False  # whether this is another process, forked by the program
    was_interrupted: bool = False  # whether it was stopped by Ctrl-C

    def unless_interrupted(self) -> ProgramRun:
        """The same run; raises KeyboardInterrupt if it was interrupted."""
        if self.was_interrupted and self.error is not None:
            raise self.error
        return self

    @property
    def namespace(self) -> dict[str, Any]:
        """The program's global variables."""
        return vars(self.module)


stopped_early = threading.Event()  # of this process: whether a program was, as of `Reached`
_FOR_OTHERS = 1.0  # seconds that the other threads of a program have, when one has ended it


class Reached(SystemExit):
    """Stops a script when the answer is there; a SystemExit, which ends it silently.

    A program that catches and prints every exception prints its text.

    Example:
        >>> Reached().code, str(Reached())
        (0, 'gradviz has its answer and ends the program; --full runs it on')
    """

    def __init__(self) -> None:
        super().__init__("gradviz has its answer and ends the program; --full runs it on")
        self.code = 0


def end_of_session() -> BaseException | None:
    """What pytest raises to end its session, if it runs the program; by others, a test fails."""
    frames = (frame for frame, _ in traceback.walk_stack(sys._getframe(1)))
    own = itertools.takewhile(lambda frame: frame.f_code.co_filename != __file__, frames)
    names = [frame.f_globals.get("__name__") for frame in own]
    ends = sys.modules["_pytest.outcomes"].Exit if "_pytest.main" in names else None
    return ends(str(Reached()), returncode=0) if ends else None


def _is_of_the_program(record: logging.LogRecord) -> bool:
    """Whether asyncio reports an error of the program, and not its end by gradviz."""
    return not (record.exc_info and isinstance(record.exc_info[1], Reached))


class _Until(UserDict[str, Any]):
    """The global variables of a script, which ends when one of them first gets a value."""

    def __init__(self, variables: dict[str, Any], name: str) -> None:
        self.data, self._name = variables, name

    def __setitem__(self, name: str, value: Any) -> None:
        is_first = name == self._name and name not in self.data
        self.data[name] = value
        if is_first:
            raise Reached


def run_script(
    path: str, argv: Sequence[str] = (), within: Within = None, until: str = ""
) -> ProgramRun:
    """Run a file as ``python path argv...`` would: as ``__main__``, in the current folder.

    The script's changes of the interpreter (``sys.argv``, ``sys.path``, ``__main__``, the
    current folder) are undone afterwards.

    Args:
        path: an existing file of Python source.
        argv: the script's own arguments.
        within: entered before its first line, and left after its last or with its error.
        until: a global variable; the script ends when its own lines first assign it. Then the
            ``error`` of the run is `Reached`.

    Raises:
        ScriptError: if the file is not valid Python source.
    """
    full = os.path.abspath(path)  # noqa: PTH100  (as Python does: links stay as they are)
    module = ModuleType("__main__")
    code = _compile(path, full)
    # Processes that multiprocessing spawns find the script by __file__ when __spec__ is None.
    module.__dict__.update(
        __file__=full,
        __cached__=None,
        __spec__=None,
        __loader__=importlib.machinery.SourceFileLoader("__main__", full),
    )
    with _as_main([path, *argv], os.path.dirname(os.path.realpath(path)), module):  # noqa: PTH120
        return _run(lambda: _execute(code, module, within, until), module, full, path)


def run_main_module(name: str, argv: Sequence[str] = (), within: Within = None) -> ProgramRun:
    """Run a module as ``python -m name argv...`` would: as ``__main__``, with relative imports.

    Args:
        name: its dotted name; for a package, its ``__main__`` is run.
        argv: the program's own arguments.
        within: as for `run_script`.

    Raises:
        TargetError: if there is no such module, or a package has no ``__main__``.
        ScriptError: if a parent package fails, or it is not valid Python.
    """
    with _as_main([name, *argv], str(Path.cwd())):
        spec = _find(name)
        if spec is not None and spec.submodule_search_locations is not None:
            package, spec = name, _find(f"{name}.__main__")
            if spec is None:
                raise TargetError(
                    f"{package} is a package and cannot be run: there is no {package}.__main__"
                )
        code = _code_of(spec) if spec else None
        if spec is None or code is None:
            raise TargetError(_no_module(name))
        module = ModuleType("__main__")
        module.__dict__.update(
            __file__=spec.origin,
            __cached__=spec.cached,
            __spec__=spec,
            __loader__=spec.loader,
            __package__=spec.parent,
        )
        sys.argv[0] = spec.origin or name
        sys.modules["__main__"] = module
        full = code.co_filename
        return _run(lambda: _execute(code, module, within, ""), module, full, name)


def _code_of(spec: importlib.machinery.ModuleSpec) -> CodeType | None:
    """The code of a module; None if it has no Python source."""
    loader: Any = spec.loader
    try:
        code: CodeType | None = loader.get_code(spec.name)
    except SyntaxError as error:
        raise ScriptError(f"cannot import {spec.name}: {_message(error)}") from error
    except (AttributeError, ImportError):
        return None
    return code


def source_of_module(name: str) -> str:
    """The file of a module, searched from the current folder first; "" if there is none.

    Example:
        >>> source_of_module("json.decoder")[-16:].replace(os.sep, "/")
        '/json/decoder.py'
    """
    path = sys.path[:]
    sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # a parent package may raise any error; running it reports that
        return ""
    finally:
        sys.path[:] = path
    return spec.origin if spec and spec.origin and spec.origin.endswith(".py") else ""


def executable(name: str) -> str:
    """The file of a command on PATH that is a Python program; "" for others.

    Example:
        >>> executable("no-such-command")
        ''
    """
    found = shutil.which(name)
    if not found:
        return ""
    try:
        with Path(found).open("rb") as file:
            first, second = file.readline(200), file.readline(400)
    except OSError:
        return ""
    # pip starts a Python in a folder with spaces through /bin/sh.
    starts = second if second.startswith(b"'''exec' ") else first
    return found if first.startswith(b"#!") and b"python" in starts else ""


def _no_module(name: str) -> str:
    if Path(name).is_dir():
        return f"{name} is a folder and no module; give a script in it: {Path(name, 'train.py')}"
    file = f"{name.replace('.', '/')}.py"
    return (
        f"there is no module {name!r} here or among the installed ones; a file is given with its "
        f"suffix: {file}:loss"
    )


def run_code(code: CodeType, module: ModuleType, within: Within = None) -> ProgramRun:
    """Run compiled code in a module that may contain variables, like blocks of a page.

    Args:
        code: the code.
        module: contains the variables; it is ``__main__`` while the code runs.
        within: entered before its first line, and left after its last or with its error.

    Example:
        >>> run = run_code(compile("x = 2", "<block>", "exec"), ModuleType("__main__"))
        >>> run.namespace["x"], run.failed
        (2, False)
    """
    name = code.co_filename
    with _as_main([name], str(Path.cwd()), module):
        return _run(lambda: _execute(code, module, within, ""), module, name, name)


def _execute(
    code: CodeType,
    module: ModuleType,
    within: Within,
    until: str = "",
    call: Callable[[], object] = object,
) -> None:
    variables = module.__dict__

    def run(code: CodeType, names: MutableMapping[str, Any], call: Callable[[], object]) -> None:
        if within is None:
            exec(code, variables, names)
            call()
            return
        pair = contextlib.nullcontext(), within
        first, context = within(code, variables) if isinstance(within, Watch) else pair
        outer = compile(_WITHIN, code.co_filename, "exec", dont_inherit=True)
        inner = {"first": first, "context": context, "code": code, "names": names, "call": call}
        exec(outer, variables, inner)

    names = _Until(variables, until) if until else variables
    if not isinstance(within, Watch) or not within.follows:
        run(code, names, call)
        return
    from gradviz.capture.isolation import Threads  # imported here: these need torch
    from gradviz.recording.source_lines import is_library

    nothing = compile("", code.co_filename, "exec")
    with Threads(lambda start: run(nothing, variables, start), is_library) as threads:
        try:
            run(code, names, call)
            threads.join()
        except KeyboardInterrupt:
            if not isinstance(threads.ending, Reached):
                raise
            threads.join(_FOR_OTHERS)  # the others end at their own step
        within.ending, within.ended = threads.ending, threads.ended
        if isinstance(within.ending, Reached) or (within.ending and within.fails_with_threads):
            raise within.ending


class Watch:
    """Searches and recordings: a pair for a program, and one for each of its threads.

    Args:
        record: creates a recording.
        follows: whether threads are recorded.
        fails_with_threads: whether an error in a thread is an error of the program.

    Attributes:
        search: creates a search.
        ending: what ended a thread early.
        ended: that thread.
    """

    def __init__(
        self,
        record: Callable[[], Any] = contextlib.nullcontext,
        follows: bool = True,
        fails_with_threads: bool = True,
    ) -> None:
        self._record, self.follows, self.fails_with_threads = record, follows, fails_with_threads
        self.ending: BaseException | None = None
        self.ended: threading.Thread | None = None
        self.search: Callable[[], Any] = contextlib.nullcontext
        self._pairs: list[tuple[Any, Any]] = []
        self._threads: list[threading.Thread] = []

    def __call__(self, code: CodeType, variables: dict[str, Any]) -> Contexts:
        """Create a pair."""
        search, recording = self.search(), self._record()
        self._pairs.append((search, recording))
        self._threads.append(threading.current_thread())
        begin = getattr(search, "begin", None)
        return begin(code, variables) if begin else search, recording

    @property
    def passes(self) -> int:
        """The backward passes that ran so far."""
        return sum(map(_passes, self._pairs))

    @property
    def chosen(self) -> tuple[Any, Any]:
        """The pair of the thread that ended the program, or else of the first that ran backward."""
        pairs = self._pairs or [(self.search(), self._record())]
        if self.ended in self._threads:
            return pairs[self._threads.index(self.ended)]
        return next(filter(_passes, pairs), pairs[0])

    @property
    def about(self) -> str:
        """A sentence on which of several threads that ran backward is chosen; "" for one."""
        chosen = self.chosen
        pairs = list(zip(self._pairs, self._threads, strict=True))
        names = [thread.name for pair, thread in pairs if _passes(pair)]
        mine = [thread.name for pair, thread in pairs if pair == chosen]
        return f"{len(names)} threads ran backward; this is {mine[0]}" if len(names) > 1 else ""


def _passes(pair: tuple[Any, Any]) -> int:
    search, recording = pair
    observer = getattr(recording, "_observer", None)
    return getattr(observer, "_passes", 0) or getattr(search, "passes", 0)


def run_module(
    name: str, argv: Sequence[str] = (), within: Within = None, call: str = ""
) -> ProgramRun:
    """Import a module, searched from the current folder first, as ``python -m`` does.

    Args:
        name: its dotted name.
        argv: its arguments in ``sys.argv``.
        within: as for `run_script`.
        call: a function in it that is called afterwards, as a console script does.

    Raises:
        TargetError: if there is no such module.
        ScriptError: if a parent package fails.
    """
    with _as_main([name, *argv], str(Path.cwd())):
        if name in sys.modules and not call:
            return ProgramRun(sys.modules[name])
        spec = _find(name)
        if spec is None or spec.loader is None or spec.origin is None:
            raise TargetError(_no_module(name))
        code = _code_of(spec)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module

        def start() -> None:
            if code is None:
                spec.loader.exec_module(module)  # type: ignore[union-attr]
                return
            function = (lambda: sys.exit(getattr(module, call)())) if call else object
            _execute(code, module, within, call=function)

        run = _run(start, module, spec.origin, name)
        if run.failed:
            sys.modules.pop(name, None)
        return run


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            return None
        raise ScriptError(f"cannot import {name}: {_message(error)}") from error


def _compile(path: str, full: str) -> CodeType:
    try:
        # dont_inherit: the "from __future__" lines of this file do not apply to the script.
        return compile(Path(path).read_bytes(), full, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise ScriptError(f"{path}{line} is not valid Python: {error.msg}") from error
    except ValueError as error:
        raise ScriptError(f"{path} is not a file of Python source: {error}") from error
    except OSError as error:
        raise TargetError(f"cannot read {path}: {error.strerror}") from error


def _run(start: Callable[[], object], module: ModuleType, full: str, shown: str) -> ProgramRun:
    process = os.getpid()
    run = _outcome(start, module, full, shown)
    return replace(run, is_fork=os.getpid() != process)


def _outcome(start: Callable[[], object], module: ModuleType, full: str, shown: str) -> ProgramRun:
    try:
        start()
    except KeyboardInterrupt as error:
        said = f"it was stopped by Ctrl-C{_where(error, full, shown)}"
        return ProgramRun(module, said, True, error, was_interrupted=True)
    except SystemExit as error:
        where = _where(error, full, shown)
        if isinstance(error, Reached):
            stopped_early.set()
            return ProgramRun(module, "", False, error)
        if error.code is None or error.code == 0:
            return ProgramRun(module, f"it ended by sys.exit(){where}", False, error)
        said = f"it ended by sys.exit({_brief(repr(error.code))}){where}"
        return ProgramRun(module, said, True, error)
    except BaseException as error:
        said = _message(error)
        if isinstance(error, EOFError) and "reading a line" in str(error):
            said = "it asked for input, and there was none: pipe it in, echo 3 | gradviz draw ..."
        return ProgramRun(module, said + _where(error, full, shown), True, error)
    return ProgramRun(module)


@contextlib.contextmanager
def report_of_exit(shown: str) -> Iterator[None]:
    """Report that a program calls ``os._exit``, which ends Python before anything is written.

    Args:
        shown: the program, for the message.
    """
    process, original = os.getpid(), os._exit

    def exit_now(status: int) -> NoReturn:
        if os.getpid() == process:  # not in a process that it forked
            aside(
                f"Warning: {shown} called os._exit({status}), which ends Python at once: nothing "
                "is written; --step 1 ends the program before"
            )
        original(status)

    os._exit = exit_now
    try:
        yield
    finally:
        if os._exit is exit_now:
            os._exit = original


def leave_fork(run: ProgramRun) -> None:
    """End a process that the program forked, as Python would.

    Args:
        run: the program; nothing happens if it ran in the original process.

    Raises:
        SystemExit: in a forked process, with its exit code.
    """
    if not run.is_fork:
        return
    if run.error is None or isinstance(run.error, SystemExit):
        raise run.error or SystemExit(0)
    aside(traceback_text(run.error).rstrip("\n"), is_own=False)
    raise SystemExit(1) from run.error


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it for the script, without the frames that run it."""
    report: Any = traceback.TracebackException.from_exception(error)
    waiting = [report]
    for each in waiting:  # also the errors before it, and those in a group
        frames = [frame for frame in each.stack if not frame.filename.startswith(_OURS)]
        starts = [(frame.filename, frame.name) for frame in frames[:2]]
        if starts and starts[:1] == starts[1:] and frames[0].name == "<module>":
            del frames[0]  # the line that starts the recording, under the script's name
        each.stack = traceback.StackSummary.from_list(frames)
        others = each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ())
        waiting += filter(None, others)
    return "".join(report.format())


def _message(error: BaseException) -> str:
    """The last part of a traceback: the class of an error and its whole message."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename).name}:{error.lineno})"
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def _brief(text: str) -> str:
    first, *rest = text.strip().splitlines() or [""]
    return first[:300] + (" ..." if rest or len(first) > 300 else "")


def _where(error: BaseException, full: str, shown: str) -> str:
    """The script's own line that led to an error: ``" (train.py:3, in step)"``."""
    own = [
        (frame.f_code.co_name, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == full
    ]
    if not own:
        return ""
    function, line = own[-1]
    place = shown if shown.endswith(".py") else full
    return f" ({place}:{line}{'' if function.startswith('<') else f', in {function}'})"


@contextlib.contextmanager
def _as_main(argv: list[str], folder: str, main: ModuleType | None = None) -> Iterator[None]:
    """Set up the interpreter as for a started program, and restore everything afterwards."""
    from gradviz.capture.isolation import forget_shadows, hide_modules  # it needs torch

    old_argv, old_path, old_main = sys.argv, sys.path[:], sys.modules["__main__"]
    streams = sys.stdin, sys.stdout, sys.stderr
    here = Path.cwd()
    hidden = hide_modules(Path(folder))
    logging.getLogger("asyncio").addFilter(_is_of_the_program)  # it may report after the end
    sys.argv = argv
    sys.path.insert(0, folder)
    if main is not None:
        sys.modules["__main__"] = main
    try:
        with _deeper():
            yield
    finally:
        with contextlib.suppress(ValueError, AttributeError):  # the script closed it; it is None
            sys.stdout.flush()
        sys.stdin, sys.stdout, sys.stderr = streams
        sys.argv, sys.path[:], sys.modules["__main__"] = old_argv, old_path, old_main
        forget_shadows(Path(folder))
        sys.modules.update(hidden)
        os.chdir(here)


_DEEPER = 250  # nested calls of gradviz, around a program and within its calls of torch


@contextlib.contextmanager
def _deeper() -> Iterator[None]:
    """Leave a program as many nested calls as it asks for, and restore the limit afterwards."""
    read, change, before = sys.getrecursionlimit, sys.setrecursionlimit, sys.getrecursionlimit()
    change(before + _DEEPER)
    sys.setrecursionlimit = lambda limit: change(limit + _DEEPER if limit > 0 else limit)
    sys.getrecursionlimit = lambda: read() - _DEEPER
    try:
        yield
    finally:
        sys.getrecursionlimit, sys.setrecursionlimit = read, change
        change(before)
