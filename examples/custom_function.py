"""An operation of your own: rounding that can be trained through.

Rounding is flat everywhere, so its true gradient is 0 and training through it stands still.
An autograd.Function lets you say what the gradient shall be: here backward hands the gradient
straight on, as if nothing had been rounded. Networks with rounded weights are trained this way.
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
print("grad_fn of a rounded x:", StraightRound.apply(x).grad_fn.name())  # StraightRoundBackward
