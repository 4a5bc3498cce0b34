"""Three ways to stop tracking, and the same line tracked again.

The line is always (x * 2).sum(). Its value is 12 every time; what changes is whether autograd
remembers how it was made. Switch x itself off with requires_grad_(False), hand on a detached
twin of it with detach(), or switch off the recording for a while with torch.no_grad().
A result that was not recorded has no grad_fn: backward() has no way back to x.
"""

import torch

import gradviz

x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)

x.requires_grad_(False)
switched_off = (x * 2).sum()
print("x.requires_grad_(False):", switched_off)  # tensor(12.)
x.requires_grad_(True)

detached = (x.detach() * 2).sum()
print("x.detach():             ", detached)  # tensor(12.)

with torch.no_grad():
    unrecorded = (x * 2).sum()
print("with torch.no_grad():   ", unrecorded)  # tensor(12.)

loss = (x * 2).sum()
print("tracked again:          ", loss)  # tensor(12., grad_fn=<SumBackward0>)

story = gradviz.Story(
    (
        gradviz.Frame("tracked", gradviz.trace(loss)),
        gradviz.Frame("x.requires_grad_(False)", gradviz.trace(switched_off)),
        gradviz.Frame("x.detach()", gradviz.trace(detached)),
        gradviz.Frame("with torch.no_grad()", gradviz.trace(unrecorded)),
    )
)
