"""Errors of autograd in plain words: which tensor, which line, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context as Moment
from gradviz.diagnosis.context import listed
from gradviz.diagnosis.custom_backward import (
    explain_raised,
    explain_wrong_count,
    explain_wrong_gradient,
)
from gradviz.diagnosis.cuts import cut_words, fix_of_cut, lines_of, lost_on_the_way
from gradviz.diagnosis.held import module_of, result_of
from gradviz.diagnosis.in_place import explain_in_place
from gradviz.diagnosis.lines import line_of, mention
from gradviz.diagnosis.misused import KINDS
from gradviz.diagnosis.no_gradient import RECORD
from gradviz.diagnosis.refused import (
    explain_inference,
    explain_leaf_changed,
    explain_no_leaf,
    explain_view,
    plainly,
)
from gradviz.diagnosis.subjects import Asked
from gradviz.diagnosis.trouble import ResultOrigin, Trouble
from gradviz.diagnosis.used_up import explain_used_up
from gradviz.diagnosis.verdict import Verdict
from gradviz.graph import GradGraph, NodeKind
from gradviz.story import Event, EventKind

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

__all__ = ["explain_error"]


def explain_error(asked: Asked, names: Names) -> Explanation:
    """Explain an exception, or the one that ended a recording."""
    trouble = _trouble(asked, names)
    for pattern, explain in (*_KINDS, *KINDS):
        found = re.search(pattern, trouble.message)
        if found and (told := explain(trouble, found)):
            return told
    if told := explain_raised(trouble):
        return told
    reason = trouble.message.partition("\n")[0][:200] or "it has no message"
    return trouble.answer(Verdict.OTHER_ERROR, f"{reason}{trouble.at}")


def _trouble(asked: Asked, names: Names) -> Trouble:
    from gradviz.diagnosis.reading import look, names_of

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
        passed = [frame.graph for frame in frames if frame.kind.value.startswith("after ")]
        roots = tuple(_roots_of(asked, tensors, graph))
        moment = Moment(graph, roots, events, frames, passed[-1] if passed else None)
        if tensors and not graph:
            moment = replace(look(Asked(roots=tensors), names)[0], events=events)
    else:
        moment, _ = look(Asked(roots=tensors), names)
    if asked.error is not None and asked.parameters and tensors:
        live, questions = look(Asked(asked.tensors, asked.parameters, roots=tensors), names)
        unused = tuple(
            each.name for each in questions if each.is_parameter and not live.is_reachable(each.key)
        )
    if asked.error is not None:
        kind, message = type(asked.error).__name__, str(asked.error)
        line = line_of(asked.error)
    else:
        event = asked.errors[-1]
        kind, message, line = event.word, event.detail, event.source
    own = [called.get(id(each), "") for each in tensors]
    origin = _origin(asked, called, dict(zip(map(id, tensors), moment.roots, strict=False)))
    return Trouble(kind, message, line, moment, tuple(own), unused, asked.error, origin)


def _roots_of(asked: Asked, tensors: Sequence[Any], graph: GradGraph) -> list[str]:
    """What backward started from, or the tensor that something else was asked of."""
    found = [key for each in tensors if (key := asked.recording.key_of(each, graph)) in graph]
    if found or graph.roots:
        return found or graph.roots
    name = asked.errors[-1].name if asked.errors else ""
    return [key for key, data in graph.nodes(data=True) if name and data.get("name") == name]


def _origin(asked: Asked, called: dict[int, str], keys: dict[int, str]) -> ResultOrigin:
    """Where the result came from that torch has refused, if the traceback still holds it."""
    tensor = result_of(asked.error)
    if tensor is None:
        return ResultOrigin()
    from gradviz.graph.operations import forward_word

    name, op = called.get(id(tensor), ""), forward_word(tensor.grad_fn.name())
    if asked.recording is not None and (event := asked.recording._event_of(tensor)):
        return ResultOrigin(name or event.name, event.word, event.source, event.node)
    return ResultOrigin(name, op, "", keys.get(id(tensor), ""))


# One function per kind of error.


def _no_graph(trouble: Trouble, found: re.Match[str]) -> Explanation:
    graph = trouble.moment.graph
    untracked = [
        key for key in trouble.moment.roots if graph.nodes[key]["kind"] is NodeKind.UNTRACKED
    ]
    if not untracked:
        asked = _asked_of(found)
        reason = f"{asked} was called{trouble.at} on a tensor that no operation was recorded for"
        return trouble.answer(Verdict.NO_GRAPH, reason, RECORD)
    key = untracked[0]
    data = graph.nodes[key]
    name = data.get("name") or "the tensor"
    began = f"backward{trouble.at} starts from {name}, which does not require grad"
    if (asked := _asked_of(found)) != "backward":
        began = f"{asked} was called{trouble.at} on {name}, which does not require grad"
    if not data.get("dtype", "float").startswith(("float", "bfloat", "complex")):
        fix = (
            f"make it floating point, and compute it so: {name}.float() alone brings no graph back"
        )
        reason = f"{began}: it is {data['dtype']}, which has no gradient"
        return trouble.answer(Verdict.NO_GRAPH, reason, fix, [key], key)
    if cut := lost_on_the_way(graph, key):
        reason = f"{began}: its data was cut off by {cut_words(trouble.moment, cut)}"
        evidence = [cut.target, *map(str, lines_of(trouble.moment, cut))]
        return trouble.answer(
            Verdict.NO_GRAPH, reason, fix_of_cut(trouble.moment, cut), evidence, cut.target
        )
    if data.get("inference"):
        reason = f"{began}: it was made under inference_mode"
        fix = "run the forward pass outside of torch.inference_mode()"
        return trouble.answer(Verdict.NO_GRAPH, reason, fix, [key], key)
    if trouble.moment.is_recorded:
        if applied := _applied(trouble):
            reason = (
                f"{began}: nothing that it was computed from does. {applied.name or 'A tensor'} "
                f"came from a Function at {mention(applied.source)}: that looks at its inputs "
                "alone, not at parameters used inside, as in a reentrant checkpoint"
            )
            fix = "checkpoint(..., use_reentrant=False); or let an input of it require grad"
            evidence = [key, applied.source]
            return trouble.answer(Verdict.NO_GRAPH, reason, fix, evidence, key)
        reason = f"{began}: nothing that it was computed from does"
        fix = "let a leaf require grad before the forward pass: w.requires_grad_()"
        return trouble.answer(Verdict.NO_GRAPH, reason, fix, [key], key)
    reason = f"{began}: its leaves do not, or it was cut off; which of them was not recorded"
    return trouble.answer(Verdict.NO_GRAPH, reason, RECORD, [key], key)


def _asked_of(found: re.Match[str]) -> str:
    if "retain_grad" in found[0]:
        return "retain_grad()"
    return "register_hook()" if "hook" in found[0] else "backward"


def _applied(trouble: Trouble) -> Event | None:
    """The last call of a ``Function`` to which no gradient will come back."""
    found = [
        event
        for event in trouble.moment.happened(EventKind.OPERATION)
        if event.word == "apply" and not event.node and event.source
    ]
    return found[-1] if found else None


def _not_scalar(trouble: Trouble, found: re.Match[str]) -> Explanation:
    graph = trouble.moment.graph
    roots = [key for key in trouble.moment.roots if graph.nodes[key].get("shape") != ()]
    name, shape, key = "the result", "", ""
    if len(roots) == 1:
        key = roots[0]
        name = graph.nodes[key].get("name") or name
        shape = f" of shape {list(graph.nodes[key].get('shape', ()))}"
    if "complex" in trouble.message:
        reason = f"backward{trouble.at} starts from {name}, which is complex, not one real number"
        fix = "make it real: loss.abs().backward(), or loss.real.backward()"
        return trouble.answer(Verdict.NOT_SCALAR, reason, fix, [key], key)
    reason = f"backward{trouble.at} starts from {name}{shape}, not from one number"
    called = name if key and name != "the result" else "loss"
    fix = f"reduce it: {called}.mean().backward(); or give a gradient: "
    fix += f"{called}.backward(torch.ones_like({called}))"
    return trouble.answer(Verdict.NOT_SCALAR, reason, fix, [key], key)


def _not_used(trouble: Trouble, found: re.Match[str]) -> Explanation:
    moment = trouble.moment
    roots = [key for key in moment.roots if moment.graph.nodes[key]["kind"] is NodeKind.RESULT]
    stray = [
        moment.graph.nodes[key].get("name", "one of them")
        for key in moment.roots
        if roots and key not in Moment(moment.graph, (roots[0],)).behind_roots
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
    elif indices := re.search(r"did not receive grad for rank \d+: ([\d ]+)", trouble.message):
        reason += f": {_parameters(trouble, [int(each) for each in indices[1].split()])}"
    fix = (
        "use them in the loss or remove them; or "
        "DistributedDataParallel(model, find_unused_parameters=True)"
    )
    return trouble.answer(Verdict.UNUSED_PARAMETERS, f"{reason}{trouble.at}", fix)


def _parameters(trouble: Trouble, indices: Sequence[int]) -> str:
    """Those parameters by name, when the traceback still holds the model."""
    parallel = module_of(trouble.error, "DistributedDataParallel")
    if parallel is not None:
        trained = [n for n, each in parallel.module.named_parameters() if each.requires_grad]
        if max(indices) < len(trained):
            return listed([trained[index] for index in indices])
    return f"numbers {', '.join(map(str, indices))} of model.parameters()"


def _not_finite(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """Anomaly mode has found NaN in what the backward of an operation returned."""
    from gradviz.graph.operations import forward_word

    graph, name = trouble.moment.graph, found["name"]
    nodes = [key for key, data in graph.nodes(data=True) if data.get("grad_fn") == name]
    key = nodes[0] if len(nodes) == 1 else ""
    line = graph.nodes[key].get("source", "") if key else ""
    where = f" at {mention(line)}" if line else ""
    reason = f"backward{trouble.at} came to {forward_word(name)}{where}, which made NaN of the "
    reason += f"gradient of its input {found['index']}"
    fix = "keep that input away from where the slope is infinite: add a small number, or clamp it"
    return trouble.answer(Verdict.NAN_RETURNED, reason, fix, [key, line], key)


_KINDS: Sequence[tuple[str, Callable[[Trouble, re.Match[str]], Explanation]]] = (
    (
        r"element \d+ of (tensors|variables) does not require grad|"
        r"can't retain_grad on Tensor that has|cannot register a hook on a tensor that doesn't",
        _no_graph,
    ),
    (r"backward through the graph a second time|freed (by|before)", explain_used_up),
    (r"modified by an inplace operation|needs .* as it was at version", explain_in_place),
    (r"implicitly created only for (real )?scalar outputs", _not_scalar),
    (r"Function '(?P<name>\w+)' returned nan values in its (?P<index>\d+)th", _not_finite),
    (
        r"(a view of )?a leaf Variable that requires grad is being used in an in-place",
        explain_leaf_changed,
    ),
    (
        r"Inference tensors cannot be saved|[Ii]nference tensor.* outside InferenceMode",
        explain_inference,
    ),
    (r"view.*modified inplace|Can't detach views in-place", explain_view),
    (r"(?P<deed>can't optimize a non-leaf|support the deepcopy protocol)", explain_no_leaf),
    (
        r"differentiated Tensors does not require grad",
        plainly(
            Verdict.NOT_USED,
            "torch.autograd.grad was asked for an input that does not require grad",
            "let it require grad before the output is computed: x.requires_grad_()",
        ),
    ),
    (r"differentiated Tensors? .*appears? to not have been used", _not_used),
    (r"Expected to have finished reduction in the prior iteration", _unused_parameters),
    (
        r"Function (?P<name>\w+) returned an invalid gradient at index (?P<index>\d+) - (?=.*"
        r"(?P<got>got (?:.(?! but))*.))(?=.*(?P<expected>expected (?:.(?! but))*.))",
        explain_wrong_gradient,
    ),
    (
        r"function (?P<name>\w+) returned an incorrect number of gradients \(expected "
        r"(?P<expected>\d+), got (?P<got>\d+)\)",
        explain_wrong_count,
    ),
    (
        r"must implement either the backward or vjp method",
        plainly(
            Verdict.WRONG_BACKWARD,
            "backward came to a Function that has no backward",
            "write one: @staticmethod def backward(ctx, *grads)",
        ),
    ),
    (
        r"[Oo]nly Tensors of floating point( and complex)? dtype can require gradients",
        plainly(
            Verdict.NOT_FLOATING,
            "integers and booleans have no gradient, and requires_grad was asked of them",
            "make them floating point: torch.tensor([1, 2], dtype=torch.float32)",
        ),
    ),
    (
        r"you can only change requires_grad flags of leaf variables",
        plainly(
            Verdict.NOT_A_LEAF,
            "requires_grad was switched off on the result of an operation",
            "cut it off instead: h = h.detach()",
        ),
    ),
    (
        r"Can't call numpy\(\) on Tensor that requires grad",
        plainly(
            Verdict.NUMPY,
            "numpy cannot record gradients, and the tensor has one to record",
            "for its values alone: x.detach().numpy(); to keep the gradient, stay with torch",
        ),
    ),
)
