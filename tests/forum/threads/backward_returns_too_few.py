"""RuntimeError: function adderBackward returned an incorrect number of gradients (expected 2, …

https://github.com/huawei-noah/AdderNet/issues/21
"""

# ask: error
# verdict: wrong backward

import torch


class Adder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, x):
        return -(weight - x).abs()

    @staticmethod
    def backward(ctx, grad):
        return grad.sign()


weight = torch.ones(3, requires_grad=True)
out = Adder.apply(weight, torch.zeros(3))  # here
out.sum().backward()
