"""Something was done with what is no tensor: a number, an array, a ``.grad`` that is None."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.held import UNKNOWN, value_of, variables_of
from gradviz.diagnosis.lines import code_of, mention
from gradviz.diagnosis.trouble import Trouble
from gradviz.diagnosis.verdict import Verdict
from gradviz.story import Event, EventKind

__all__ = ["explain_no_grad_yet", "explain_no_tensor"]

_NUMBERS = re.compile(r"(u?int|float|complex)\d*|bool_?|ndarray")


def explain_no_tensor(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """``backward`` of a number, an array or None; or ``requires_grad_``, or ``retain_grad``."""
    kind, attribute = found["kind"].rpartition(".")[2], found["attribute"]
    called = rf"(?<![\w.)\]\"'])([A-Za-z_][\w.]*)\.{attribute}\b"
    names = set(re.findall(called, code_of(trouble.line)))
    what = f"{names.pop()}, " if len(names) == 1 else ""
    reason = f"{attribute}(){trouble.at} was called on {what}"
    evidence: list[str] = []
    if kind == "NoneType":
        reason += "None: what should have made it has returned nothing"
        fix = "let the function, or forward, end in return loss"
        return trouble.answer(Verdict.NOT_A_TENSOR, reason, fix)
    reason += (
        "an array" if kind == "ndarray" else f"{'an' if kind[0] in 'aeioAEIO' else 'a'} {kind}"
    )
    is_number = _NUMBERS.fullmatch(kind) is not None
    if kind in ("tuple", "list", "dict"):
        reason += " of results, not one tensor" if attribute == "backward" else ", not a tensor"
        fix = "take the loss out of it: loss, logits = model(x), or output.loss"
    elif is_number:
        reason += ", which carries no graph"
        if exits := _exits(trouble):
            reason += f"; numbers were taken out at {mention(exits[-1].source)}"
            evidence = [exits[-1].source]
        fix = "keep it a tensor up to backward: leave out item(), float() and numpy(); for a "
        fix += "printout take loss.item() beside it"
    else:
        reason += ", which is no tensor"
        fix = (
            f"call it on a tensor: on what the model returns, model(x).sum().{attribute}(), or on "
        )
        fix += f"one that the object holds, output.loss.{attribute}()"
    if attribute != "backward" and (is_number or kind in ("tuple", "list")):
        fix = "make it a tensor: torch.tensor(x, dtype=torch.float32, requires_grad=True)"
    return trouble.answer(Verdict.NOT_A_TENSOR, reason, fix, evidence)


def _exits(trouble: Trouble) -> Sequence[Event]:
    words = ("item", "tolist", "float", "int", "numpy", "complex", "index")
    return [
        event
        for event in trouble.moment.happened(EventKind.CUT)
        if event.word in words and event.source
    ]


def explain_no_grad_yet(trouble: Trouble, found: re.Match[str]) -> Explanation | None:
    """Something was done with a ``.grad`` that is None; None when it may be another None."""
    tree = _parsed(code_of(trouble.line))
    if tree is None:
        return None
    suspects = {ast.unparse(each): each for each in _suspects(tree, trouble.message)}
    if trouble.error is not None:
        held = variables_of(trouble.error)
        values = {code: value_of(each, held) for code, each in suspects.items() if held}
        suspects = {
            code: suspects[code] for code, it in values.items() if it is None or it is UNKNOWN
        }
    if len(suspects) != 1:
        return None
    (suspect,) = suspects.values()
    if not isinstance(suspect, ast.Attribute) or suspect.attr != "grad":
        return None
    name = ast.unparse(suspect.value)
    reason = f"{name}.grad is None{trouble.at}: no backward pass has added to it, or it was cleared"
    fix = f"gradviz.explain({name}, loss) tells which; in a loop: if {name}.grad is not None"
    return trouble.answer(Verdict.NOT_A_TENSOR, reason, fix)


def _parsed(code: str) -> ast.Module | None:
    """The line alone; one that begins a block is given an empty one."""
    for text in (code, f"{code} pass"):
        try:
            return ast.parse(text)
        except SyntaxError:
            continue
    return None


_OPERATORS = {
    **{
        "+": ast.Add,
        "-": ast.Sub,
        "*": ast.Mult,
        "/": ast.Div,
        "//": ast.FloorDiv,
        "@": ast.MatMult,
    },
    **{"%": ast.Mod, "** or pow()": ast.Pow, "|": ast.BitOr, "&": ast.BitAnd, "^": ast.BitXor},
}
_ABLE = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)  # to be None


def _suspects(tree: ast.Module, message: str) -> Iterator[ast.expr]:
    """The expressions in a line that may have been the None that a message tells of."""
    attribute = re.search(r"'NoneType' object has no attribute '(\w+)'", message)
    operator = re.search(r"for (.+?)(=?): '(\S+)' and '(\S+)'", message)
    for node in ast.walk(tree):
        found: list[ast.expr] = []
        if attribute:
            if isinstance(node, ast.Attribute) and node.attr == attribute[1]:
                found = [node.value]
        elif operator:
            kind = _OPERATORS.get(operator[1], ast.operator)
            if isinstance(node, ast.BinOp) and isinstance(node.op, kind) and not operator[2]:
                sides = [node.left, node.right]
            elif isinstance(node, ast.AugAssign) and isinstance(node.op, kind) and operator[2]:
                sides = [node.target, node.value]
            else:
                continue
            found = [
                side
                for side, name in zip(sides, operator.groups()[2:], strict=True)
                if name == "NoneType"
            ]
        elif isinstance(node, ast.Call):
            found = [*node.args, *(each.value for each in node.keywords)]
        elif isinstance(node, ast.List | ast.Tuple):
            found = node.elts
        elif isinstance(node, ast.ListComp | ast.GeneratorExp):
            found = [node.elt]
        yield from (each for each in found if isinstance(each, _ABLE))
