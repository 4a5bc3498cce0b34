"""What does "Output 0 of Unbind is a view and is being modified inplace" mean?"""

import torch

import gradviz

w = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
rows = torch.exp(w)
try:
    for row in rows:
        row -= row.min()
except RuntimeError as error:
    why = gradviz.explain(error, rows)
