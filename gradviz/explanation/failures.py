"""Errors of autograd in plain words: which tensor, which line, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradviz.explanation.answers import Explanation
from gradviz.explanation.in_place import explain_in_place
from gradviz.explanation.lines import line_of, mention
from gradviz.explanation.missing import RECORD, cut_words, fix_of_cut, lost_on_the_way
from gradviz.explanation.moment import Moment, listed
from gradviz.explanation.subjects import Asked
from gradviz.explanation.trouble import Trouble
from gradviz.explanation.used_up import explain_used_up
from gradviz.explanation.verdict import Verdict
from gradviz.graph import NodeKind

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

__all__ = ["explain_error"]


def explain_error(asked: Asked, names: Names) -> Explanation:
    """Explain an exception, or the one that ended a recording."""
    trouble = _trouble(asked, names)
    for kind in _KINDS:
        found = re.search(kind.pattern, trouble.message)
        if found:
            return kind.explain(trouble, found)
    reason = trouble.message.partition("\n")[0][:200] or "it has no message"
    return trouble.answer(Verdict.OTHER_ERROR, f"{reason}{trouble.at}")


def _trouble(asked: Asked, names: Names) -> Trouble:
    from gradviz.explanation.live import look, names_of

    called = names_of(names)
    tensors = [each for each in asked.tensors if id(each) not in asked.parameters]
    unused: tuple[str, ...] = ()
    if asked.recording is not None:
        frames, events = asked.recording.frames, asked.recording.events
        failed = [
            frame
            for frame in frames
            if any("problem" in d for _, d in frame.graph.nodes(data=True))
        ]
        graph = (failed or frames)[-1].graph
        passed = [frame.graph for frame in frames if frame.title.startswith("after ")]
        moment = Moment(graph, tuple(graph.roots), events, passed[-1] if passed else None)
    else:
        moment, _ = look(Asked(roots=tensors), names)
    if asked.error is not None and asked.parameters and tensors:
        live, questions = look(Asked(asked.tensors, asked.parameters, roots=tensors), names)
        unused = tuple(
            each.name for each in questions if each.is_parameter and not live.way(each.key)
        )
    if asked.error is not None:
        kind, message = type(asked.error).__name__, str(asked.error)
        line = line_of(asked.error)
    else:
        event = asked.errors[-1]
        kind, message, line = event.word, event.detail, event.source
    own = [called.get(id(each), "") for each in tensors]
    return Trouble(kind, message, line, moment, tuple(own), unused)


# One function per kind of error.


def _no_graph(trouble: Trouble, found: re.Match[str]) -> Explanation:
    graph = trouble.moment.graph
    untracked = [
        key for key in trouble.moment.roots if graph.nodes[key]["kind"] is NodeKind.UNTRACKED
    ]
    if not untracked:
        reason = f"backward was called{trouble.at} on a tensor that no operation was recorded for"
        return trouble.answer(Verdict.NO_GRAPH, reason, RECORD)
    key = untracked[0]
    data = graph.nodes[key]
    name = data.get("name") or "the tensor"
    began = f"backward{trouble.at} starts from {name}, which does not require grad"
    if not data.get("dtype", "float").startswith(("float", "bfloat", "complex")):
        fix = (
            f"make it floating point, and compute it so: {name}.float() alone brings no graph back"
        )
        reason = f"{began}: it is {data['dtype']}, which has no gradient"
        return trouble.answer(Verdict.NO_GRAPH, reason, fix, [key], key)
    if cut := lost_on_the_way(graph, key):
        reason = f"{began}: its data was cut off by {cut_words(graph, cut)}"
        evidence = [cut.target, cut.edge.get("source", "")]
        return trouble.answer(Verdict.NO_GRAPH, reason, fix_of_cut(cut), evidence, cut.target)
    if data.get("inference"):
        reason = f"{began}: it was made under inference_mode"
        fix = "run the forward pass outside of torch.inference_mode()"
        return trouble.answer(Verdict.NO_GRAPH, reason, fix, [key], key)
    if trouble.moment.is_recorded:
        reason = f"{began}: nothing that it was computed from does"
        fix = "let a leaf require grad before the forward pass: w.requires_grad_()"
        return trouble.answer(Verdict.NO_GRAPH, reason, fix, [key], key)
    reason = f"{began}: its leaves do not, or it was cut off; which of them was not recorded"
    return trouble.answer(Verdict.NO_GRAPH, reason, RECORD, [key], key)


def _not_scalar(trouble: Trouble, found: re.Match[str]) -> Explanation:
    graph = trouble.moment.graph
    roots = [key for key in trouble.moment.roots if graph.nodes[key].get("shape") != ()]
    name, shape, key = "the result", "", ""
    if len(roots) == 1:
        key = roots[0]
        name = graph.nodes[key].get("name") or name
        shape = f" of shape {list(graph.nodes[key].get('shape', ()))}"
    reason = f"backward{trouble.at} starts from {name}{shape}, not from one number"
    called = name if key and name != "the result" else "loss"
    fix = f"reduce it: {called}.mean().backward(); or give a gradient: "
    fix += f"{called}.backward(torch.ones_like({called}))"
    return trouble.answer(Verdict.NOT_SCALAR, reason, fix, [key], key)


def _leaf_changed(trouble: Trouble, found: re.Match[str]) -> Explanation:
    what = "a view of a leaf" if "view" in found[0] else "a leaf"
    reason = (
        f"{what} that requires grad was changed in place{trouble.at}, which autograd cannot record"
    )
    fix = "to update it: with torch.no_grad(): around that line; to compute: work on w.clone()"
    return trouble.answer(Verdict.LEAF_CHANGED, reason, fix)


def _inference(trouble: Trouble, found: re.Match[str]) -> Explanation:
    reason = f"a tensor made under inference_mode was used where autograd records{trouble.at}"
    made = [
        data.get("source", "")
        for _, data in trouble.moment.graph.nodes(data=True)
        if data.get("inference") and data.get("source")
    ]
    if made:
        reason += f"; it was made at {mention(made[-1])}"
    fix = "make it under torch.no_grad() instead, or use a copy: x = x.clone()"
    return trouble.answer(Verdict.INFERENCE_USED, reason, fix, made[-1:])


def _not_used(trouble: Trouble, found: re.Match[str]) -> Explanation:
    moment = trouble.moment
    roots = [key for key in moment.roots if moment.graph.nodes[key]["kind"] is NodeKind.RESULT]
    stray = [
        moment.graph.nodes[key].get("name", "one of them")
        for key in moment.roots
        if roots and key not in Moment(moment.graph, (roots[0],)).below_roots
    ]
    number = re.search(r"at index (\d+)", trouble.message)
    who = listed(stray) if stray else f"inputs[{number[1]}]" if number else "one of the inputs"
    what = moment.graph.nodes[roots[0]].get("name", "the output") if roots else "the output"
    reason = (
        f"torch.autograd.grad{trouble.at} was asked for {who}, to which no way leads from {what}"
    )
    fix = "compute the output from it, or pass allow_unused=True, which gives None for it"
    return trouble.answer(Verdict.NOT_USED, reason, fix)


def _unused_parameters(trouble: Trouble, found: re.Match[str]) -> Explanation:
    reason = "DistributedDataParallel waits for gradients of parameters that the loss did not use"
    if trouble.unused:
        reason += f": {listed(trouble.unused)}"
    else:
        indices = re.search(r"did not receive grad for rank \d+: ([\d ]+)", trouble.message)
        reason += (
            f": numbers {', '.join(indices[1].split())} of model.parameters()" if indices else ""
        )
    fix = (
        "use them in the loss or remove them; or "
        "DistributedDataParallel(model, find_unused_parameters=True)"
    )
    return trouble.answer(Verdict.UNUSED_PARAMETERS, f"{reason}{trouble.at}", fix)


def _wrong_gradient(trouble: Trouble, found: re.Match[str]) -> Explanation:
    who = found["name"].removesuffix("Backward").removesuffix("Backward0")
    reason = (
        f"the backward of {who} returned for input {found['index']} what does not fit it: "
        f"{found['got']}, where {found['expected']} is needed{trouble.at}"
    )
    is_shape = "shape" in found["expected"]
    fix = (
        f"return a gradient shaped like input {found['index']}: sum over what was broadcast"
        if is_shape
        else f"return a gradient like input {found['index']}: grad.to(input)"
    )
    return _of_function(trouble, found["name"], reason, fix)


def _wrong_count(trouble: Trouble, found: re.Match[str]) -> Explanation:
    who = found["name"].removesuffix("Backward")
    reason = (
        f"the backward of {who} returned {found['got']} gradients "
        f"for {found['expected']} inputs of its forward{trouble.at}"
    )
    fix = "return one for each input of forward after ctx, None for what needs no gradient"
    return _of_function(trouble, found["name"], reason, fix)


def _of_function(trouble: Trouble, name: str, reason: str, fix: str) -> Explanation:
    """Point to the node of a ``Function``, when there is one alone."""
    nodes = [k for k, d in trouble.moment.graph.nodes(data=True) if d.get("grad_fn") == name]
    key = nodes[0] if len(nodes) == 1 else ""
    line = trouble.moment.graph.nodes[key].get("source", "") if key else ""
    if line:
        reason += f"; it was applied at {mention(line)}"
    return trouble.answer(Verdict.WRONG_BACKWARD, reason, fix, [key, line], key)


def _plain(
    verdict: Verdict, reason: str, fix: str
) -> Callable[[Trouble, re.Match[str]], Explanation]:
    """An error that is told from its message and line alone."""

    def explain(trouble: Trouble, found: re.Match[str]) -> Explanation:
        return trouble.answer(verdict, f"{reason}{trouble.at}", fix)

    return explain


@dataclass(frozen=True)
class _Kind:
    pattern: str
    explain: Callable[[Trouble, re.Match[str]], Explanation]


_KINDS: Sequence[_Kind] = (
    _Kind(r"element \d+ of (tensors|variables) does not require grad", _no_graph),
    _Kind(r"backward through the graph a second time|freed (by|before)", explain_used_up),
    _Kind(r"modified by an inplace operation|needs .* as it was at version", explain_in_place),
    _Kind(r"implicitly created only for scalar outputs", _not_scalar),
    _Kind(
        r"(a view of )?a leaf Variable that requires grad is being used in an in-place",
        _leaf_changed,
    ),
    _Kind(
        r"Inference tensors cannot be saved|[Ii]nference tensor.* outside InferenceMode", _inference
    ),
    _Kind(r"differentiated Tensors? .*appears? to not have been used", _not_used),
    _Kind(r"Expected to have finished reduction in the prior iteration", _unused_parameters),
    _Kind(
        r"Function (?P<name>\w+) returned an invalid gradient at index (?P<index>\d+) - (?=.*"
        r"(?P<got>got (?:.(?! but))*.))(?=.*(?P<expected>expected (?:.(?! but))*.))",
        _wrong_gradient,
    ),
    _Kind(
        r"function (?P<name>\w+) returned an incorrect number of gradients \(expected "
        r"(?P<expected>\d+), got (?P<got>\d+)\)",
        _wrong_count,
    ),
    _Kind(
        r"[Oo]nly Tensors of floating point( and complex)? dtype can require gradients",
        _plain(
            Verdict.NOT_FLOATING,
            "integers and booleans have no gradient, and requires_grad was asked of them",
            "make them floating point: torch.tensor([1, 2], dtype=torch.float32)",
        ),
    ),
    _Kind(
        r"you can only change requires_grad flags of leaf variables",
        _plain(
            Verdict.NOT_A_LEAF,
            "requires_grad was switched off on the result of an operation",
            "cut it off instead: h = h.detach()",
        ),
    ),
    _Kind(
        r"Can't call numpy\(\) on Tensor that requires grad",
        _plain(
            Verdict.NUMPY,
            "numpy cannot record gradients, and the tensor has one to record",
            "for its values alone: x.detach().numpy(); to keep the gradient, stay with torch",
        ),
    ),
)
