"""Putting a picture where it was asked for: whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gradviz.errors import OutputError, UsageError

__all__ = [
    "FORMATS",
    "LAID_OUT",
    "STDOUT",
    "Staged",
    "TABLES",
    "check_folder",
    "format_of",
    "stdout_fault",
    "write_atomically",
]

FORMATS = ("svg", "png", "pdf", "eps", "html", "dot", "json", "mmd", "txt")
"""What can be written; each is also the suffix of its files."""

TABLES = ("txt", "csv", "json")
"""What a table can be written as."""

LAID_OUT = ("svg", "png", "pdf", "eps", "html")
"""Those whose nodes gradviz places; the others leave it to the reader's program."""

STDOUT = "-"
"""The file name that stands for standard output."""

_BLOCK = 1 << 12


def format_of(path: str | os.PathLike[str], formats: Sequence[str] = FORMATS) -> str:
    """Tell from the suffix of a file what to write into it.

    Args:
        path: where the picture goes; only its last suffix counts, in any case.
        formats: that are allowed.

    Returns:
        One of the formats.

    Raises:
        UsageError: if the suffix is none of them.

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
    told = f"the suffix {suffix!r} is none of" if suffix else "it has no suffix; allowed are"
    allowed = " ".join(f".{name}" for name in formats)
    raise UsageError(f"cannot tell from {os.fspath(path)!r} what to write: {told} {allowed}")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Find out before the work starts whether there is a place for its result.

    Args:
        path: the file to be written later, or ``"-"``.

    Raises:
        OutputError: if its folder is missing, is a file or may not be written to, or if a folder
            is in its way.
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
    """What stands in the way of a file there; empty when nothing does."""
    if target.is_dir():
        return "it is a folder; give the name of a file in it"
    folder = target.parent
    if folder.is_dir():
        # A file is put in place of the old one; a pipe or a device stays, wherever it is.
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
    """The error that writing in a folder would raise which may not be written to."""
    is_read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
    number = errno.EROFS if is_read_only else errno.EACCES
    return OSError(number, os.strerror(number))


def write_atomically(path: str | os.PathLike[str], data: bytes | Iterable[bytes]) -> None:
    """Write a file whole: whatever goes wrong, the old content or none is there, not a part.

    The bytes go to a temporary file in the same folder, which is then moved into place. A
    symbolic link is written through; a pipe or a device is written directly.

    Args:
        path: the file; ``"-"`` is standard output.
        data: all its bytes, or pieces of them, in order.

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
    """Files that come to their places together, at the end of a ``with``, or none of them.

    Until then their bytes are in temporary files beside them. What goes to standard output, to a
    pipe or to a device is kept back until then.

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
        """Write a file under another name for now.

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
        with _told(name):
            # "x" leaves the permissions to the umask, where tempfile would make them private.
            file = temporary.open("xb")
        try:
            for block in _blocks(pieces):  # what goes wrong in making one is told as what it is
                with _told(name):
                    file.write(block)
            with _told(name):
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
                    with _told(name):
                        temporary.replace(os.path.realpath(name))
                elif name == STDOUT:
                    _write_stdout(data)
                else:
                    with _told(name), Path(name).open("wb") as file:
                        file.write(data)
                del self._ready[0]
        finally:  # Ctrl-C too must leave nothing behind
            for _name, temporary, _data in self._ready:
                if temporary is not None:
                    temporary.unlink(missing_ok=True)


def _is_replaced(name: str) -> bool:
    """Whether a file is put in place of what is there; a pipe or a device stays."""
    if name == STDOUT:
        return False
    target = Path(os.path.realpath(name))
    return target.is_file() or not target.exists()


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of at least a size."""
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn the system's errors into one that says what to do."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise _cannot(name, _reason(error, Path(os.path.realpath(name)))) from error


def _write_stdout(data: bytes) -> None:
    if sys.stdout is None:
        raise OutputError("cannot write to standard output: it is closed; use -o FILE")
    try:
        sys.stdout.flush()
        stream = sys.stdout.buffer
        # Past the buffer: what a full disk leaves in it would fail once more at exit.
        raw = getattr(stream, "raw", stream)
        view = memoryview(data)
        while view:
            view = view[raw.write(view) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot("to standard output", _reason(error, Path())) from error


def stdout_fault(error: OSError) -> OutputError:
    """What to say of an error in printing; what is not printed yet is given up."""
    with contextlib.suppress(OSError, ValueError):
        # It would fail once more at exit, when Python flushes what it holds back.
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
    """The folder as the user may have typed it: relative when it is below the current one."""
    try:
        return str(folder.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(folder)


def _cannot(name: str, reason: str) -> OutputError:
    return OutputError(f"cannot write {name}: {reason}")
