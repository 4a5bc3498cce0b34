"""See what PyTorch's autograd recorded: a picture and one sentence."""

__version__ = "0.1.0"
