"""``record(every=...)``: some steps are recorded; of all steps the gradient norms are kept."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gradviz.capture.autograd.sharded import shard_of
from gradviz.capture.autograd.tensors import quietly, version_of
from gradviz.story import GradientNorms, merged_norm

__all__ = ["Sampling"]

_COLUMNS = 1_024  # kept; of more steps, neighbors are merged
_WAITING = 64  # steps whose norms are copied to the host together


class Sampling:
    """Keeps the gradient norms of each step, and says which steps to record.

    Args:
        every: steps from the beginning of one recorded step to that of the next.
        switch: called after a step with whether to record the next one.
        names: returns the names of tensors now, by ``id``.
        failed: called with an error of this class.
    """

    def __init__(
        self,
        every: int,
        switch: Callable[[bool], None],
        names: Callable[[], Mapping[int, str]],
        failed: Callable[[Exception], None],
    ) -> None:
        self.every = every
        self._names_now = names
        self._switch = switch
        self._failed = failed
        self._tracks: dict[int, _OptimizerSteps] = {}
        self._thread = 0
        self._hooks: list[Any] = []

    @property
    def step(self) -> int:
        """The number of the running step, counted from 1: of the first optimizer."""
        return next((track.count for track in self._tracks.values()), 0) + 1

    def begin(self) -> None:
        """Listen to the steps of optimizers."""
        self._thread = threading.get_ident()
        self._hooks = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ]

    def end(self) -> None:
        """Stop listening."""
        for hook in self._hooks:
            hook.remove()

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        try:
            track = self._tracks.get(id(optimizer))
            if track is None or track.optimizer() is not optimizer:
                track = self._tracks[id(optimizer)] = _OptimizerSteps(optimizer, self._names_now)
            with quietly(), torch.no_grad():
                track.read([each for group in optimizer.param_groups for each in group["params"]])
        except Exception as error:
            self._failed(error)

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        track = self._tracks.get(id(optimizer))
        if threading.get_ident() != self._thread or track is None:
            return
        track.count += 1
        if track is next(iter(self._tracks.values())) and track.count % self.every < 2:
            self._switch(track.count % self.every == 0)

    @property
    def norms(self) -> GradientNorms:
        """The norms so far."""
        with quietly(), torch.no_grad():
            parts = [track.norms for track in self._tracks.values()]
        longest = max((part.steps for part in parts), key=len, default=())
        return GradientNorms(
            tuple(name for part in parts for name in part.names),
            longest,
            tuple(_padded(row, len(longest), None) for part in parts for row in part.norms),
            tuple(_padded(row, len(longest), False) for part in parts for row in part.stale),
            max((part.last for part in parts), default=0),
        )


def _padded(row: tuple[Any, ...], length: int, value: object) -> tuple[Any, ...]:
    return (*row, *[value] * (length - len(row)))


_Row = tuple[list[float | None], list[bool]]
"""The norms of one step or several, and whether the gradients are stale."""


class _OptimizerSteps:
    """The steps of one optimizer."""

    def __init__(self, optimizer: Any, names: Callable[[], Mapping[int, str]]) -> None:
        self.optimizer = weakref.ref(optimizer)
        self._names_now = names
        self._names: dict[int, str] = {}
        self.count = 0
        self._parameters: dict[int, tuple[int, Callable[[], torch.Tensor | None]]] = {}
        self._waiting: list[tuple[list[int], list[bool], Sequence[torch.Tensor]]] = []
        self._columns: list[_Row] = []
        self._part: list[_Row] = []  # of a column that is not complete
        self._per_column = 1
        self._ids: tuple[int, ...] = ()
        self._rows: list[int] = []
        self._before: dict[int, tuple[Callable[[], object], int]] = {}

    def read(self, parameters: Sequence[torch.Tensor]) -> None:
        """Compute the norms before a step; they stay on the device for a while."""
        ids = tuple(map(id, parameters))
        if ids != self._ids:
            self._ids, self._rows = ids, [self._row_of(each) for each in parameters]
            names = self._names_now()
            pairs = zip(self._rows, ids, strict=True)
            self._names.update((row, names[key]) for row, key in pairs if key in names)
        before = self._before
        found: list[torch.Tensor] = []
        rows: list[int] = []
        stale: list[bool] = []
        now: dict[int, tuple[Callable[[], object], int]] = {}
        for row, each in zip(self._rows, parameters, strict=True):
            gradient = each.grad
            if gradient is None:
                continue
            version, old = version_of(gradient), before.get(row)
            if old is not None and old[1] == version and old[0]() is gradient:
                now[row] = old
                stale.append(True)
            else:
                now[row] = weakref.ref(gradient), version
                stale.append(False)
            rows.append(row)
            found.append(gradient if type(gradient) is torch.Tensor else _plain(gradient))
        self._before = now
        self._waiting.append((rows, stale, _norms(found)))
        if len(self._waiting) >= _WAITING:
            self._fetch()

    def _row_of(self, parameter: torch.Tensor) -> int:
        row, ref = self._parameters.get(id(parameter), (len(self._parameters), None))
        if ref is None or ref() is not parameter:
            self._parameters[id(parameter)] = row, weakref.ref(parameter)
        return row

    def _fetch(self) -> None:
        waiting, self._waiting = self._waiting, []
        every = [norm for *_, norms in waiting for norm in norms]
        try:
            fetched = iter(torch.stack(every).tolist() if every else ())
        except RuntimeError:  # on several devices
            fetched = iter([float(norm) for norm in every])
        for rows, stale, _ in waiting:
            norms: list[float | None] = [None] * len(self._parameters)
            flags = [False] * len(norms)
            for row, flag in zip(rows, stale, strict=True):
                norms[row], flags[row] = next(fetched), flag
            self._part.append((norms, flags))
            if len(self._part) == self._per_column:
                self._columns.append(_merged(self._part))
                self._part = []
        if len(self._columns) >= _COLUMNS:
            self._per_column *= 2
            self._columns = [_merged(self._columns[at : at + 2]) for at in range(0, _COLUMNS, 2)]

    @property
    def norms(self) -> GradientNorms:
        """The norms so far, a row for each parameter."""
        if self._waiting:
            self._fetch()
        columns = [*self._columns, *([_merged(self._part)] if self._part else [])]
        names = [self._names.get(row, f"parameter {row}") for row in range(len(self._parameters))]
        rows = range(len(names))
        return GradientNorms(
            tuple(names),
            tuple(1 + at * self._per_column for at in range(len(columns))),
            tuple(tuple(_at(norms, row, None) for norms, _ in columns) for row in rows),
            tuple(tuple(_at(flags, row, False) for _, flags in columns) for row in rows),
            len(self._columns) * self._per_column + len(self._part),
        )


def _at(values: Sequence[Any], row: int, missing: object) -> Any:
    return values[row] if row < len(values) else missing


def _merged(rows: Sequence[_Row]) -> _Row:
    if len(rows) == 1:
        return rows[0]
    length = max(len(norms) for norms, _ in rows)
    return (
        [merged_norm([_at(norms, row, None) for norms, _ in rows]) for row in range(length)],
        [any(_at(flags, row, False) for _, flags in rows) for row in range(length)],
    )


def _plain(gradient: torch.Tensor) -> torch.Tensor:
    """What to compute the norm of: the part of a ``DTensor`` on this rank."""
    shard = shard_of(gradient)
    return gradient if shard is None else shard.local


def _norms(gradients: list[torch.Tensor]) -> Sequence[torch.Tensor]:
    if not gradients:
        return ()
    try:
        return torch._foreach_norm(gradients)
    except (RuntimeError, NotImplementedError):  # sparse ones
        return [
            torch.linalg.vector_norm(each.coalesce().values() if each.is_sparse else each)
            for each in gradients
        ]
