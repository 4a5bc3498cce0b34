"""Is this process continuous?

https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/138
"""

# ask: switch.weight
# verdict: cut

import torch
from torch import nn

switch, experts = nn.Linear(3, 2), nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
x = torch.ones(1, 3)
route_prob = torch.softmax(switch(x), dim=-1)
route_prob_max, routes = torch.max(route_prob, dim=-1)  # here
chosen = nn.functional.one_hot(routes, 2).float()
outputs = torch.stack([expert(x) for expert in experts], dim=-1)
loss = (outputs * chosen.unsqueeze(1)).sum()
loss.backward()
