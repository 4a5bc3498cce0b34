"""Two losses that share a trunk.

Going backward, an operation gives up the tensors it saved: what exp() kept is gone afterwards.
A second loss on the same trunk then finds nothing there, and torch refuses. Either keep the
saved tensors with retain_graph=True until the last backward, or simply add the losses first.
"""

import torch

import gradviz

weights = torch.tensor([0.0, 1.0], requires_grad=True)

trunk = weights.exp()
loss = (trunk * 2).sum()
penalty = trunk.square().sum()
before = gradviz.Frame("before", gradviz.trace(loss, penalty))

loss.backward(retain_graph=True)
print("loss only:     ", weights.grad)  # 2 * e^w: [2.0000, 5.4366]
kept = gradviz.Frame("after loss.backward(retain_graph=True)", gradviz.trace(loss, penalty))

penalty.backward()
print("and penalty:   ", weights.grad)  # plus 2 * e^2w: [4.0000, 20.2147]
freed = gradviz.Frame("after penalty.backward()", gradviz.trace(loss, penalty))

try:
    penalty.backward()
except RuntimeError as error:
    print("a third one:   ", str(error).partition(" (")[0])

trunk = weights.exp()
weights.grad = None
((trunk * 2).sum() + trunk.square().sum()).backward()
print("added, then one:", weights.grad)  # the same: [4.0000, 20.2147]

story = gradviz.Story((before, kept, freed))
