"""Output: pictures to files, written as a whole or not at all; results and messages to streams."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gradviz.errors import OutputError, UsageError
from gradviz.graph.text import counted
from gradviz.story import Story

FORMATS = ("svg", "png", "pdf", "eps", "html", "dot", "json", "mmd", "txt")
"""The formats of pictures; each is also the suffix of its files."""

TABLES = ("txt", "csv", "json")
"""The formats of tables."""

LAID_OUT = ("svg", "png", "pdf", "eps", "html")
"""Formats for which gradviz computes a layout; others are laid out by the reader's program."""

STDOUT = "-"
"""The file name that stands for standard output."""

_BLOCK = 1 << 12
_CLOSED = "cannot write to standard output: it is closed; use -o FILE"


def format_of(path: str | os.PathLike[str], formats: Sequence[str] = FORMATS) -> str:
    """Find the format from the suffix of a file.

    Args:
        path: where the picture goes; only its last suffix counts, in any case.
        formats: that are allowed.

    Returns:
        One of the formats.

    Raises:
        UsageError: if the suffix is not a format.

    Example:
        >>> format_of("out/Loss.SVG")
        'svg'
        >>> format_of("loss.wav")
        Traceback (most recent call last):
        gradviz.errors.UsageError: cannot tell from 'loss.wav' what to write: the suffix '.wav' \
is none of .svg .png .pdf .eps .html .dot .json .mmd .txt
    """
    suffix = Path(path).suffix
    if suffix[1:].lower() in formats:
        return suffix[1:].lower()
    if suffix.lower() in (".tex", ".tikz") and "pdf" in formats:
        raise UsageError(
            f"cannot write {os.fspath(path)!r}: gradviz writes no TikZ; for LaTeX write .pdf or "
            r".eps, and use \includegraphics"
        )
    if os.fspath(path) and Path(path).is_dir():
        inside = Path(path, f"graph.{formats[0]}")
        raise UsageError(
            f"cannot write {os.fspath(path)!r}: it is a folder; give a file in it: {inside}"
        )
    problem = f"the suffix {suffix!r} is none of" if suffix else "it has no suffix; allowed are"
    allowed = " ".join(f".{name}" for name in formats)
    raise UsageError(f"cannot tell from {os.fspath(path)!r} what to write: {problem} {allowed}")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Check before the work starts that a file can be written.

    Args:
        path: the file to write later, or ``"-"``.

    Raises:
        OutputError: if its folder is missing, is a file or is not writable, or if the path is a
            folder.
    """
    name = os.fspath(path)
    if name == STDOUT:
        return
    try:
        reason = _obstacle(Path(os.path.realpath(name)))
    except (OSError, ValueError) as error:
        raise _cannot(name, _reason(error, Path(name))) from error
    if reason:
        raise _cannot(name, reason)


def _obstacle(target: Path) -> str:
    """The reason why a file cannot be written there; "" if it can."""
    if target.is_dir():
        return "it is a folder; give the name of a file in it"
    folder = target.parent
    if folder.is_dir():
        # The old file is replaced; a pipe or a device is not.
        place = folder if _is_replaced(str(target)) else target
        return "" if os.access(place, os.W_OK) else _reason(_refusal(folder), target)
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        return f"{_as_given(existing)} is a file, not a folder"
    shown = _as_given(folder)
    return f"there is no folder {shown}; make it with: mkdir -p {shlex.quote(shown)}"


def _refusal(folder: Path) -> OSError:
    """The error that writing in a read-only folder would raise."""
    is_read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
    number = errno.EROFS if is_read_only else errno.EACCES
    return OSError(number, os.strerror(number))


def rank_text() -> str:
    """``"rank 0 of 4"`` in a process that ``torchrun`` started with others; "" in any other."""
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    is_one_of_many = rank.isdecimal() and size.isdecimal() and int(size) > 1
    return f"rank {rank} of {size}" if is_one_of_many else ""


def of_rank(path: str) -> str:
    """The file of this rank: ``story.rank0.html``; the path itself outside of ``torchrun``.

    Standard output, and what is not an ordinary file, are left as they are.

    Example:
        >>> of_rank("story.html")
        'story.html'
    """
    if path == STDOUT or not rank_text() or (Path(path).exists() and not Path(path).is_file()):
        return path
    return str(Path(path).with_suffix(f".rank{os.environ['RANK']}{Path(path).suffix}"))


def write_atomically(path: str | os.PathLike[str], data: bytes | Iterable[bytes]) -> None:
    """Write a file atomically: after a failure it has the old content or does not exist.

    The bytes are written to a temporary file in the same folder, which then replaces the file. A
    symbolic link is followed; a pipe or a device is written directly.

    Args:
        path: the file; ``"-"`` is standard output.
        data: all bytes, or pieces of them, in order.

    Raises:
        OutputError: if it cannot be written.
        BrokenPipeError: if standard output was closed by its reader.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "loss.txt")
        >>> write_atomically(path, b"drawn")
        >>> path.read_text()
        'drawn'
    """
    with Staged() as files:
        files.add(path, data)


class Staged:
    """Files that are replaced together at the end of a ``with`` block, or not at all.

    Until then their bytes are in temporary files beside them. Output to standard output, a pipe
    or a device is held back until then.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Staged() as files:
        ...     files.add(folder / "loss.txt", [b"dr", b"awn"])
        ...     len(list(folder.glob("loss.txt")))
        0
        >>> [path.name for path in folder.iterdir()]
        ['loss.txt']
    """

    def __init__(self) -> None:
        self._ready: list[tuple[str, Path | None, bytes]] = []

    def __enter__(self) -> Staged:
        return self

    def add(self, path: str | os.PathLike[str], data: bytes | Iterable[bytes]) -> None:
        """Write a file to its temporary file.

        Args:
            path: as for `write_atomically`.
            data: as for `write_atomically`.

        Raises:
            OutputError: if it cannot be written.
        """
        name = os.fspath(path)
        pieces = [data] if isinstance(data, bytes) else data
        if name != STDOUT:
            check_folder(name)
        if not _is_replaced(name):
            self._ready.append((name, None, b"".join(pieces)))
            return
        target = Path(os.path.realpath(name))
        temporary = target.with_name(f".gradviz-{secrets.token_hex(6)}.tmp")
        self._ready.append((name, temporary, b""))
        with _output_errors(name):
            # "x" sets the permissions by the umask; tempfile would make them private.
            file = temporary.open("xb")
        try:
            for block in _blocks(pieces):  # errors of the renderer pass through unchanged
                with _output_errors(name):
                    file.write(block)
            with _output_errors(name):
                file.flush()
                os.fsync(file.fileno())
                if target.exists():
                    temporary.chmod(target.stat().st_mode & 0o7777)
        finally:
            with contextlib.suppress(OSError):
                file.close()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._ready:
                name, temporary, data = self._ready[0]
                if temporary is not None:
                    with _output_errors(name):
                        temporary.replace(os.path.realpath(name))
                elif name == STDOUT:
                    _write_stdout(data)
                else:
                    with _output_errors(name), Path(name).open("wb") as file:
                        file.write(data)
                del self._ready[0]
        finally:  # also after Ctrl-C, leave no temporary files
            for _name, temporary, _data in self._ready:
                if temporary is not None:
                    temporary.unlink(missing_ok=True)


def _is_replaced(name: str) -> bool:
    """Whether the existing file is replaced; a pipe or a device is written to."""
    if name == STDOUT:
        return False
    target = Path(os.path.realpath(name))
    return target.is_file() or not target.exists()


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of a minimum size."""
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)


@contextlib.contextmanager
def _output_errors(name: str) -> Iterator[None]:
    """Convert the system's errors to one with a hint."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise _cannot(name, _reason(error, Path(os.path.realpath(name)))) from error


def _write_stdout(data: bytes) -> None:
    if sys.stdout is None:
        raise OutputError(_CLOSED)
    try:
        sys.stdout.flush()
        stream = sys.stdout.buffer
        # Unbuffered: data left in the buffer by a full disk would fail again at exit.
        raw = getattr(stream, "raw", stream)
        view = memoryview(data)
        while view:
            view = view[raw.write(view) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot("to standard output", _reason(error, Path())) from error


def stdout_fault(error: OSError) -> OutputError:
    """Convert an error in printing; unprinted output is discarded."""
    with contextlib.suppress(OSError, ValueError):
        # It would fail again at exit, when Python flushes the buffer.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return _cannot("to standard output", _reason(error, Path()))


def _reason(error: OSError | ValueError, target: Path) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return "no space is left on the disk; free some, or write elsewhere"
    if number == errno.EROFS:
        return f"the folder {_as_given(target.parent)} is on a read-only disk; write elsewhere"
    if number in (errno.EACCES, errno.EPERM):
        shown = _as_given(target.parent)
        return f"the folder {shown} may not be written to by this user; write elsewhere"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _as_given(folder: Path) -> str:
    """The folder as the user may have typed it: relative if it is inside the current one."""
    try:
        return str(folder.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(folder)


def _cannot(name: str, reason: str) -> OutputError:
    return OutputError(f"cannot write {name}: {reason}")


_NARROWEST = 40  # columns


def colored() -> bool:
    """Whether standard error supports colors: a terminal, without NO_COLOR (no-color.org)."""
    return not os.environ.get("NO_COLOR") and sys.stderr is not None and sys.stderr.isatty()


def columns(is_aside: bool = False) -> int:
    """The width of the terminal that standard output (or error) is; 0 if it is none."""
    stream = sys.stderr if is_aside else sys.stdout
    if stream is None or not stream.isatty():
        return 0
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def styled() -> bool:
    """Whether standard output is a terminal that takes colors."""
    return bool(columns()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def wrapped(data: bytes | Iterable[bytes]) -> bytes | Iterable[bytes]:
    """Text for standard output: on a terminal its lines are wrapped to the width of it."""
    from gradviz.renderers.text import in_columns

    width = columns()
    if not width:
        return data
    text = (data if isinstance(data, bytes) else b"".join(data)).decode()
    # Lines with codes for bold and color have been wrapped before these were put in.
    lines = [[line] if "\033" in line else in_columns(line, width) for line in text.split("\n")]
    return "\n".join(part for parts in lines for part in parts).encode("utf-8", "backslashreplace")


def echo(text: str) -> None:
    """Print a result; on a terminal its lines are wrapped to the width of it."""
    import click  # only now: a script that draws prints nothing

    if sys.stdout is None:
        raise OutputError(_CLOSED)
    data = wrapped(of_this_rank(text).encode("utf-8", "backslashreplace"))
    click.echo(data if isinstance(data, bytes) else b"".join(data))


def of_this_rank(text: str) -> str:
    """A result for a stream that several ranks share: the rank is its first line."""
    return f"{rank_text()}\n{text}" if rank_text() else text


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Change to a folder, so that source locations contain only the file names."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def aside(text: str, is_own: bool = True) -> None:
    """Print on standard error; errors and warnings in color.

    Args:
        text: the lines.
        is_own: wrapped to the terminal; a traceback and the program's own words are not.
    """
    import click  # imported here: a script that draws does not need it

    start, is_colored = text.split(" ")[0], is_own and colored()
    if rank_text():
        line = text.strip("\n")
        text = of_this_rank(line) if "\n" in line else f"rank {os.environ['RANK']}: {line}"
    # A closed standard error must not make a successful drawing fail.
    with contextlib.suppress(OSError):
        if is_own and (width := columns(is_aside=True)):
            from gradviz.renderers.text import in_columns

            parts = (part for line in text.split("\n") for part in in_columns(line, width))
            text = "\n".join(parts)
        if is_colored and start == "Error:":
            text = text.replace(start, click.style(start, fg="red", bold=True), 1)
        elif is_colored and start == "Warning:":
            text = click.style(text, fg="yellow")
        click.echo(text, err=True)


@contextlib.contextmanager
def output_on_stderr() -> Iterator[None]:
    """Redirect a program's output to standard error, to keep it out of gradviz's own output.

    Output of Python's ``print``, of C code and of child processes is redirected.
    """
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
            kept = os.dup(1)
            undo.callback(os.close, kept)
            os.dup2(2, 1)
            undo.callback(os.dup2, kept, 1)
        undo.enter_context(contextlib.redirect_stdout(_Aside()))
        yield


class _Aside:
    """Standard error in place of standard output; a program that closes it closes nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def __iter__(self) -> Iterator[str]:
        return iter(sys.stderr)

    def write(self, text: str) -> int:
        """Write to standard error."""
        return sys.stderr.write(text)

    def close(self) -> None:
        """Do nothing."""


@contextlib.contextmanager
def stage(name: str, spinner: bool = True, passes: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Show a task on a terminal if it takes longer than a second.

    A nested stage shows its own name while it lasts.

    Args:
        name: the task: ``"running train.py"``.
        spinner: False for plain lines, which do not interfere with other output.
        passes: how many backward passes have run, for these lines.
    """
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not on_terminal or threading.current_thread() is not threading.main_thread():
        yield
        return
    if not spinner:
        with _lines_of(name, passes):
            yield
        return
    timer = threading.Timer(1.0, _stages.show)
    timer.daemon = True
    _stages.enter(name)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _stages.leave()
        timer.join()


@contextlib.contextmanager
def _lines_of(name: str, passes: Callable[[], int]) -> Iterator[None]:
    """Print a line after a second, then the elapsed time and the number of passes."""
    is_over, begin = threading.Event(), time.monotonic()

    def report() -> None:
        for wait in itertools.chain((1, 9, 20, 30), itertools.repeat(60)):
            if is_over.wait(wait):
                return
            count = counted(passes(), "backward pass", "backward passes")
            more = f" {time.monotonic() - begin:.0f} s, {count}" if wait > 1 else ""
            aside(f"{name} ...{more}")

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class _Stages:
    """The current stages, and the spinner that shows the innermost one."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._status: Any = None
        self._lock = threading.RLock()  # reentrant, because Ctrl-C can occur while it is held

    def enter(self, name: str) -> None:
        with self._lock:
            self._names.append(name)
            self._update()

    def leave(self) -> None:
        with self._lock:
            self._names.pop()
            if self._status is not None and not self._names:
                self._status.stop()
                self._status = None
            self._update()

    def show(self) -> None:
        from rich.console import Console  # imported here: it takes as long as the rest of gradviz

        with self._lock:
            if self._names and self._status is None:
                self._status = Console(stderr=True).status(f"{self._names[-1]} ...")
                self._status.start()

    def _update(self) -> None:
        if self._status is not None:
            self._status.update(f"{self._names[-1]} ...")


_stages = _Stages()


_MOST_FILES, _MOST_LINES = 8, 5_000
"""The largest program file, in lines, that the viewer shows."""


def program_files(story: Story) -> dict[str, list[str]]:
    """The lines of the program's files, unless a file has changed since it ran."""
    texts: dict[str, dict[int, str]] = {}
    for event in story.events:
        place = event.location
        if place.line and place.text:
            texts.setdefault(place.file, {})[place.line] = place.text.strip()
    found = {}
    for name, known in list(texts.items())[:_MOST_FILES]:
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".py":
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            continue
        same = all([text] == [ln.strip() for ln in lines[n - 1 : n]] for n, text in known.items())
        if same and len(lines) <= _MOST_LINES:
            found[name] = lines
    return found
