"""Run programs one after another in one process without shared global settings."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class GlobalSettings:
    """One program's global settings of torch, numpy and Python's ``random``.

    They are random states, initially seeded with 0, and torch's gradient mode, anomaly mode and
    default dtype. The program may run in several parts; each part restores its settings.

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
        """Apply these settings within the block, and restore the previous ones afterwards."""
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
