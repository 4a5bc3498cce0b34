"""One line, five ways: where does the way back to x end?

The line is always (x * 2).sum(), and its value is always 12. What differs is whether autograd
remembers how it came about. Each picture shows where the way is cut, by what, in which line.
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
    ("tracked", tracked, "The way back to x is open."),
    ("x.detach()", detached, "A twin of x, outside the graph."),
    ("no_grad()", unrecorded, "Nothing is recorded in the block."),
    ("inference_mode()", inferred, "The same, and its results stay outside."),
    ("x.requires_grad_(False)", switched_off, "x itself wants no gradient."),
)
story = gradviz.Story([gradviz.Frame(way, run.frames[-1].graph, said) for way, run, said in ways])
