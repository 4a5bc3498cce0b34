"""Why does my gradient grow with every step?

backward() adds to .grad, it never replaces what is there. The gradient of (weights * 3).sum()
is always 3, and yet .grad shows 3, 6, 9, because nobody emptied it in between.
So every training loop sets the gradient back: weights.grad.zero_(), or optimizer.zero_grad().
"""

import torch

import gradviz

weights = torch.ones(4, requires_grad=True)
frames = []

for count in (1, 2, 3):
    loss = (weights * 3).sum()
    loss.backward()
    print(f"backward {count}, not emptied:", weights.grad)  # 3, then 6, then 9
    frames.append(gradviz.Frame(f"after backward {count}", gradviz.trace(loss)))

weights.grad.zero_()
for count in (1, 2, 3):
    loss = (weights * 3).sum()
    loss.backward()
    print(f"backward {count}, emptied:    ", weights.grad)  # 3 every time
    weights.grad.zero_()

story = gradviz.Story(tuple(frames))
