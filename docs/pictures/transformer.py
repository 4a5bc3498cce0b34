"""The model of README's picture of a big graph: a small transformer, after one backward pass."""

import torch
from torch import nn

torch.manual_seed(0)


class Classifier(nn.Module):
    """Tokens to one of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.embed = nn.Embedding(100, 64)
        self.encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The score of each class."""
        scores: torch.Tensor = self.head(self.encoder(self.embed(tokens)).mean(1))
        return scores


model = Classifier()
scores = model(torch.randint(0, 100, (4, 16)))
loss = nn.functional.cross_entropy(scores, torch.randint(0, 10, (4,)))
loss.backward()
