"""Why is the gradient of my embedding a sparse tensor?"""

import torch
from torch import nn

import gradviz

words = nn.Parameter(torch.ones(6, 2))
chosen = nn.functional.embedding(torch.tensor([1, 4]), words, sparse=True)
loss = chosen.sum()
loss.backward()

why = gradviz.explain(words, loss)
