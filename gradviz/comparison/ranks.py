"""`gather`: one story of all ranks of a program, and marks on what differs between them."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradviz import serialize
from gradviz.comparison import Comparison, compare
from gradviz.comparison.changes import side_by_side
from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.values import is_all_zero
from gradviz.errors import UsageError
from gradviz.facts import (
    FrameKind,
    GradientDetails,
    RankRecord,
    RankState,
    RankTensor,
    SavedVerdict,
)
from gradviz.graph import GradGraph, NodeData, NodeKind, RankSpread, TensorSummary
from gradviz.graph.text import must_be, number_text
from gradviz.story import Frame, Story, recorded_in
from gradviz.wording import frame_title, rank_notes, rank_state_text, ranks_text

if TYPE_CHECKING:
    from gradviz.capture.autograd.collectives import Exchange
    from gradviz.capture.tensors.names import Names

SECONDS = 30.0
"""How long rank 0 waits for the others."""
_STRUCTURE = ("kind", "op", "grad_fn", "name", "module", "outputs", "root", "opaque")
_OF_EDGE = ("kind", "input", "output", "cause")
_AFTER_PASS = (FrameKind.AFTER_BACKWARD, FrameKind.FAILED_BACKWARD, FrameKind.REFUSED_BACKWARD)


@dataclass(frozen=True)
class RankPart:
    """What a rank sends.

    Args:
        rank: its number.
        digest: of the structure of its graph; "" without a graph.
        pass_number: the backward pass after which the graph was taken.
        tensors: the tensors with a ``.grad`` or a value; the nodes are positions in the graph.
        verdicts: on its recording; the nodes are positions too.
        waited: names of the parameters for which ``DistributedDataParallel`` waits.
        zeros: names of sharded parameters; the part of the gradient on this rank is all zeros.
    """

    rank: int
    digest: str = ""
    pass_number: int = 0
    tensors: tuple[RankTensor, ...] = ()
    verdicts: tuple[SavedVerdict, ...] = ()
    waited: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()


def gather(run: object, *, timeout: float = SECONDS) -> Story | None:
    """Collect what all ranks of a program have recorded, as one story.

    Every rank calls it, in the same order if it is called several times. No rank but the first
    waits for another. The graph is the one after the latest backward pass; its structure is sent by
    one of the ranks that have it. SIGTERM, which ``torchrun`` sends when a rank has failed, ends
    the wait of rank 0 and not the program, so that it can save the story.

    Args:
        run: a recording, or a story.
        timeout: number of seconds for which rank 0 waits for the others.

    Returns:
        On rank 0, the story: the graph of most ranks, then graphs of another structure.
        ``gradviz.draw`` draws it, ``gradviz.explain`` explains it. On the other ranks None. Without
        ranks, the story of this process.

    Raises:
        UsageError: if ``run`` is neither a recording nor a story, or the timeout is negative.

    Example:
        >>> import gradviz, torch
        >>> with gradviz.record() as run:
        ...     w = torch.ones(2, requires_grad=True)
        ...     (w * 3).sum().backward()
        >>> story = gather(run)
        >>> print(gradviz.explain(story))
        1 leaf  fine
    """
    from gradviz.capture.tensors.names import Names

    if not hasattr(type(run), "story") and not isinstance(run, Story):
        raise UsageError(must_be("run", "a recording or a story", run))
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not is_number or not (0 <= timeout < math.inf):
        raise UsageError(must_be("timeout", "a number of seconds >= 0", timeout))
    from gradviz.capture.autograd.collectives import EndRequest

    names = Names.of(None, sys._getframe(1))
    with EndRequest(raises=False) as end:
        return gathered(run, names, float(timeout), end.is_over)[0]


def gathered(
    run: object, names: Names, timeout: float, is_stopped: Callable[[], bool]
) -> tuple[Story | None, Exchange | None]:
    """`gather` with names that were found before.

    Args:
        run: as for `gather`.
        names: of tensors.
        timeout: as for `gather`.
        is_stopped: ends the wait for other ranks when it returns True.

    Returns:
        The story, or None; and the exchange with the other ranks, or None if there are none.
    """
    from gradviz.capture.autograd.collectives import Exchange

    exchange = Exchange.open(timeout)
    rank = 0 if exchange is None else exchange.rank
    part, frame = own_part(run, rank, names)
    if exchange is None:
        return story_of_ranks([part], {part.digest: frame}, 1), None
    if rank:
        try:
            send_part(exchange, part, frame)
        except RuntimeError as error:
            warnings.warn(f"rank {rank} could not send its graph: {error}", stacklevel=3)
        return None, exchange
    exchange.is_first(part.digest)
    return collected(exchange, part, frame, timeout, is_stopped), exchange


def send_part(exchange: Exchange, part: RankPart, frame: Frame) -> None:
    """Send what a rank has; the graph only if no other rank has sent one of its structure.

    Args:
        exchange: with the other ranks.
        part: of this rank.
        frame: its graph.

    Raises:
        RuntimeError: if the process with the store has ended.
    """
    if part.digest and exchange.is_first(part.digest):
        exchange.send(f"graph {part.digest}", serialize.to_json(Story((frame,))).encode())
    exchange.send(f"rank {part.rank}", json.dumps(serialize.plain(part)).encode())


def collected(
    exchange: Exchange, own: RankPart, frame: Frame, timeout: float, is_stopped: Callable[[], bool]
) -> Story:
    """The story of this rank, which is the first, and of those that answer in time.

    Args:
        exchange: with the other ranks.
        own: the part of this rank.
        frame: its graph.
        timeout: as for `gather`.
        is_stopped: as for `gathered`.
    """
    parts, frames = [own], {own.digest: frame}
    end = time.monotonic() + timeout
    for rank in range(1, exchange.size):
        data = exchange.receive(f"rank {rank}", end, is_stopped)
        if data is None:
            continue
        part = serialize.record_of(RankPart, json.loads(data))
        if part.digest not in frames and part.digest:
            graph = exchange.receive(f"graph {part.digest}", end, is_stopped)
            if graph is None:
                continue
            frames[part.digest] = serialize.loads(graph)[0]
        parts.append(part)
    state = RankState.STOPPED if is_stopped() else RankState.NO_ANSWER
    return story_of_ranks(parts, frames, exchange.size, state, timeout)


def own_part(run: object, rank: int, names: Names) -> tuple[RankPart, Frame]:
    """What this rank sends, and the frame that it is about.

    Args:
        run: a recording or a story.
        rank: of this process.
        names: of tensors.
    """
    from gradviz.diagnosis.explain import with_verdicts

    try:
        story = recorded_in(run)
    except UsageError:  # it has no frame yet
        story = None
    if not isinstance(story, Story) or not story:
        return RankPart(rank), Frame("", GradGraph())
    if story.verdicts is None and run is not story:
        story = with_verdicts(story, run, names)
    frame = latest_backward(story)
    place = {key: str(number) for number, key in enumerate(frame.graph._node)}
    tensors = tuple(
        RankTensor(place[key], data.get("grad"), data.get("value"))
        for key, data in frame.graph.nodes(data=True)
        if "grad" in data or "value" in data
    )
    verdicts = tuple(
        replace(
            each,
            nodes=tuple(place[key] for key in each.nodes if key in place),
            culprit=place.get(each.culprit, ""),
        )
        for each in story.verdicts or ()
    )
    marks = _waited(run, names), _zero_parts(run, story, frame.pass_number)
    return RankPart(rank, _digest(frame.graph), frame.pass_number, tensors, verdicts, *marks), frame


def _waited(run: object, names: Names) -> tuple[str, ...]:
    """The names of parameters for which ``DistributedDataParallel`` waits in each pass."""
    from gradviz.capture.autograd.sharded import awaited_parameters
    from gradviz.recording.api import Recording

    if not isinstance(run, Recording):
        return ()
    awaited = awaited_parameters()
    named = [*names, *run._snapshots.parameters(), *run._leaves()] if awaited else []
    return tuple(dict.fromkeys(each.name for each in named if id(each.tensor) in awaited))


def _zero_parts(run: object, story: Story, pass_number: int) -> tuple[str, ...]:
    """The names of sharded parameters to whose part on this rank a pass added only zeros."""
    from gradviz.capture.autograd.sharded import flat_parameters
    from gradviz.recording.api import Recording

    parts, found = set(), []
    if isinstance(run, Recording) and (
        flat := flat_parameters((series := run._snapshots).recorded_modules())
    ):
        parts = {each.name for each in series.parameters() if id(each.tensor) in flat}
    for event in story.events:
        details, name = event.details, event.name.removesuffix(".grad")
        if not isinstance(details, GradientDetails) or details.pass_number != pass_number:
            continue
        grad = details.after
        if grad is not None and (grad.is_part or name in parts) and is_all_zero(grad):
            found.append(name)
    return tuple(found)


def latest_backward(story: Story) -> Frame:
    """The frame after the latest backward pass; the last frame if there was no pass.

    Args:
        story: has at least one frame.

    Example:
        >>> frames = [Frame(kind.value, GradGraph(), kind=kind) for kind in FrameKind]
        >>> latest_backward(Story(frames)).title
        'refused backward'
    """
    after = [frame for frame in story if frame.kind in _AFTER_PASS]
    return after[-1] if after else story[-1]


def _digest(graph: GradGraph) -> str:
    """A text that is equal for graphs of the same structure, in any process."""
    digest = hashlib.blake2b(digest_size=16)
    place = {key: number for number, key in enumerate(graph._node)}
    for _, data in graph.nodes(data=True):
        facts = [serialize.plain(data.get(name)) for name in _STRUCTURE]
        digest.update(repr([*facts, "grad" in data]).encode())
    for source, target, _, edge in graph.edge_rows():
        facts = [serialize.plain(edge.get(name)) for name in _OF_EDGE]
        digest.update(repr([place[source], place[target], *facts]).encode())
    return digest.hexdigest()


@dataclass
class _Structure:
    """A structure that some ranks share."""

    number: int  # of its frame in the story
    keys: list[str]  # the keys of its nodes in the story, by their position
    frame: Frame  # with those keys
    absent: tuple[str, ...] = ()  # nodes of the first frame that it does not have
    added: int = 0  # number of nodes that the first frame does not have


def story_of_ranks(
    parts: Sequence[RankPart],
    frames: Mapping[str, Frame],
    size: int,
    state: RankState = RankState.NO_ANSWER,
    seconds: float = 0.0,
) -> Story:
    """Combine what ranks have sent.

    Args:
        parts: of the ranks that answered.
        frames: a frame for each digest, with the values of one of the ranks.
        size: number of ranks.
        state: of the ranks that are not among the parts.
        seconds: for how long they were waited for.

    Example:
        >>> graph = GradGraph()
        >>> story = story_of_ranks([RankPart(0, "a")], {"a": Frame("", graph)}, 2, seconds=5.0)
        >>> print(story.verdicts[0].reason)
        it did not answer within 5 s: its program has not got this far, or has ended
    """
    structures = _structures(parts, frames)
    records = {rank: RankRecord(rank, state, seconds=seconds) for rank in range(size)}
    for part in parts:
        records[part.rank] = RankRecord(part.rank, RankState.NO_GRAPH)
        if (found := structures.get(part.digest)) is not None:
            tensors = tuple(_different(part.tensors, found))
            facts = (found.number, part.pass_number, tensors, found.absent, found.added)
            records[part.rank] = RankRecord(part.rank, RankState.GATHERED, *facts)
    drawn: dict[int, Frame] = {}
    for each in structures.values():
        ranks = [
            record.rank
            for record in records.values()
            if record.frame == each.number and record.pass_number == each.frame.pass_number
        ]
        drawn.setdefault(each.number, replace(each.frame, title=_title(ranks, each.frame)))
    title = f"{size:,} ranks" if size > 1 else ""
    verdicts = [*_of_states(records.values()), *_merged(parts, structures, size)]
    story = [drawn[number] for number in sorted(drawn)]
    return Story(story, title, verdicts=verdicts, ranks=records.values())


def _title(ranks: Sequence[int], frame: Frame) -> str:
    moment = frame.title
    if frame.kind is FrameKind.AFTER_BACKWARD:  # without the values of one rank
        moment = frame_title(frame.kind, frame.pass_number)
    return ", ".join(filter(None, (ranks_text(ranks), moment)))


def _structures(parts: Sequence[RankPart], frames: Mapping[str, Frame]) -> dict[str, _Structure]:
    """The structures by their digests, that of most ranks first."""
    counts = Counter(part.digest for part in parts if part.digest)
    if not counts:
        return {}
    (most, _), *others = counts.most_common()  # of equally many, that of the lowest rank
    first = frames[most]
    found = {most: _Structure(0, list(first.graph._node), first)}
    for digest, _ in others:
        comparison = compare(first.graph, frames[digest].graph)
        number = 1 + max(each.number for each in found.values())
        found[digest] = _other(comparison, frames[digest], number)
    return found


def _other(comparison: Comparison, frame: Frame, number: int) -> _Structure:
    """A structure that is compared with the first one."""
    sides, mate = comparison._sides, comparison._mate
    added, absent = comparison.added, comparison.removed
    if 2 * len(mate) < max(len(side.data) for side in sides):
        mate, added, absent = {}, (), ()  # another model, such as another stage of a pipeline
    marks = {key: {"node": "only here"} for key in added}
    renamed = side_by_side(sides, mate, ({}, marks), "")[1].graph
    if mate and not (added or absent):
        number = 0
    keys = list(renamed._node)
    return _Structure(number, keys, replace(frame, graph=renamed), absent, len(added))


def _different(tensors: Iterable[RankTensor], found: _Structure) -> Iterator[RankTensor]:
    """The tensors of a rank that differ from those in the frame, with keys of nodes."""
    for each in tensors:
        key = found.keys[int(each.node)]
        data: NodeData = found.frame.graph.nodes[key]
        value = None if _is_same(each.value, data.get("value")) else each.value
        if value is not None or not _is_same(each.grad, data.get("grad")):
            yield RankTensor(key, each.grad, value)


def _is_same(one: TensorSummary | None, other: TensorSummary | None) -> bool:
    """Whether two summaries are equal; ranks have devices of their own."""
    if one is None or other is None:
        return one is other
    if one.norm != other.norm and not (one.nan or other.nan):
        return False
    return repr(replace(one, device="")) == repr(replace(other, device=""))


def _of_states(records: Iterable[RankRecord]) -> Iterator[SavedVerdict]:
    """A verdict on each rank that has sent no graph."""
    for each in records:
        if text := rank_state_text(each):
            fix = "if it is only slow, wait longer: gradviz.gather(run, timeout=300), or gradviz "
            fix = f"{fix}record --wait 300" if each.state is RankState.NO_ANSWER else ""
            verdict = Verdict.DISTRIBUTED.value
            yield SavedVerdict(verdict, f"rank {each.rank}", f"it {text}", fix, ranks=(each.rank,))


def _merged(
    parts: Sequence[RankPart], structures: Mapping[str, _Structure], size: int
) -> Iterator[SavedVerdict]:
    """The verdicts of all ranks; equal ones become one, with the ranks that have it."""
    found: dict[tuple[str, str, str], tuple[SavedVerdict, list[int]]] = {}
    for part in parts:
        for each in part.verdicts:
            structure = structures[part.digest]
            said = _awaited(each) if each.name in part.waited else each
            reason = said.reason if said.verdict != Verdict.FINE.value else ""
            key = said.name, said.verdict, reason
            if key not in found:
                keys = tuple(structure.keys[int(node)] for node in said.nodes)
                culprit = structure.keys[int(said.culprit)] if said.culprit else ""
                said = replace(said, nodes=keys, culprit=culprit, frame=structure.number)
                found[key] = said, []
            found[key][1].append(part.rank)
    wrong = {name for name, verdict, _ in found if verdict not in _WITHOUT_FAULT}
    zeros = {part.rank: {*part.zeros} - wrong for part in parts if part.digest}
    for (name, _, _), (verdict, ranks) in found.items():
        if len(zeros) == size and all(name in zeros[rank] for rank in ranks):
            verdict = replace(verdict, verdict=Verdict.ZERO.value, reason=_ALL_ZERO, fix=_UNSHARDED)
        yield replace(verdict, ranks=() if len(ranks) == size else tuple(ranks))


_WITHOUT_FAULT = (Verdict.FINE.value, Verdict.LEFT_OUT.value)
_ALL_ZERO = "the parts of its gradient on all ranks are all zeros"
_UNSHARDED = "record the program in one process, without FullyShardedDataParallel, and explain that"


def _awaited(verdict: SavedVerdict) -> SavedVerdict:
    """A verdict on a parameter of ``DistributedDataParallel`` that this rank may not have used."""
    if verdict.verdict != Verdict.NOT_CONNECTED.value:
        return verdict
    reason = f"{verdict.reason}; DistributedDataParallel waits for its gradient when it averages"
    fix = "DistributedDataParallel(model, find_unused_parameters=True)"
    return replace(verdict, reason=reason, fix=f"use it in the loss of each rank; or {fix}")


_EQUAL = 1e-4  # relative; norms that differ by less have the same four digits
_FAR = 4  # times the range of the others


def mark_ranks(story: Story) -> Story:
    """Mark each node whose ``.grad`` differs between ranks, and note what the ranks are.

    Only ranks whose graph was taken after the same backward pass are compared.

    Args:
        story: from `gradviz.gather`; is not modified.

    Returns:
        A story in which these nodes have ``ranks``; the same story if it has no ranks.

    Example:
        >>> mark_ranks(Story(())).ranks
        ()
    """
    if not story.ranks or not story:
        return story
    frames = []
    for number, frame in enumerate(story):
        graph: GradGraph = frame.graph.copy()
        known = [each for each in story.ranks if 0 <= each.frame < len(story)]
        records = [each for each in known if _is_compared(each, number, frame)]
        if len(records) > 1:
            tensors = {each.rank: _tensors(each, story[each.frame]) for each in records}
            for key in graph.nodes:
                spread = _spread(key, records, tensors, is_first=number == 0)
                if spread is not None:
                    graph.nodes[key]["ranks"] = spread
        graph.graph["ranks"] = len(story.ranks)
        if number == 0:
            spreads = [data["ranks"] for _, data in graph.nodes(data=True) if "ranks" in data]
            differ = sum(bool(e.norms or e.missing or e.not_finite) for e in spreads)
            results = _results(records, story)
            graph.graph["notes"] = (*graph.notes, *rank_notes(story.ranks, differ), *results)
        frames.append(replace(frame, graph=graph))
    return replace(story, frames=tuple(frames))


def _is_compared(record: RankRecord, number: int, frame: Frame) -> bool:
    """Whether a rank is compared in a frame: in the first one, all ranks at the same moment."""
    if record.state is not RankState.GATHERED or record.pass_number != frame.pass_number:
        return False
    return number in (0, record.frame)


def _results(records: Sequence[RankRecord], story: Story) -> Iterator[str]:
    """A note for each result of one element that differs between ranks: the picture has one."""
    for key, data in story[0].graph.nodes(data=True):
        if data["kind"] is not NodeKind.RESULT or data.get("shape", ()) != ():
            continue
        own = [{each.node: each.value for each in record.tensors}.get(key) for record in records]
        shown = [value or data.get("value") for value in own]
        found = {
            record.rank: number
            for record, value in zip(records, shown, strict=True)
            if value and isinstance(number := next(iter(value.values or ()), None), float)
        }
        numbers = [value for value in found.values() if math.isfinite(value)]
        low, high = min(numbers, default=0.0), max(numbers, default=0.0)
        what = data.get("name") or "the result"
        if high - low > _EQUAL * max(abs(low), abs(high)):
            yield f"{what}: {number_text(low)} – {number_text(high)} over the ranks"
        if numbers and len(numbers) < len(found):
            wrong = [rank for rank, value in found.items() if not math.isfinite(value)]
            yield f"{what}: NaN or infinite on {ranks_text(wrong)}"


_Grads = Mapping[str, TensorSummary | None]
"""``.grad`` by the key of the node."""


def _tensors(record: RankRecord, frame: Frame) -> _Grads:
    """Each ``.grad`` of a rank."""
    rows = frame.graph.nodes(data=True)
    found = {key: data["grad"] for key, data in rows if "grad" in data}
    return {**found, **{each.node: each.grad for each in record.tensors}}


def _spread(
    key: str, records: Sequence[RankRecord], tensors: Mapping[int, _Grads], is_first: bool
) -> RankSpread | None:
    absent = tuple(each.rank for each in records if is_first and key in each.absent)
    grads = {rank: found[key] for rank, found in tensors.items() if key in found}
    present = {rank: grad for rank, grad in grads.items() if grad is not None}
    missing = tuple(rank for rank in grads if rank not in present) if present else ()
    wrong = tuple(rank for rank, grad in present.items() if not grad.is_finite)
    finite = {rank: grad for rank, grad in present.items() if rank not in wrong and grad.is_read}
    norms = {rank: grad.finite_norm for rank, grad in finite.items()}
    least, greatest = min(norms.values(), default=0.0), max(norms.values(), default=0.0)
    differ = greatest - least > _EQUAL * greatest or _have_other_values(list(finite.values()))
    not_finite = wrong if len(wrong) < len(present) else ()
    if not (absent or missing or not_finite or differ):
        return None
    odd = _odd(norms)
    return RankSpread(
        (least, greatest) if differ else None, odd, norms.get(odd, 0.0), missing, not_finite, absent
    )


def _have_other_values(grads: Sequence[TensorSummary]) -> bool:
    """Whether some extreme values differ, although the norms are equal."""
    for name in ("min", "max"):
        found = [value for each in grads if (value := getattr(each, name)) is not None]
        found = [value for value in found if math.isfinite(value)]
        if found and max(found) - min(found) > _EQUAL * max(map(abs, found)):
            return True
    return False


def _odd(norms: Mapping[int, float]) -> int:
    """The rank whose norm is far from those of all others, which are close to each other."""
    if len(norms) < 3:
        return -1
    middle = statistics.median(norms.values())
    odd = max(norms, key=lambda rank: abs(norms[rank] - middle))
    others = [norm for rank, norm in norms.items() if rank != odd]
    gap = min(abs(norms[odd] - norm) for norm in others)
    return odd if gap > _FAR * (max(others) - min(others)) else -1
