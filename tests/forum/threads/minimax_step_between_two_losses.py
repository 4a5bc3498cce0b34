"""loss2.backward():runtime error

https://github.com/thuml/Anomaly-Transformer/issues/1
"""

# ask: error
# verdict: changed in place
# says: model.2.weight

import torch
from torch import nn

model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
output = model(torch.ones(5, 3))
loss1, loss2 = output.pow(2).mean(), -output.mean()
loss1.backward(retain_graph=True)
optimizer.step()  # here
loss2.backward()
optimizer.step()
