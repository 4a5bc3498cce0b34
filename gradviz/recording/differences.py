"""What was added to a gradient, or what a hook made of it: in few characters."""

from __future__ import annotations

from gradviz.graph import TensorSummary

__all__ = ["added", "altered"]

_FEW = 4


def added(before: TensorSummary | None, after: TensorSummary | None) -> str:
    """What was added, in few characters: one number, a few, or the norms.

    Example:
        >>> three = TensorSummary((2,), "float32", "cpu", values=(3.0, 3.0), norm=4.24)
        >>> added(None, three), added(three, TensorSummary((2,), "float32", "cpu", (6.0, 6.5)))
        ('+3', '+[3 3.5]')
        >>> added(None, TensorSummary((9,), "float32", "cpu", norm=0.5, min=0.0, max=0.3))
        'norm 0.5'
    """
    if after is None:
        return "added to"
    differences = _differences(before, after)
    if differences and all(each == differences[0] for each in differences):
        return _signed(differences[0])
    if differences and len(differences) <= _FEW:
        return f"+[{' '.join(map(_short, differences))}]"
    if after.norm is None:
        return "added to"
    if before is None or before.norm is None:
        return f"norm {_short(after.norm)}"
    return f"norm {_short(before.norm)} → {_short(after.norm)}"


def altered(before: TensorSummary | None, after: TensorSummary | None) -> str:
    """What a hook made of a gradient, in few characters; "" if it reads the same.

    Example:
        >>> one, ten = (TensorSummary((2,), "float32", "cpu", (v, v), v) for v in (1.0, 10.0))
        >>> altered(one, ten), altered(one, None), altered(one, one)
        ('1 → 10', '1 → None', '')
    """
    if repr(before) == repr(after):  # NaN is not equal to itself
        return ""
    old, new = _brief(before), _brief(after)
    return f"{old} → {new}" if old != new else "changed"


def _brief(summary: TensorSummary | None) -> str:
    if summary is None:
        return "None"
    values = summary.values or _constant(summary)
    if values and len({*map(repr, values)}) == 1:
        return _short(values[0])
    if summary.values and len(values) <= _FEW:
        return f"[{' '.join(map(_short, values))}]"
    if summary.nan or summary.inf:
        counts = ((summary.nan, "NaN"), (summary.inf, "infinite"))
        return ", ".join(f"{count} {word}" for count, word in counts if count)
    return "a gradient" if summary.norm is None else f"norm {_short(summary.norm)}"


def _differences(
    before: TensorSummary | None, after: TensorSummary
) -> list[float | int | bool | complex]:
    """What was added to each element, or once for all when they are all alike."""
    new = after.values or _constant(after)
    old = (0.0,) * len(new) if before is None else before.values or _constant(before)
    return [a - b for a, b in zip(new, old, strict=False)] if len(new) == len(old) else []


def _constant(summary: TensorSummary) -> tuple[float, ...]:
    is_constant = summary.min is not None and summary.min == summary.max
    if is_constant and not summary.nan and not summary.inf and summary.min is not None:
        return (summary.min,)
    return ()


def _short(number: complex) -> str:
    return f"{number:.4g}"


def _signed(number: complex) -> str:
    text = _short(number)
    return text if text.startswith("-") else f"+{text}"
