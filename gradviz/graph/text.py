"""Tensors, shapes, byte counts and module paths as short text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise

from gradviz.graph.schema import TensorSummary

_SHORT_DTYPE = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint8": "u8",
    "bool": "bool",
    "complex64": "c64",
    "complex128": "c128",
}


_MOST_RANGES = 3
_UNITS = (" B", " kB", " MB", " GB", " TB")


def shape_text(shape: Sequence[int], dtype: str = "", device: str = "cpu") -> str:
    """dtype, shape and device of a tensor in the shortest unambiguous form.

    Example:
        >>> shape_text((4, 128), "float32")
        'f32[4,128]'
        >>> shape_text((), "bfloat16", "cuda:0")
        'bf16[] cuda:0'
    """
    where = "" if device == "cpu" else f" {device}"
    sizes = ",".join("*" if size < 0 else str(size) for size in shape)
    return f"{dtype_text(dtype)}[{sizes}]{where}"


def clean(text: str) -> str:
    """Text for one line: control characters and lone surrogates are replaced.

    Example:
        >>> clean("two" + chr(10) + "lines")
        'two␤lines'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{SYMBOL FOR NEWLINE}" for char in text)


def element_count(shape: Sequence[int]) -> int:
    """The number of elements of a shape; 0 if a size is -1, as a nested tensor has several.

    Example:
        >>> element_count((2, 3)), element_count((2, -1))
        (6, 0)
    """
    return 0 if any(size < 0 for size in shape) else math.prod(shape)


def dtype_text(dtype: str) -> str:
    """The name of a dtype in its shortest unambiguous form.

    Example:
        >>> dtype_text("bfloat16"), dtype_text("qint8")
        ('bf16', 'qint8')
    """
    return _SHORT_DTYPE.get(dtype, dtype)


def bytes_text(count: int) -> str:
    """A number of bytes in a suitable unit (1 kB = 1,000 B).

    Example:
        >>> bytes_text(512), bytes_text(2_100_000)
        ('512 B', '2.1 MB')
    """
    return _rounded(count, _UNITS)


def _rounded(count: int, units: Sequence[str]) -> str:
    power = min((len(str(count)) - 1) // 3, 4)
    value = float(f"{count / 1000**power:.3g}")
    if value == 1000 and power < 4:
        value, power = 1.0, power + 1
    return f"{value:g}{units[power]}"


def counted(count: int, word: str, plural: str = "") -> str:
    """A count with its noun, in the singular or the plural.

    Example:
        >>> counted(1, "hook"), counted(2, "hook"), counted(1200, "leaf", "leaves")
        ('1 hook', '2 hooks', '1,200 leaves')
    """
    return f"{count:,} {word if count == 1 else plural or f'{word}s'}"


def time_text(count: int) -> str:
    """Which time something happens.

    Example:
        >>> [time_text(count) for count in (1, 2, 4, 11, 22)]
        ['first', 'second', '4th', '11th', '22nd']
    """
    ends = {1: "st", 2: "nd", 3: "rd"} if count % 100 not in (11, 12, 13) else {}
    words = {1: "first", 2: "second", 3: "third"}
    return words.get(count) or f"{count}{ends.get(count % 10, 'th')}"


def must_be(name: str, allowed: str, got: object) -> str:
    """The error message for an argument that is not allowed.

    Example:
        >>> must_be("depth", "an integer >= 1", 0)
        'depth must be an integer >= 1, got 0'
    """
    text = " ".join(repr(got).split())
    return f"{name} must be {allowed}, got {text if len(text) <= 80 else f'{text[:80]}…'}"


def listed(words: Sequence[str], most: int = 4) -> str:
    """The first few words of a list, and the number of further words.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], 2)
        ('a, b, c', 'a, b and 1 more')
    """
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more:,} more" if more > 0 else "")


def ranges_text(numbers: Sequence[int]) -> str:
    """Ascending numbers; consecutive ones as a range, of many ranges the first and the last.

    Example:
        >>> ranges_text([0, 1, 3]), ranges_text([0, 2, 4, 6, 8, 9])
        ('0…1,3', '0,2,…,8…9')
    """
    runs = runs_of(numbers)
    words = [f"{run[0]}…{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return ",".join(words if len(words) <= _MOST_RANGES else (*words[:2], "…", words[-1]))


def runs_of(numbers: Sequence[int]) -> list[Sequence[int]]:
    """The runs of consecutive numbers among ascending ones.

    Example:
        >>> runs_of([0, 1, 3])
        [[0, 1], [3]]
    """
    breaks = [n for n in range(1, len(numbers)) if numbers[n] > numbers[n - 1] + 1]
    return [numbers[a:b] for a, b in pairwise([0, *breaks, len(numbers)])]


def joined(names: Sequence[str], most: int = 4, others: str = "more") -> str:
    """The names in a sentence: all of up to ``most``, else the first and the number of others.

    Example:
        >>> joined(["a", "b", "c"]), joined(["a"]), joined(["a", "b", "c"], 2)
        ('a, b and c', 'a', 'a and 2 more')
    """
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} {others}"
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def count_text(count: int) -> str:
    """A large count in three significant digits.

    Example:
        >>> count_text(96), count_text(7_080_000), count_text(999_900)
        ('96', '7.08M', '1M')
    """
    return _rounded(count, ("", "k", "M", "G", "T"))


def number_text(value: float | int | bool | complex) -> str:
    """A number in four significant digits.

    Example:
        >>> number_text(3.0), number_text(-0.123456), number_text(-0.0), number_text(True)
        ('3', '-0.1235', '0', 'True')
    """
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**6 else f"{value:.4g}"
    if isinstance(value, complex):
        imaginary = number_text(value.imag)
        sign = "" if imaginary.startswith("-") else "+"
        return f"{number_text(value.real)}{sign}{imaginary}j"
    text = f"{value:.4g}"
    if text == "-0":
        return "0"
    return {"nan": "NaN", "-nan": "NaN"}.get(text, text)


def numbers_text(values: Sequence[float | int | bool | complex], shape: Sequence[int]) -> str:
    """All values of a small tensor, with brackets only around rows.

    Example:
        >>> numbers_text((1.0, 2.0, 3.0, 4.0), (4,))
        '1 2 3 4'
        >>> numbers_text((1.0, 2.0, 3.0, 4.0), (2, 2))
        '[1 2] [3 4]'
    """
    if not values:
        return "no elements"
    words = [number_text(value) for value in values]
    for size in reversed(shape[1:]):
        rows = range(0, len(words), max(size, 1))
        words = [f"[{' '.join(words[start : start + size])}]" for start in rows]
    return " ".join(words)


def summary_text(summary: TensorSummary) -> str:
    """The content of a tensor: its values when there are few, else norm, mean and range.

    NaN and infinities come first, then "all zeros", or "the rest zeros".

    Example:
        >>> summary_text(TensorSummary((3,), "float32", "cpu", values=(3.0, 3.0, 3.0)))
        '3 3 3'
        >>> summary_text(TensorSummary((9, 9), "float32", "cpu", norm=0.0, min=0.0, max=0.0))
        'all zeros'
        >>> summary_text(TensorSummary((9,), "float32", "cpu", norm=2.5, mean=0.5, min=-1, max=2))
        'norm 2.5, mean 0.5, -1 to 2'
    """
    if summary.values is not None:
        text = numbers_text(summary.values, summary.shape)
        return f"{text} ({summary.note})" if summary.note else text
    parts = []
    if summary.nan:
        parts.append(f"{summary.nan:,} NaN")
    if summary.inf:
        parts.append(f"{summary.inf:,} infinite")
    if summary.norm == 0 and summary.nan + summary.inf < summary.numel:
        parts.append("the rest zeros" if parts else "all zeros")
    elif summary.norm is not None and not summary.nan:
        parts.append(f"norm {number_text(summary.norm)}")
        if summary.mean is not None:
            parts.append(f"mean {number_text(summary.mean)}")
        if summary.min is not None and summary.max is not None:
            parts.append(f"{number_text(summary.min)} to {number_text(summary.max)}")
    if summary.note:
        parts.append(summary.note)
    return ", ".join(parts)


def is_zero(summary: TensorSummary) -> bool:
    """Whether a tensor has elements, and all of them are known to be zero.

    Example:
        >>> is_zero(TensorSummary((2,), "float32", "cpu", values=(0.0, 0.0)))
        True
    """
    if summary.values is not None:
        return bool(summary.values) and not any(summary.values)
    return summary.norm == 0


def is_loud(summary: TensorSummary) -> bool:
    """Whether the tensor is remarkable: NaN, infinities, or only zeros."""
    return not summary.is_finite or is_zero(summary)


Path = tuple[str, ...]
"""The parts of a module path: ``("encoder", "layers", "3")``; ``()`` for the model itself."""


def shared(one: Path, other: Path) -> Path:
    """The common prefix of two paths.

    Example:
        >>> shared(("h", "3", "attn"), ("h", "3", "mlp"))
        ('h', '3')
    """
    return shared_by([one, other])


def shared_by(paths: Sequence[Path]) -> Path:
    """The common prefix of all paths."""
    if not paths:
        return ()
    low, high = min(paths), max(paths)  # their common prefix is that of all paths
    same = [a == b for a, b in zip(low, high, strict=False)]
    return low[: [*same, False].index(False)]


_OF_DATA_PARALLEL = ("DataParallel", "DistributedDataParallel")
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
WRAPPING_CLASSES = frozenset(
    ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "PipelineParallel")
)
"""Classes of modules whose only child, ``module``, is the user's model."""
_OUTERMOST = "module"  # Of DataParallel and similar; deeper it may be a name of the user's.


def plain_name(name: str, owner: str = "") -> str:
    """The name of a parameter without what wrappers put into it.

    Args:
        name: as ``named_parameters`` gives it.
        owner: the class of the module whose parameter it is.

    Example:
        >>> plain_name("_fsdp_wrapped_module.0.weight"), plain_name("module.fc.bias")
        ('0.weight', 'module.fc.bias')
        >>> plain_name("module.fc.bias", "DistributedDataParallel")
        'fc.bias'
    """
    if owner in _OF_DATA_PARALLEL:
        name = name.removeprefix(f"{_OUTERMOST}.")
    if "._" not in name and not name.startswith("_"):
        return name
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS) or name


def as_code(name: str) -> str:
    """A name as a program writes it.

    Example:
        >>> as_code("net.0.weight"), as_code("p.größe w"), as_code("0.weight")
        ('net[0].weight', 'p["größe w"]', 'model[0].weight')
    """
    name = f"model.{name}" if name.partition(".")[0].isdigit() else name  # of its own variable
    head, bracket, rest = name.rpartition("]")
    first, *parts = rest.split(".")
    if not (bracket or first.isidentifier()):  # a path without the variable of its module
        return name
    for each in parts:
        quoted = each if each.isdigit() else json.dumps(each, ensure_ascii=False)
        first += f".{each}" if each.isidentifier() else f"[{quoted}]"
    return head + bracket + first


def without_wrappers(parts: Sequence[str], is_wrapped: bool = True) -> Path:
    """The path without the parts that wrappers add (``torch.compile``, ``DataParallel``, ...).

    Args:
        parts: the path as ``named_modules`` gives it, split at the dots.
        is_wrapped: whether the outermost module can be such a wrapper; else ``module`` is a name
            of the user's.

    Example:
        >>> without_wrappers(["module", "_orig_mod", "layers", "3"])
        ('layers', '3')
        >>> without_wrappers(["module", "layers", "3"], is_wrapped=False)
        ('module', 'layers', '3')
    """
    path = tuple(part for part in parts if part not in _WRAPPERS)
    return path[1:] if is_wrapped and path[:1] == (_OUTERMOST,) else path
