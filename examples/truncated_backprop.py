"""A long sequence in short windows (truncated backpropagation through time)

Each step uses the state of the previous step, so the graph would grow with the sequence, and each
backward() would run through all of it. detach() cuts it between the windows: the value is used in
the next window, and the gradient stays inside its own window.
"""

import torch

import gradviz

w = torch.tensor(0.5, requires_grad=True)
state = torch.tensor(1.0)

with gradviz.record() as run:
    for window in (1, 2):
        state = state.detach()
        for _ in range(2):
            state = torch.tanh(w * state)
        loss = state**2
        loss.backward()
        print(f"window {window}: loss {loss.item():.4f}  w.grad {w.grad.item():.4f}")

first, second = [frame.graph for frame in run.frames if frame.kind == "after backward"]
story = gradviz.Story(
    (
        gradviz.Frame("after window 1", first, "Backward runs through two steps."),
        gradviz.Frame("after window 2", second, "Again two: detach() cuts the graph."),
    )
)
