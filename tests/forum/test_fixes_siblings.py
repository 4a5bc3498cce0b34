"""Fixes that `explain` proposes for programs of ``kinds/z2_*``, applied."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_fixes import apply

FIXES = {
    "sa_reward_baseline_of_the_critic": [
        (
            "        self.opt.step()\n",
            "        self.opt.step()\n        self.baseline = self.baseline.detach()\n",
        )
    ],
    "sa_camera_matrices_are_built_once": [
        ("cameras = rig.matrices()  # here\n", ""),
        ("    residual =", "    cameras = rig.matrices()\n    residual ="),
    ],
    "sa_segments_of_images_are_checkpointed": [("use_reentrant=True", "use_reentrant=False")],
    "sa_pruned_tokens_are_weighed_by_numbers": [(".detach()  # here", "")],
    "sa_perturbation_of_a_frozen_stem": [("    p.requires_grad_(False)\n", "    pass\n")],
    "sa_depth_without_valid_pixels": [("far=10.0", "far=1e4")],
    "sa_adam_in_half_precision": [("lr=1e-3)", "lr=1e-3, eps=1e-4)")],
    "sa_checkpoint_is_assigned_behind_the_optimizer": [
        (
            "resume(model, save(pretrained))\n",
            "resume(model, save(pretrained))\n"
            "optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)\n",
        )
    ],
    "sa_frozen_by_a_comparison": [("requires_grad == False", "requires_grad = False")],
    "sa_auxiliary_loss_is_not_scaled": [("(0.4 * extra)", "scaler.scale(0.4 * extra)")],
    "sa_survival_after_a_gamma": [
        ("dist.cdf(time)", "Gamma(dist.concentration.detach(), dist.rate).cdf(time)")
    ],
    "sa_diversity_of_probabilities": [("probs.sum(dim=-1)", "probs.square().sum(dim=-1)")],
    "sa_gradients_are_cleared_by_a_comparison": [("p.grad == None", "p.grad = None")],
    "sa_basis_of_a_helper_is_made_once": [
        ("waves, made = torch.randn(8, 3), basis(freq, 8)\n", "waves = torch.randn(8, 3)\n"),
        ("    loss =", "    made = basis(freq, 8)\n    loss ="),
    ],
}


@pytest.mark.parametrize("name", FIXES)
def test_the_fix_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(name, FIXES[name], tmp_path, monkeypatch)
