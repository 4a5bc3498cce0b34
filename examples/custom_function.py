"""A custom operation: rounding with a gradient.

The derivative of rounding is 0, so no gradient flows through it and training makes no progress.
An autograd.Function defines its own gradient: here backward returns the gradient unchanged, as if
nothing had been rounded. Networks with rounded weights are trained this way.
"""

from typing import Any

import torch


class StraightRound(torch.autograd.Function):
    """Round forwards; let the gradient pass backwards as it is."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        """Round to the nearest whole number."""
        return values.round()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Pass on the gradient of the output, as that of the input."""
        return gradient


x = torch.tensor([0.2, 1.4, 2.6], requires_grad=True)

(x.round() ** 2).sum().backward()
print("torch.round:   x.grad =", x.grad)  # [0, 0, 0]

x.grad = None
loss = (StraightRound.apply(x) ** 2).sum()
loss.backward()
print("StraightRound: x.grad =", x.grad)  # 2 * round(x): [0, 2, 6]
print("grad_fn of a rounded x:", type(StraightRound.apply(x).grad_fn).__name__)
