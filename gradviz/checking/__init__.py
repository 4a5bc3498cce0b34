"""Compare autograd's gradients with numerical gradients."""
