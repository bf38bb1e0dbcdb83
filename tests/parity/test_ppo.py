"""Updates of PPO against those of RLlib's torch learner, step by step."""

import json
import pathlib

import numpy as np
import pytest

ALGORITHM = "ppo"
RECORDED = json.loads((pathlib.Path(__file__).parent / "data/ppo.json").read_text())
CASES = RECORDED["cases"]
SHORT = ("discrete_minibatches", "two_modules")  # Traced in the plain run.


def is_comparable(name, case, module_id):
    """Whether RLlib reports the same as we do; tests below hold the differences."""
    if name == "mean_kl_loss":
        return case.training(module_id).get("use_kl_loss", True)
    has_masks = case.settings["masked"] or case.settings["steps"] is not None
    return name != "vf_explained_var" or not has_masks


# The numbers are the same.


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_that_of_rllib(name, case, start, assert_updates, assert_steps):
    case = case(name)
    learner = start(case, run_eagerly=True)
    assert_updates(case, learner)
    assert len(learner.steps) == sum(case.settings["steps_per_update"])
    assert_steps(case, learner)


@pytest.mark.parametrize("name", SHORT)
def test_traced_updates_are_those_of_rllib(name, case, start, assert_updates):
    case = case(name)
    learner = start(case)
    assert_updates(case, learner)
    assert learner.num_traces == 1


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_compiled_updates_are_those_of_rllib(
    name, jit_compile, case, start, assert_updates
):
    case = case(name)
    assert_updates(case, start(case, jit_compile=jit_compile))


# Where they are not, on purpose.


def test_norm_before_clipping_is_reported_however_gradients_are_clipped(
    case, start, assert_parity
):
    """RLlib reports it for clipping by global norm alone."""
    case = case("discrete_by_value")
    learner = start(case, run_eagerly=True)
    name = "gradients_default_optimizer_global_norm"
    for results, num_steps in case.updates(learner):
        gradients = case.arrays["default_policy/gradients"][num_steps - 1]
        assert_parity(results["default_policy"][name], np.linalg.norm(gradients))


def test_explained_variance_leaves_masked_rows_out(case, start):
    """RLlib's takes them in."""
    case = case("discrete_masked")
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


def test_kl_divergence_is_reported_even_where_it_is_not_used(case, start):
    """RLlib reports 0 then."""
    case = case("discrete_kl_off")
    learner = start(case, run_eagerly=True)
    results, _ = next(case.updates(learner))
    assert case.term("mean_kl_loss")[0] == 0.0
    assert results["default_policy"]["mean_kl_loss"] > 0.01


# The recordings see what they should.


def test_recordings_take_every_branch(case):
    """Guards the other tests: they only see what the recorded inputs exercise."""
    kl_factors, is_clipped, is_value_clipped = set(), {}, set()
    for name in CASES:
        own = case(name)
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


def test_probability_ratios_leave_the_clip_on_both_sides(case, start):
    case = case("discrete")
    learner = start(case, run_eagerly=True)
    module, batch = learner.module["default_policy"], case.batch()["default_policy"]
    inputs = module.forward_train(batch)["action_dist_inputs"].numpy()
    logp = module.get_train_action_dist_cls().logp_np(inputs, batch["actions"])
    ratio, advantages = np.exp(logp - batch["action_logp"]), batch["advantages"]
    for rows in (advantages > 0.0, advantages < 0.0):
        assert (ratio[rows] < 0.8).any() and (ratio[rows] > 1.2).any()
        assert ((ratio[rows] > 0.8) & (ratio[rows] < 1.2)).any()
