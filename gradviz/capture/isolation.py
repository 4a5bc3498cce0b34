"""Programs that run one after another in one process, each as if it were alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["GlobalSettings"]


class GlobalSettings:
    """The global settings of torch, numpy and Python's ``random`` that belong to one program.

    They are random states, seeded with 0 at first, and torch's gradient mode, anomaly mode and
    default dtype. The program may run in several stretches, and finds its settings again.

    Example:
        >>> mine, yours = GlobalSettings(), GlobalSettings()
        >>> with mine.in_force():
        ...     a = torch.rand(1)
        ...     _ = torch.set_grad_enabled(False)
        >>> with yours.in_force():
        ...     a.equal(torch.rand(1)), torch.is_grad_enabled()
        (True, True)
        >>> with mine.in_force():
        ...     a.equal(torch.rand(1)), torch.is_grad_enabled()
        (False, False)
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, ...] | None = None

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let these settings hold for a while, and put back afterwards those that held before."""
        others = _read()
        if self._kept is None:
            _fresh()
        else:
            _write(self._kept)
        try:
            yield
        finally:
            self._kept = _read()
            _write(others)


def _read() -> tuple[Any, ...]:
    return (
        torch.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_default_dtype(),
    )


def _write(state: tuple[Any, ...]) -> None:
    torch_state, numpy_state, python_state, grad, anomaly, dtype = state
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    torch.set_grad_enabled(grad)
    torch.autograd.set_detect_anomaly(anomaly)
    torch.set_default_dtype(dtype)


def _fresh() -> None:
    torch.default_generator.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    torch.set_grad_enabled(True)
    torch.autograd.set_detect_anomaly(False)
    torch.set_default_dtype(torch.float32)
