"""Every rule of `explain`, in the order in which they are tried."""

from __future__ import annotations

from typing import Any

from gradviz.diagnosis.error_rules import ERROR_RULES
from gradviz.diagnosis.rule import Rule
from gradviz.diagnosis.verdict import Group

__all__ = ["describe", "rules"]


def rules(group: Group | None = None) -> tuple[Rule[Any, Any], ...]:
    """The rules in order: of a group, or all.

    Args:
        group: those about a missing gradient, a gradient, or an error; None for all of them.
    """
    found: tuple[Rule[Any, Any], ...] = ERROR_RULES
    return tuple(rule for rule in found if group in (None, rule.verdict.group))


def describe() -> str:
    """The list of rules as text: the order, what each needs, its verdict and its name."""
    lines = []
    for group in Group:
        lines.append(f"{group.value}:")
        lines += [
            f"  {number:3}. {rule.verdict.value:24} {rule.name} (needs {rule.needs.value})"
            for number, rule in enumerate(rules(group), 1)
        ]
    return "\n".join(lines)
