"""Reads and observes torch's autograd: the only place that uses its private names."""

import torch
from torch.torch_version import TorchVersion

from gradviz.errors import MissingPackageError

OLDEST = "2.12"
"""The oldest torch that the tests were run with. In torch 2.10, autocast uses casts that it made
under ``no_grad`` where gradients are on too: their parameters would be called unused."""


def check_version(version: str) -> None:
    """Refuse a torch that is too old, instead of reporting wrong sizes.

    Raises:
        MissingPackageError: for a version before 2.12.

    Example:
        >>> check_version("2.13.0+cpu")
        >>> check_version("2.7.1")
        Traceback (most recent call last):
        gradviz.errors.MissingPackageError: gradviz needs torch 2.12 or newer, found 2.7.1: ...
    """
    if TorchVersion(version) < OLDEST:
        raise MissingPackageError(
            f"gradviz needs torch {OLDEST} or newer, found {version}: pip install 'torch>={OLDEST}'"
        )


check_version(torch.__version__)
