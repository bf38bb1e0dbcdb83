"""Where updates of PPO differ from RLlib's, and what its recordings show."""

import numpy as np
import pytest

ALGORITHM = "ppo"


# Where numbers differ, on purpose.


def test_norm_before_clipping_is_reported_however_gradients_are_clipped(
    cases, start, assert_parity
):
    """RLlib reports it for clipping by global norm alone."""
    case = cases["discrete_by_value"]
    learner = start(case, run_eagerly=True)
    name = "gradients_default_optimizer_global_norm"
    for results, num_steps in case.updates(learner):
        gradients = case.arrays["default_policy/gradients"][num_steps - 1]
        assert_parity(results["default_policy"][name], np.linalg.norm(gradients))


def test_explained_variance_leaves_masked_rows_out(cases, start):
    """RLlib's takes them in."""
    case = cases["discrete_masked"]
    batch = case.batch()["default_policy"]
    rows = batch["loss_mask"]
    shares = []
    for own in (batch, {column: values[rows] for column, values in batch.items()}):
        learner = start(case, run_eagerly=True)
        results = learner.update_from_batch(own)
        shares.append(results["default_policy"]["vf_explained_var"])
    rllibs = case.term("vf_explained_var")[0]
    assert shares[0] == pytest.approx(shares[1], rel=1e-5)
    assert shares[0] != pytest.approx(rllibs, abs=1e-3)


def test_kl_divergence_is_reported_even_where_it_is_not_used(cases, start):
    """RLlib reports 0 then."""
    case = cases["discrete_kl_off"]
    learner = start(case, run_eagerly=True)
    results, _ = next(case.updates(learner))
    assert case.term("mean_kl_loss")[0] == 0.0
    assert results["default_policy"]["mean_kl_loss"] > 0.01


# The recordings see what they should.


def test_recordings_take_every_branch(cases):
    """Guards the other tests: they only see what the recorded inputs exercise."""
    kl_factors, is_clipped, is_value_clipped = set(), {}, set()
    for own in cases.values():
        for mid in own.module_ids:
            training = own.training(mid)
            arrays = own.arrays
            after = arrays[f"{mid}/after"][:, 0]
            coefficients = np.append(training["kl_coeff"], after)
            kl_factors |= set(np.round(coefficients[1:] / coefficients[:-1], 4))
            how, clipped = own.clipping(mid)
            is_clipped.setdefault(how, set()).add(bool(clipped.any()))
            unclipped = own.term("vf_loss_unclipped", mid)
            is_value_clipped |= set(own.term("vf_loss", mid) < unclipped)
    assert kl_factors >= {0.5, 1.0, 1.5}
    assert is_clipped[None] == {False}
    assert is_clipped["value"] == is_clipped["norm"] == {True}
    assert is_clipped["global_norm"] == {True, False}
    assert is_value_clipped == {True, False}


def test_probability_ratios_leave_the_clip_on_both_sides(cases, start):
    case = cases["discrete"]
    learner = start(case, run_eagerly=True)
    module, batch = learner.module["default_policy"], case.batch()["default_policy"]
    inputs = module.forward_train(batch)["action_dist_inputs"].numpy()
    logp = module.get_train_action_dist_cls().logp_np(inputs, batch["actions"])
    ratio, advantages = np.exp(logp - batch["action_logp"]), batch["advantages"]
    for rows in (advantages > 0.0, advantages < 0.0):
        assert (ratio[rows] < 0.8).any() and (ratio[rows] > 1.2).any()
        assert ((ratio[rows] > 0.8) & (ratio[rows] < 1.2)).any()
