"""Worked examples: each file is one lesson about autograd, in the order of `ORDER`."""

ORDER = (
    "five_ways",
    "requires_grad",
    "first_backward",
    "vector_backward",
    "repeated_backward",
    "gradient_descent",
    "missing_grad",
    "frozen_layer",
    "two_layer_network",
    "shared_trunk",
    "adversary",
    "target_network",
    "in_place",
    "double_backward",
    "custom_function",
    "rnn",
    "truncated_backprop",
)
