"""RuntimeError: Trying to backward through the graph a second time (or directly access saved …

https://github.com/karpathy/nn-zero-to-hero/issues/31
"""

# ask: error
# verdict: backward a second time

import torch

W = torch.randn(5, 5, requires_grad=True)
xenc = torch.eye(5)
logits = xenc @ W
counts = logits.exp()
prob = counts / counts.sum(1, keepdim=True)
loss = -prob[torch.arange(5), torch.arange(5)].log().mean()

W.grad = None
loss.backward()  # here
W.data += -0.1 * W.grad

W.grad = None
loss.backward()
