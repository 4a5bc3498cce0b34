"""What the blocks of a page share: variables, settings, and the lines they came from."""

from __future__ import annotations

import contextlib
import linecache
import re
from collections.abc import Iterator
from types import CodeType, ModuleType, TracebackType

from gradviz.errors import GradvizError

__all__ = ["CodeError", "Namespace"]

_FILENAME = "<gradviz-block-{}>"  # without blanks: texts are cut at them
_LINE = re.compile(r"<gradviz-block-(\d+)>:(\d+)")
_WHERE = re.compile(r" \(<gradviz-block-\d+>:\d+(, in [^)]*)?\)$")


class CodeError(GradvizError):
    """The code of a block failed.

    Args:
        message: what happened.
        line: in the block, from 1; 0 when it is not known.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class Namespace:
    """The variables that blocks of a page share, and the code that they came from.

    Args:
        pre_code: run before the first block, as the setting ``gradviz_pre_code`` says.

    Raises:
        CodeError: if that code fails.

    Example:
        >>> namespace = Namespace("import torch")
        >>> code = namespace.compile("x = torch.ones(2)")
        >>> with namespace.in_use():
        ...     exec(code, vars(namespace.module))
        >>> namespace.in_words("made at <gradviz-block-0>:1")
        'made at line 1'
    """

    def __init__(self, pre_code: str) -> None:
        from gradviz.capture.isolation import GlobalSettings  # only now: it needs torch

        self.module = ModuleType("__main__")
        self._settings = GlobalSettings()
        self._blocks: list[str] = []
        try:
            with self.in_use():
                exec(compile(pre_code, "<gradviz_pre_code>", "exec"), vars(self.module))
        except Exception as error:
            said = f"gradviz_pre_code failed: {type(error).__name__}: {error}"
            raise CodeError(said) from error

    def compile(self, code: str) -> CodeType:
        """Take a block up.

        Raises:
            CodeError: if it is not Python.
        """
        self._blocks.append(code)
        try:
            return compile(code, self._filename, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", 0) or 0
            raise CodeError(f"SyntaxError: {getattr(error, 'msg', error)}", line) from error

    @property
    def _filename(self) -> str:
        return _FILENAME.format(len(self._blocks) - 1)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While code runs: its settings hold, and its lines can be looked up."""
        names = [_FILENAME.format(number) for number in range(len(self._blocks))]
        for name, code in zip(names, self._blocks, strict=True):
            linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            with self._settings.in_force():
                yield
        finally:
            for name in names:
                linecache.cache.pop(name, None)

    def failure(self, ending: str, error: BaseException | None) -> CodeError:
        """How the last block failed, with the line of it that led there."""
        line = 0
        traceback: TracebackType | None = error.__traceback__ if error else None
        while traceback:
            if traceback.tb_frame.f_code.co_filename == self._filename:
                line = traceback.tb_lineno
            traceback = traceback.tb_next
        return CodeError(_WHERE.sub("", ending), line)

    def in_words(self, text: str) -> str:
        """A text with lines as a reader of the page knows them: ``line 3`` of the last block."""

        def line(found: re.Match[str]) -> str:
            is_here = int(found[1]) == len(self._blocks) - 1
            return f"line {found[2]}{'' if is_here else ', further up'}"

        return _LINE.sub(line, text)
