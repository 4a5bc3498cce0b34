"""A gradient has a gradient.

With create_graph=True the backward pass is recorded, so the slope is a tensor with a grad_fn, and
you can use it in a loss. Here y = x^3, so the slope is 3 * x^2 and the slope of the slope is
6 * x. The loss is smallest when the slope is 12; backward then runs through both.
"""

import torch

import gradviz

x = torch.tensor(3.0, requires_grad=True)

with gradviz.record() as run:
    y = x**3
    (slope,) = torch.autograd.grad(y, x, create_graph=True)
    loss = (slope - 12) ** 2
    loss.backward()

(curvature,) = torch.autograd.grad(3 * x**2, x)
print(f"y         = {y.item():.4f}")  # 27
print(f"slope     = {slope.item():.4f}")  # 3 * 9 = 27
print(f"curvature = {curvature.item():.4f}")  # 6 * 3 = 18
print(f"x.grad    = {x.grad.item():.4f}")  # 2 * (27 - 12) * 18 = 540

titles = "y = x ** 3", "the slope, and a loss computed from it", "after loss.backward()"
story = gradviz.Story(
    [gradviz.Frame(t, frame.graph) for t, frame in zip(titles, run.frames, strict=True)]
)
