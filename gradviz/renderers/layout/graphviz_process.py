"""Runs Graphviz in a child process, so that it can hang or crash without affecting gradviz.

The system's executables are tried first, then the Graphviz that is bundled with pygraphviz. The
environment variable ``GRADVIZ_ENGINE`` (``dot``, ``pygraphviz`` or ``layered``) forces one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradviz.errors import LayoutError, UsageError

__all__ = ["ENGINES", "Output", "engine_name", "engines", "run_engine", "run_graphviz"]

ENGINES = ("dot", "pygraphviz", "layered")
_CHILD = Path(__file__).with_name("_pygraphviz_child.py")
# The first bytes of a picture in each format: a program with other output is broken.
_SIGNATURES = {"png": b"\x89PNG", "pdf": b"%PDF", "eps:cairo": b"%!PS", "json": b"{", "json0": b"{"}


@dataclass(frozen=True)
class Output:
    """The picture to create.

    Args:
        format: of the picture: ``"png"``, ``"pdf"``, ``"json"``, ...
        program: ``"dot"`` to place the nodes; ``"neato"`` with ``-n2``, or ``"nop2"`` for short, if
            they have positions.
        arguments: ``-n2`` and ``-Gname=value``, ``-Nname=value``, ``-Ename=value``.
    """

    format: str
    program: str = "dot"
    arguments: tuple[str, ...] = ()


def engines() -> list[str]:
    """The layout engines that are available, the best first.

    Returns:
        Some of ``"dot"``, ``"pygraphviz"`` and ``"layered"`` (gradviz's own, always available); or
        only the one that ``GRADVIZ_ENGINE`` forces.

    Raises:
        UsageError: if ``GRADVIZ_ENGINE`` is none of them.

    Example:
        >>> "layered" in engines() or len(engines()) == 1
        True
    """
    forced = os.environ.get("GRADVIZ_ENGINE", "")
    if forced and forced not in ENGINES:
        raise UsageError(
            f"GRADVIZ_ENGINE is {forced!r}, not one of {', '.join(ENGINES)}; "
            "unset it to let gradviz choose"
        )
    if forced:
        return [forced]
    there = {
        "dot": shutil.which("dot") is not None,
        "pygraphviz": bool(sys.executable) and _pygraphviz_folder() is not None,
        "layered": True,
    }
    return [engine for engine in ENGINES if there[engine]]


def run_graphviz(
    source: str,
    *,
    program: str = "dot",
    arguments: Sequence[str] = (),
    format: str,
    limit: float,
) -> bytes:
    """Draw DOT with the first Graphviz that works.

    Args:
        source: the graph in the DOT language.
        program: ``"dot"`` to place the nodes; ``"neato"`` with ``-n2``, or ``"nop2"`` for short, if
            they have positions.
        arguments: ``-n2`` and ``-Gname=value``, ``-Nname=value``, ``-Ename=value``.
        format: of the picture: ``"png"``, ``"pdf"``, ``"json"``, ...
        limit: time limit for each Graphviz, in seconds; after a timeout no other one is tried.

    Returns:
        The picture.

    Raises:
        LayoutError: if no Graphviz is available, or none finished in time.

    Example:
        >>> run_graphviz("digraph { a -> b }", format="png", limit=60)[1:4]
        b'PNG'
    """
    output = Output(format, program, tuple(arguments))
    failures = []
    for engine in engines():
        if engine == "layered":
            continue
        try:
            return run_engine(engine, source, output, limit=limit)
        except TimeoutError as error:
            raise LayoutError(
                f"{error} for the {format}; draw less of the graph, or save it as svg"
            ) from error
        except LayoutError as error:
            failures.append(error)
    if os.environ.get("GRADVIZ_ENGINE") == "layered":
        raise LayoutError(f"{format} needs Graphviz, and GRADVIZ_ENGINE=layered rules it out")
    if not failures:
        raise LayoutError(
            f"{format} needs Graphviz, and there is none: no 'dot' on PATH and no "
            "pygraphviz wheel; pip install pygraphviz, or save as svg"
        )
    cause = "; ".join(str(failure) for failure in failures)
    raise LayoutError(f"{cause}; repair Graphviz, or save as svg") from failures[-1]


def run_engine(engine: str, source: str, output: Output, *, limit: float) -> bytes:
    """Draw DOT with one Graphviz, ``"dot"`` or ``"pygraphviz"``.

    Raises:
        TimeoutError: if it ran longer than ``limit`` seconds; it was ended.
        LayoutError: if it is missing, crashed, failed, or its output has another format.
    """
    name = output.program if engine == "dot" else "the Graphviz of pygraphviz"
    command = _command(engine, output, limit)
    try:
        code, picture, noise = _run(command, source.encode(), limit)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{name} took longer than {limit:g} s") from error
    except OSError as error:
        raise LayoutError(f"{name} cannot be started: {error}") from error
    said = _first_line(noise)
    if code < 0 or code > 255:  # Windows reports a crash as a large exit code.
        raise LayoutError(f"{name} crashed ({_death(code)}){said}")
    if code:
        raise LayoutError(f"{name} failed (exit code {code}){said}")
    if not picture:
        raise LayoutError(f"{name} gave nothing{said}")
    if not picture.lstrip().startswith(_SIGNATURES.get(output.format, b"")):
        raise LayoutError(f"{name} gave something that is no {output.format}{said}")
    return picture


@functools.cache
def engine_name(engine: str) -> str:
    """The name and version of an engine: ``"dot 2.43.0"``, ``"Graphviz of pygraphviz 2.0.4"``."""
    if engine == "pygraphviz":
        return f"Graphviz of pygraphviz {importlib.metadata.version('pygraphviz')}"
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        _, _, said = _run([shutil.which("dot") or "dot", "-V"], b"", 5.0)
        if found := re.search(r"version (\d+(?:\.\d+)*)", said.decode(errors="replace")):
            return f"dot {found[1]}"
    return engine


def _pygraphviz_folder() -> str | None:
    """The folder in which pygraphviz is installed, found without importing it."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("pygraphviz")
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).parent.parent)
    return None


def _command(engine: str, output: Output, limit: float) -> list[str]:
    if engine == "dot":
        # The library knows nop2 by that name; as a program it is neato with an option.
        pinned = output.program == "nop2"
        program = "neato" if pinned else output.program
        path = shutil.which(program)
        if path is None:
            raise LayoutError(f"there is no {program!r} on PATH")
        return [path, *["-n2"] * pinned, *output.arguments, f"-T{output.format}"]
    folder = _pygraphviz_folder()
    if folder is None or not sys.executable:
        raise LayoutError("pygraphviz is not installed")
    child = [sys.executable, str(_CHILD), folder, f"{limit}"]
    return [*child, output.program, output.format, *output.arguments]


def _run(command: list[str], stdin: bytes, limit: float) -> tuple[int, bytes, bytes]:
    """Run a program; it has ended when this function returns or raises."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Its own session, so that processes that the program started end with it.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout=limit)
    except BaseException:  # also KeyboardInterrupt
        _kill(process)
        raise
    return process.returncode, stdout, stderr


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _death(code: int) -> str:
    if code > 255:
        return f"exit code {code:#x}"
    with contextlib.suppress(ValueError):
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"signal {-code}"


def _first_line(noise: bytes) -> str:
    """The most informative line of stderr, which is not fontconfig's or part of a traceback."""
    lines = [line.strip() for line in noise.decode(errors="replace").splitlines()]
    telling = [line for line in lines if line and not line.startswith("Fontconfig")]
    if not telling:
        return ""
    line = telling[-1] if telling[0].startswith("Traceback") else telling[0]
    return f": {line[:200]}"
