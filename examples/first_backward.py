"""What does backward() change?

backward() runs from loss back to every leaf and stores in .grad how much loss would change if
the leaf changed a little. Here loss = 3 w0 + 3 w1 + 3 w2 + 3 w3, so every entry of
weights.grad is 3. It frees the saved tensors of the operations: a second backward on the same
loss would be an error.
"""

import torch

weights = torch.ones(4, requires_grad=True)
loss = (weights * 3).sum()
print("before:", weights.grad)  # None
loss.backward()
print("after: ", weights.grad)  # tensor([3., 3., 3., 3.])
