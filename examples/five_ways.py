"""One line, five ways: where does the gradient to x stop?

The line is always (x * 2).sum(), and its value is always 12. What differs is whether autograd
records it. Each picture shows where the gradient is cut, by what, and in which line.
"""

import torch

import gradviz

x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)

with gradviz.record() as tracked:
    loss = (x * 2).sum()
print("tracked:        ", loss)  # tensor(12., grad_fn=<SumBackward0>)

with gradviz.record() as detached:
    loss = (x.detach() * 2).sum()
print("detach:         ", loss)  # tensor(12.), here and below

with gradviz.record() as unrecorded, torch.no_grad():
    loss = (x * 2).sum()
print("no_grad:        ", loss)

with gradviz.record() as inferred, torch.inference_mode():
    loss = (x * 2).sum()
print("inference_mode: ", loss)

with gradviz.record() as switched_off:
    loss = (x.requires_grad_(False) * 2).sum()
print("requires_grad_: ", loss)

ways = (
    ("tracked", tracked, "A gradient flows back to x."),
    ("x.detach()", detached, "It shares the data of x and is not tracked."),
    ("no_grad()", unrecorded, "Nothing is recorded inside the block."),
    ("inference_mode()", inferred, "The same; the results are inference tensors."),
    ("x.requires_grad_(False)", switched_off, "x does not require grad."),
)
story = gradviz.Story([gradviz.Frame(way, run.frames[-1].graph, said) for way, run, said in ways])
