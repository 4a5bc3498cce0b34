"""Every rule of `explain`, in the order in which they are tried; this is the documentation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gradviz.diagnosis.answers import Group
from gradviz.diagnosis.error_rules import ERROR_RULES
from gradviz.diagnosis.gradient import hook_on_tensor, hooks_that_broke_it, last_rules, sparse
from gradviz.diagnosis.no_gradient import connected_rules, event_rules, other_tensor_rules
from gradviz.diagnosis.non_finite import non_finite_rules
from gradviz.diagnosis.not_connected import not_connected_rules
from gradviz.diagnosis.rule import Rule
from gradviz.diagnosis.training import first_training_rules, training_rules, unseen
from gradviz.diagnosis.zeros import zero_rules

__all__ = ["RULES", "describe", "rules"]

RULES: tuple[Rule[Any, Any], ...] = (
    *first_training_rules,
    *event_rules,
    *connected_rules,
    *not_connected_rules,
    *other_tensor_rules,
    sparse,
    hook_on_tensor,
    hooks_that_broke_it,
    *non_finite_rules,
    *zero_rules,
    *training_rules,
    *last_rules,
    unseen,
    *ERROR_RULES,
)


@lru_cache
def rules(group: Group) -> tuple[Rule[Any, Any], ...]:
    """The rules of a group, in order.

    Args:
        group: of the subject: a missing gradient, a gradient, or an error. The rules about training
            are included in the first two.
    """
    groups = (group,) if group is Group.ERROR else (group, Group.TRAINING)
    return tuple(rule for rule in RULES if rule.verdict.group in groups and rule is not unseen)


def describe() -> str:
    """The list of rules as text: order, verdict, name, and what each needs.

    Example:
        >>> print(describe().splitlines()[7])
          8. cleared                    the gradient was cleared after backward (a recording)
    """
    return "\n".join(
        f"{number:3}. {rule.verdict.value:26} {rule.name} ({rule.needs.value})"
        for number, rule in enumerate(RULES, 1)
    )
