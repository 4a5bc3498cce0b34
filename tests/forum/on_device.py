"""Ask the programs again with their tensors on an accelerator.

    python tests/forum/on_device.py counting        # those that a GPU once answered otherwise
    python tests/forum/on_device.py cuda NAME ...
    python tests/forum/on_device.py cuda all        # many use NumPy, and fail there

There torch runs backward passes in a thread of its own, and each read of a value is a copy that
waits. ``counting`` is the device of `benchmarks/counting_device.py`, which needs no GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"

ANSWERED_OTHERWISE = [
    "activations_are_kept_in_half",
    "adam_step",
    "angle_from_atan2_of_zero",
    "backward_of_a_function_divides",
    "bernoulli_gates",
    "bfloat16_too_small",
    "custom_relu_without_ctx",
    "function_returns_none_for_its_input",
    "gradient_argument_of_zeros",
    "gradient_penalty_with_its_graph",
    "gradients_inside_of_backward",
    "gradients_of_a_result_cancel",
    "hazards_of_a_certain_death",
    "hook_of_a_closure",
    "k14_frozen_with_a_gradient_of_zeros",
    "layers_with_a_norm_are_frozen",
    "learning_rate_of_zero",
    "m21_hook_swaps_gradients",
    "missing_days_are_skipped_by_nansum",
    "module_hook_that_returns_zeros",
    "needs_input_grad_off_by_one",
    "noise_by_torch_normal",
    "pinn_with_relu",
    "ramp_of_an_adapter_in_bfloat16",
    "reversal_of_strength_zero",
    "saturated_by_temperature",
    "sharp_silhouette",
    "step_runs_in_hooks_of_the_gradients",
    "tanh_is_saturated",
    "weights_drawn_by_normal",
    "wrong_index_of_needs_input_grad",
]
"""Programs that once got another answer on a GPU than on a CPU."""


def main() -> None:
    device, *names = sys.argv[1:]
    sys.path[:0] = [str(Path(__file__).parent), str(BENCHMARKS)]
    if device == "counting":
        import counting_device  # noqa: F401
    torch.set_default_device(device)
    torch.set_num_threads(1)
    import asking

    chosen = names or ANSWERED_OTHERWISE
    asked = [each for each in asking.questions() if names == ["all"] or each.name in chosen]
    wrong = {each.name: found for each in asked if (found := asking.ask(each))}
    for name, found in wrong.items():
        print(f"## {name}: {found[0]}\n")
    print(f"{len(asked) - len(wrong)} of {len(asked)} right on {device}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
