"""Fixes of ``kinds/z2_*``, ``y_t*``, ``va_*``, ``xb_*`` and ``ya_*``, applied."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_fixes import apply

_COPIED = [
    ("import torch\n", "import copy\n\nimport torch\n"),
    ("model.state_dict()  # here", "copy.deepcopy(model.state_dict())"),
]
FIXES = {
    "sa_bonus_is_a_number": [("entropy().item()", "entropy()")],
    "ta_numbers_of_a_zip": [("mean().item()", "mean()")],
    "ta_numbers_of_a_list": [("sum().item()", "sum()")],
    "ta_numbers_of_a_dict": [("sum().item()", "sum()")],
    "ta_numbers_of_a_dataclass": [("kl.item()", "kl")],
    "ta_penalty_of_a_number": [("out.mean().item()", "out.mean()")],
    "ta_margin_of_a_number": [("distance.item()", "distance")],
    "ta_best_state_is_kept": _COPIED,
    "ta_best_state_in_a_stopper": _COPIED,
    "ta_best_state_in_a_dict": _COPIED,
    "ta_best_model_is_the_model": [
        ("import torch\n", "import copy\n\nimport torch\n"),
        ("best_model = model", "best_model = copy.deepcopy(model)"),
    ],
    "ta_best_weights_of_items": [("name: value for", "name: value.clone() for")],
    "ta_decay_of_1e30": [("weight_decay=1e30", "weight_decay=1e-3")],
    "ta_momentum_above_1": [("momentum=9.0", "momentum=0.9")],
    "ta_rate_of_1e10": [("lr=1e10", "lr=1e-2")],
    "ta_grad_left_off_in_validation": [
        ("    torch.set_grad_enabled(False)  # here\n    ", "    with torch.no_grad():\n        ")
    ],
    "ta_frozen_in_validation": [
        (
            "    print(model(torch.randn(8, 3)).mean())\n",
            "    print(model(torch.randn(8, 3)).mean())\n    model.requires_grad_(True)\n",
        )
    ],
    "ta_inference_mode_decorates_fit": [("    @torch.inference_mode()  # here\n", "")],
    "ta_jacobian_is_a_constant": [("(net, x[0])", "(net, x[0], create_graph=True)")],
    "ta_teacher_against_labels": [("F.cross_entropy(goal, y)", "F.cross_entropy(out, y)")],
    "ta_log_of_counts": [("torch.log(prior)", "torch.log(prior + 1e-6)")],
    "ta_standardized_columns": [("/ scale", "/ (scale + 1e-6)")],
    "curvature_by_functional_hessian": [
        ("hessian(model, point)", "hessian(model, point, create_graph=True)")
    ],
    "gradients_of_a_model_that_is_closed_over": [
        ("model(sample[None])", "torch.func.functional_call(model, params, (sample[None],))")
    ],
    "isolated_node": [("degree.pow(-0.5)", "degree.clamp(min=1).pow(-0.5)")],
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
    "sa_pixels_saturate_a_hardtanh": [("self.inp(row)", "self.inp(row / 2550)")],
    "sa_values_are_clipped_to_the_old_range": [
        ("torch.clamp(v, -self.cfg.clip, self.cfg.clip)", "v")
    ],
    "sa_whitening_of_equal_variances": [("eigh(cov)", "eigh(cov + 0.1 * torch.rand(4, 4))")],
    "sa_attention_is_cold": [("temperature=1e-4", "temperature=1.0")],
    "sa_column_without_a_candidate": [
        ("allowed[:, 2] = False\n", "allowed[:, 2] = False\nallowed[0, 2] = True\n")
    ],
    "sa_joints_go_through_math": [
        (
            "torch.tensor([math.cos(heading), math.sin(heading)])",
            "torch.stack([torch.cos(heading), torch.sin(heading)])",
        ),
        ("heading += self", "heading = heading + self"),
    ],
    "sa_features_are_computed_in_chunks": [("with torch.no_grad():", "with torch.enable_grad():")],
    "sa_discriminator_is_never_switched_on": [
        ("        fake = self.g", "        toggle(self.d, True)\n        fake = self.g")
    ],
    "sa_weights_are_projected_between_the_losses": [
        ("z @ self.atoms.t", "z @ self.atoms.clone().t")
    ],
    "sa_chain_over_several_lines": [("        .detach()  # here\n", "")],
    "sa_layer_scale_is_zero_and_frozen": [("self.gamma * self.down", "self.down")],
    "sa_operator_without_a_formula": [
        (
            "class Filter(",
            "def keep(ctx, inputs, output):\n"
            "    ctx.save_for_backward(inputs[0])\n"
            "    ctx.k = inputs[1]\n\n\n"
            "def backward(ctx, grad):\n"
            "    return grad * ctx.k / (1 + ctx.saved_tensors[0].abs()) ** 2, None\n\n\n"
            'torch.library.register_autograd("sa_ops::smooth", backward, setup_context=keep)\n\n\n'
            "class Filter(",
        )
    ],
    "sa_quantizer_of_detached_latents": [
        ("Round.apply(latent.detach()", "Round.apply(latent"),
        ("rate = latent.detach()", "rate = latent"),
    ],
    "sa_shared_step_of_two_phases": [("head.zero_grad()", "self.optimizer.zero_grad()")],
    "sa_tasks_take_turns": [("    head.zero_grad()", "    optimizer.zero_grad()")],
    "sa_exponent_is_scaled_in_place": [
        ("kernel *= self.log_scale.exp()", "kernel = kernel * self.log_scale.exp()")
    ],
    "sa_policy_becomes_nan": [("/ ret.std()", "/ (ret.std() + 1e-6)")],
    "sa_covariance_becomes_nan": [
        ("eigh(factor @ factor.T)", "eigh(factor @ factor.T + 0.1 * torch.rand(4, 4))")
    ],
    "sa_optimizer_gets_a_slice": [("params[:-2]", "params")],
    "sa_step_function_returns_a_detached_loss": [("loss.detach(), ", "loss, ")],
    "sa_mode_decides_over_gradients": [("self.training):", "True):")],
    "sa_functional_call_with_detached_weights": [("v.detach() +", "v +")],
    "sa_every_token_is_padding": [("w.upper()", "w")],
    "sa_dropout_grows_to_one": [("min(1.0, ", "min(0.9, ")],
    "sa_temperature_is_a_plain_tensor": [
        ("torch.tensor(2.6, requires_grad=True)", "nn.Parameter(torch.tensor(2.6))")
    ],
    "sa_weight_norm_comes_after_the_optimizer": [
        ("optimizer = torch.optim.Adam(vocoder.parameters(), lr=1e-3)  # here\n", ""),
        (
            "for wave in",
            "optimizer = torch.optim.Adam(vocoder.parameters(), lr=1e-3)\nfor wave in",
        ),
    ],
    "sa_epoch_is_shorter_than_the_accumulation": [("every=8", "every=3")],
    "sa_bonus_of_a_helper_is_a_number": [("mean().item()", "mean()")],
    "sa_state_of_a_language_model_starts_as_none": [
        (
            "    loss.backward()\n",
            "    loss.backward()\n    model.state = tuple(each.detach() for each in model.state)\n",
        )
    ],
    "tb_latent_by_torch_normal": [
        (
            "torch.normal(mu, torch.exp(0.5 * logvar))",
            "mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)",
        )
    ],
    "tb_student_is_indented_too": [("            out =", "        out =")],
    "tb_weights_of_tasks_are_normalized": [
        (
            "    weights = 2 * weights / weights.sum()  # here\n",
            "    with torch.no_grad():\n        weights.copy_(2 * weights / weights.sum())\n",
        )
    ],
    "tb_ppo_keeps_the_graph_of_the_rollout": [("stack(logps)", "stack(logps).detach()")],
    "tb_features_of_a_hook_are_detached": [("output.detach()", "output")],
    "tb_half_of_a_chunk_changes_in_place": [("gate.sigmoid_()", "gate = gate.sigmoid()")],
    "tb_zero_grad_stands_before_the_step": [
        ("        self.optimizer.zero_grad()  # here\n", ""),
        (
            "        self.backward(loss)",
            "        self.optimizer.zero_grad()\n        self.backward(loss)",
        ),
    ],
    "tb_scaler_steps_without_scaling": [("loss.backward()", "scaler.scale(loss).backward()")],
    "tb_multipliers_are_clamped_into_the_module": [
        (
            "        self.multipliers = self.multipliers.clamp(min=0)  # here\n",
            "        with torch.no_grad():\n"
            "            self.multipliers.copy_(self.multipliers.clamp(min=0))\n",
        )
    ],
    "tb_class_without_examples": [("/ positive\n", "/ (positive + 1)\n")],
    "tb_retained_graph_of_a_state": [
        (
            "        self.h = self.cell(x, self.h)\n",
            "        state = None if self.h is None else self.h.detach()\n"
            "        self.h = self.cell(x, state)\n",
        )
    ],
    "tb_losses_of_time_steps_in_a_new_tensor": [("FloatTensor(losses)", "stack(losses)")],
    "tb_centers_of_a_property": [("self._centers.data", "self._centers")],
    "tb_gates_of_a_hand_written_cell": [
        (
            '[self.gate(n_in, n_hidden) for _ in "ifco"]',
            'nn.ParameterList(nn.ParameterList(self.gate(n_in, n_hidden)) for _ in "ifco")',
        )
    ],
    "vb_average_in_place_of_the_weights": [("        p.data.copy_(e)  # here\n", "")],
    "vb_start_loaded_back": [
        ("    model.load_state_dict(start)  # here\n", ""),
        ("for _ in range(4)", "model.load_state_dict(start)\nfor _ in range(4)"),
    ],
    "vb_mode_switched_off_in_evaluation": [("grad_enabled(False)", "grad_enabled(True)")],
    "vb_statistics_reset_before_backward": [
        ("norm.reset_running_stats()  # here\n", ""),
        ("loss.backward()\n", "loss.backward()\nnorm.reset_running_stats()\n"),
    ],
    "vb_hook_of_a_module_without_gradient": [("(torch.zeros(1),)", "None")],
    "vb_slope_of_a_field_from_grad": [
        (
            "-positions.grad",
            "-torch.autograd.grad(energy.sum(), positions, create_graph=True)[0]",
        ),
        ("    energy.sum().backward(retain_graph=True)\n", ""),
    ],
    "vb_rounded_in_a_library": [
        (
            "out = quantize(model(torch.rand(8, 3)), 4)",
            "x = model(torch.rand(8, 3))\n    out = x + (quantize(x, 4) - x).detach()",
        )
    ],
    "va_batches_are_yielded_under_no_grad": [
        ("        for i in range", "    for i in range"),
        ("            yield", "        yield"),
    ],
    "va_image_features_are_put_into_a_copy": [("[ids == IMAGE][:]", "[ids == IMAGE]")],
    "va_ranking_targets_are_zeros": [("torch.zeros(8)", "torch.ones(8)")],
    "va_posterior_of_a_beta": [
        ("self.alpha(h)).squeeze(1)", "self.alpha(h)).squeeze(1) + 0.1"),
        ("self.beta(h)).squeeze(1)", "self.beta(h)).squeeze(1) + 0.1"),
    ],
    "va_house_prices_with_a_dataclass_of_weights": [
        ("weights = cold_start(weights)\nfor", "for"),
        ("optimizer = ", "weights = cold_start(weights)\noptimizer = "),
    ],
    "va_boxes_are_integer_cells": [("corners.long()", "corners")],
    "va_units_are_shrunk_to_zero": [("lambd=5.0", "lambd=0.05")],
    "va_shift_is_a_whole_number": [
        ("torch.roll(signal, int(delay.round()))", "torch.lerp(*near(delay), delay % 1)"),
        (
            "for _ in",
            "\n\ndef near(delay):\n    low = int(delay.detach())\n"
            "    return torch.roll(signal, low), torch.roll(signal, low + 1)\n\n\nfor _ in",
        ),
    ],
    "va_state_of_a_run_is_replaced": [
        ("    baseline = 0.9", "    value = value.detach()\n    baseline = 0.9")
    ],
    "va_class_of_the_loss_gets_the_batch": [("nn.MSELoss(", "nn.MSELoss()(")],
    "va_criterion_goes_backward": [("criterion.backward()", "loss.backward()")],
    "va_plans_of_transport_overflow": [
        ("torch.exp(-cost / eps)", "-cost / eps"),
        (
            "u, v = torch.ones(len(cost)), torch.ones(cost.shape[1])",
            "u, v = torch.zeros(len(cost)), torch.zeros(cost.shape[1])",
        ),
        ("1 / (kernel @ v)", "-torch.logsumexp(kernel + v, 1)"),
        ("1 / (kernel.T @ u)", "-torch.logsumexp(kernel.T + u, 1)"),
        ("u[:, None] * kernel * v", "torch.exp(u[:, None] + kernel + v)"),
    ],
    "va_state_is_repackaged_for_nothing": [
        (
            "        h, hidden = self.rnn",
            "        hidden = tuple(each.detach() for each in hidden)\n"
            "        h, hidden = self.rnn",
        )
    ],
    "va_mixture_density_underflows": [
        ("torch.exp(-0.5 * z**2) / (scale * math.sqrt(2 * math.pi))", "-0.5 * z**2 - scale.log()"),
        ("torch.log((weight * density).sum(1))", "torch.logsumexp(weight.log() + density, 1)"),
    ],
    "va_attention_reads_what_is_written": [
        ("states[:, : t + 1])", "torch.stack(kept, 1))"),
        ("            states[:, t + 1] = h  # here\n", "            kept.append(h)\n"),
        ("        states[:, 0] = h\n", "        kept = [h]\n"),
    ],
    "va_values_of_the_critic_are_collected": [
        ("critic(state).item()", "critic(state).squeeze()"),
        ("torch.tensor(values, requires_grad=True)", "torch.stack(values)"),
    ],
    "va_probabilities_above_one": [("criterion(model(x), y)", "criterion(model(x).sigmoid(), y)")],
    "va_biases_alone_are_tuned": [('name.endswith("bias")', "True")],
    "va_codes_become_hard_too_soon": [
        ("self.beta * self.code(h)", "self.beta * self.code(h) / 1e8")
    ],
    "va_zoom_is_a_number": [
        (
            'nn.functional.interpolate(image, scale_factor=float(self.zoom), mode="bilinear")',
            "nn.functional.grid_sample(image, self.grid(image))",
        ),
        (
            "    def forward",
            "    def grid(self, image):\n        theta = torch.eye(2, 3)[None] / self.zoom\n"
            "        return nn.functional.affine_grid(theta, image.shape)\n\n    def forward",
        ),
    ],
    "va_schedule_ends_at_zero": [("/ a.sqrt()", "/ a.clamp(min=1e-3).sqrt()")],
    "va_squashed_actions": [("torch.log(1 - action**2)", "torch.log(1 - action**2 + 1e-6)")],
    "va_sentence_of_padding_alone": [("words[3] = 0", "words[3, 1:] = 0")],
    "va_everything_is_pruned": [('"weight", amount=1.0', '"weight", amount=1')],
    "va_layer_of_the_class": [
        ("    mix = nn.Linear(4, 4)\n\n", ""),
        ("        self.out", "        self.mix = nn.Linear(4, 4)\n        self.out"),
    ],
    "va_lambdas_take_the_last_layer": [("lambda x: torch", "lambda x, layer=layer: torch")],
    "va_rays_hit_by_a_condition": [
        ("(distance < self.radius).float()", "torch.sigmoid((self.radius - distance) / 0.1)")
    ],
    "xa_generator_is_cut_before_its_own_step": [("torch.tensor(G(z).tolist())", "G(z)")],
    "xa_fake_of_a_function_is_detached": [("G(z).detach()  # here", "G(z)")],
    "xa_actor_through_a_detached_critic": [("[state, action], 1).detach()", "[state, action], 1)")],
    "xa_pretrained_in_a_phase_of_its_own": [
        ("    with torch.no_grad():\n        a", "    if 1:\n        a")
    ],
    "xa_prediction_beside_a_target": [("self.net(pair).detach()", "self.net(pair)")],
    "xa_forward_is_decorated": [("    @torch.no_grad()  # here\n", "")],
    "xa_term_is_added_and_left": [("    loss + 0.5", "    loss = loss + 0.5")],
    "xa_state_of_a_cell_is_left": [("            torch.tanh(", "            h = torch.tanh(")],
    "xa_total_stays_a_number": [("        loss + head", "        loss = loss + head")],
    "xa_loss_has_only_its_shape": [("torch.zeros_like(each).mean()", "each.mean()")],
    "xa_half_of_the_generator_is_optimized": [
        ("generator[0].parameters()", "generator.parameters()")
    ],
    "xa_one_critic_of_two_is_optimized": [("critic.two.parameters()", "critic.parameters()")],
    "xa_weights_of_losses_are_plain": [("torch.zeros(2)", "torch.zeros(2).requires_grad_()")],
    "xa_gradients_are_read_when_they_are_cleared": [
        (
            "    loss.backward(retain_graph=True)\n    model.zero_grad()\n",
            "    model.zero_grad()\n    loss.backward(retain_graph=True)\n",
        )
    ],
    "xa_weight_is_replaced_beside_another_optimizer": [
        (
            "critic_opt = torch",
            "world_opt = torch.optim.Adam(world.parameters(), lr=6e-4)\ncritic_opt = torch",
        )
    ],
    "xa_rate_of_zero": [("lr=0.0", "lr=0.1")],
    "xa_gradients_are_taken_over_and_never_used": [("optimizer.step  # here", "optimizer.step()")],
    "z5_memory_is_a_default": [("memory.append(h)", "memory.append(h.detach())")],
    "z5_history_of_a_module": [("self.history.append(h)", "self.history.append(h.detach())")],
    "z5_switch_beside_a_block": [
        ("    return model", "    torch.set_grad_enabled(True)\n    return model")
    ],
    "z5_kernel_underflows": [("-10 * d", "-d / d.mean()")],
    "z5_actor_times_zero": [(" * self.scale", "")],
    "z5_weights_are_left": [
        ("    loss = a + b\n", ""),
        ("    model.weigh(a, b)", "    loss = model.weigh(a, b)"),
    ],
    "z5_helper_returns_nothing": [
        ("out = out * scale", "return out * scale"),
        ("    scaled(out, scale)", "    out = scaled(out, scale)"),
    ],
    "z5_norm_is_left": [("        self.norm(h)", "        h = self.norm(h)")],
    "z5_add_is_left": [("        h.add(", "        h = h.add(")],
    "z5_deviation_is_nan": [("/ ret.std()", "/ (ret.std() + 1e-6)")],
    "z5_probabilities_are_nan": [("torch.sqrt(p - p)", "torch.sqrt(p - p + 1e-6)")],
    "z5_covariance_is_nan": [("1).max())", "1).max().clamp(min=1e-6))")],
    "z5_loss_of_agents_under_no_grad": [
        ("with torch.no_grad():\n            pol_loss", "if True:\n            pol_loss")
    ],
    "z5_data_beside_a_frozen_model": [(".log_softmax(-1)).data", ".log_softmax(-1))")],
    "z5_loss_is_a_new_leaf": [(".detach().requires_grad_()", "")],
    "z5_weighted_loss_is_a_new_leaf": [(".detach().requires_grad_()", "")],
    "z5_surgery_behind_a_cut": [("(self.trunk(x)).detach()", "self.trunk(x)")],
    "xb_adapters_of_checkpointed_blocks": [("use_reentrant=True", "use_reentrant=False")],
    "xb_norm_divides_in_place": [("f /= f.norm", "f = f / f.norm")],
    "xb_weights_are_clamped_by_a_regularizer": [
        ("    with torch.no_grad():\n        m.weight.clamp_(-1.0, 1.0)  # here\n", ""),
        (
            "    opt.step()",
            "    opt.step()\n    with torch.no_grad():\n        net.fc.weight.clamp_(-1.0, 1.0)",
        ),
    ],
    "xb_masked_row_of_attention": [("i[:, None] - 1)", "i[:, None] - 3)")],
    "xb_language_model_is_frozen_by_no_grad": [
        ("with torch.no_grad():  # here", "if True:"),
        ("LLM(d, vocab)\n", "LLM(d, vocab).requires_grad_(False)\n"),
    ],
    "xb_gradients_are_clipped_while_scaled": [
        (
            "        nn.utils.clip_grad",
            "        self.scaler.unscale_(self.optimizer)\n        nn.utils.clip_grad",
        )
    ],
    "xb_closure_without_backward": [
        ("residual(model, t)\n    return", "residual(model, t)\n    loss.backward()\n    return")
    ],
    "xb_gradnorm_without_second_order": [("retain_graph=True)[0]", "create_graph=True)[0]")],
    "xb_quantized_weights_are_rounded": [
        ("torch.round(w / s),", "(w / s + (torch.round(w / s) - w / s).detach()),")
    ],
    "xb_tracked_memory_of_a_generator": [
        (
            "        lstm_out,",
            "        self.hidden = tuple(each.detach() for each in self.hidden)\n        lstm_out,",
        )
    ],
    "xb_sine_curves_with_the_critic_first": [
        (
            "    opt_G.zero_grad()\n    G_loss",
            "    opt_G.zero_grad()\n    G_loss = "
            "torch.mean(torch.log(1.0 - D(G_paintings)))\n    G_loss",
        )
    ],
    "xb_lights_of_a_list_of_numbers": [
        (
            "torch.tensor(value, dtype=dtype)",
            "torch.stack([torch.stack([*map(torch.as_tensor, row)]) for row in value])",
        )
    ],
    "xb_function_differentiates_in_backward": [
        (
            "        out = torch.tanh(x0 @ w)  # here",
            "        with torch.enable_grad():\n            out = torch.tanh(x0 @ w)",
        ),
        ("        out.requires_grad_(True)\n", ""),
        ("grad(out, x0, grad_output, allow_unused=True)", "grad(out, x0, grad_output, True)"),
    ],
    "xb_derivative_is_predicted": [("x, retain_graph=True)", "x, create_graph=True)")],
    "xb_second_derivative_of_linear_layers": [
        ("Potential()", "Potential(activation=nn.Tanh())"),
        ("- x.sum(1)", "+ model(x)[:, 0] - x.sum(1)"),
    ],
    "xb_kernel_of_arcface": [
        (
            "momentum=0.9\n        )\n",
            "momentum=0.9\n        )\n"
            '        self.optimizer.add_param_group({"params": [self.head.kernel]})\n',
        )
    ],
    "xb_compressive_memory_of_segments": [
        (
            "    def forward(self, x):\n        q, k",
            "    def cut(self):\n        self.M, self.z = self.M.detach(), self.z.detach()\n\n"
            "    def forward(self, x):\n        q, k",
        ),
        ("    loss.backward()\n", "    loss.backward()\n    model.attn.cut()\n"),
    ],
    "xb_ratio_of_unscaled_observations": [
        ("torch.exp(old_log_prob - log_prob)", "torch.exp((old_log_prob - log_prob).clamp(-5, 5))")
    ],
    "xb_unknown_words_are_zeroed": [
        (
            "        self.item_emb.weight[self.unk] =",
            "        with torch.no_grad():\n            self.item_emb.weight[self.unk] =",
        )
    ],
    "xb_losses_of_an_epoch_are_summed": [
        ("epoch_loss.backward()\n", "epoch_loss.backward()\n            losses.clear()\n")
    ],
    "wa_segmentation_is_argmaxed_for_the_dice": [
        ("    labels = logits.argmax(dim=1)  # here\n", ""),
        ("F.one_hot(labels, n_classes).permute(0, 3, 1, 2).float()", "torch.softmax(logits, 1)"),
    ],
    "wa_pretrained_vectors_stay_as_they_are": [
        ("(vectors, padding_idx=0)", "(vectors, freeze=False, padding_idx=0)")
    ],
    "wa_relational_scores_overflow": [
        (
            "        weights = torch.exp(scores)  # here\n",
            "        most = torch.zeros(len(x)).scatter_reduce(\n"
            '            0, dst, scores.detach(), "amax", include_self=False\n        )\n'
            "        weights = torch.exp(scores - most[dst])\n",
        )
    ],
    "xb_edges_are_drawn_and_indexed": [
        ("def forward(self, x, edge_index):", "def forward(self, x, edge_index, weight):"),
        ("index_add(0, dst, x[src])", "index_add(0, dst, weight[:, None] * x[src])"),
        ("self.conv1(x, edge_index)", "self.conv1(x, edge_index, edge_weight)"),
        ("self.conv2(h, edge_index)", "self.conv2(h, edge_index, edge_weight)"),
    ],
    "xb_gradients_of_the_perturbation_pile_up": [
        (
            "        loss.backward()\n        grad",
            "        delta.grad = None\n        loss.backward()\n        grad",
        )
    ],
    "xb_refined_frame_is_not_compared": [("in merged)", "in [*merged, pred])")],
    "xb_rate_decays_in_each_batch": [
        ("            scheduler.step()\n", ""),
        ("        print(epoch, sum", "        scheduler.step()\n        print(epoch, sum"),
    ],
    "xb_points_repel_each_other": [("torch.sqrt(squared)", "torch.sqrt(squared + 1e-8)")],
    "xb_gates_are_drawn_by_bernoulli": [
        (
            "torch.bernoulli(keep.expand_as(x))",
            "torch.distributions.RelaxedBernoulli(torch.tensor(0.5), keep.expand_as(x)).rsample()",
        )
    ],
    "xb_cleared_before_the_step_of_four": [
        (
            "self.optimizer.zero_grad()  # here\n                self.optimizer.step()\n",
            "self.optimizer.step()\n                self.optimizer.zero_grad()\n",
        )
    ],
    "ya_vocoder_output_is_cached": [
        (
            "self.model_d(self.y_hat)\n            return",
            "self.model_d(self.y_hat.detach())\n            return",
        )
    ],
    "z5_loss_of_an_actor_is_a_number": [
        ("torch.tensor((-self", "-self"),
        (".mean()).item(), requires_grad=True)", ".mean()"),
    ],
}


@pytest.mark.parametrize("name", FIXES)
def test_the_fix_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(name, FIXES[name], tmp_path, monkeypatch)
