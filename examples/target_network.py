"""A target network: a constant target (deep Q-learning)

The network learns a target that a copy of it computes. The copy must not be trained, so the target
is computed under no_grad: for the loss it is a constant. Without no_grad, the loss and the
gradient of the network are the same, but the copy receives a gradient as well.
"""

import torch

import gradviz

network = torch.tensor(0.5, requires_grad=True)  # a network of one weight
target = torch.tensor(0.5, requires_grad=True)  # its copy

with gradviz.record() as right:
    with torch.no_grad():
        goal = target * 3 + 1
    loss = (network - goal) ** 2
    loss.backward()
print("under no_grad: network", network.grad, " target", target.grad)  # -4, None

network.grad = None
with gradviz.record() as forgotten:
    goal = target * 3 + 1
    loss = (network - goal) ** 2
    loss.backward()
print("forgotten:     network", network.grad, " target", target.grad)  # -4, 12

story = gradviz.Story(
    (
        gradviz.Frame("the goal under no_grad", right.frames[-1].graph, "The copy receives none."),
        gradviz.Frame("no_grad forgotten", forgotten.frames[-1].graph, "The copy receives one."),
    )
)
