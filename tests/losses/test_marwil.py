"""Tests for `tflearner.losses.marwil` and `tflearner.losses.bc`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses import marwil
from tflearner.losses.bc import bc_loss
from tflearner.testing import assert_close

SETTINGS = {"beta": 0.8, "vf_coeff": 0.5, "moving_average": 4.0}
PER_STEP = ("logp", "values", "value_targets")
MASKS = [[True] * 5, [True, False, True, True, False]]


def oracle(batch, mask):
    """Algorithm 1's terms, one step at a time, and the gradients of the total."""
    terms = {"policy": 0.0, "value": 0.0}
    gradients = {name: np.zeros(5) for name in ("logp", "values")}
    num = np.sum(mask)
    for t in np.flatnonzero(mask):
        step = {name: float(batch[name][t]) for name in PER_STEP}
        advantage = step["value_targets"] - step["values"]
        weight = np.exp(0.8 * advantage / 2.0)
        terms["policy"] -= weight * step["logp"] / num
        terms["value"] += 0.5 * advantage**2 / num
        gradients["logp"][t] = -weight / num
        gradients["values"][t] = -0.5 * advantage / num
    return terms | {"total": terms["policy"] + 0.5 * terms["value"]}, gradients


@pytest.fixture
def batch():
    """Five steps whose advantages have both signs."""
    rng = np.random.default_rng(0)
    columns = {name: rng.standard_normal(5, np.float32) for name in PER_STEP}
    columns["logp"] = -np.abs(columns["logp"])
    advantages = columns["value_targets"] - columns["values"]
    assert (advantages > 0.0).any() and (advantages < 0.0).any()
    return columns


@pytest.mark.parametrize("mask", MASKS)
def test_terms_and_gradients_match_the_oracle(compiled, batch, mask):
    """NaN in masked steps must reach neither the loss nor a gradient."""

    def loss_and_gradients(logp, values, **others):
        own = {"logp": logp, "values": values}
        with tf.GradientTape() as tape:
            tape.watch(own)
            loss = marwil.marwil_loss(**own, **others, **SETTINGS)
        return loss, tape.gradient(loss.total, own)

    mask = np.array(mask)
    wanted, wanted_gradients = oracle(batch, mask)
    for name in PER_STEP:
        batch[name][~mask] = np.nan
    loss, gradients = compiled(loss_and_gradients)(**batch, mask=mask)
    for term, value in loss._asdict().items():
        assert_close(value, wanted[term], rtol=1e-5)
    for name, gradient in gradients.items():
        assert_close(gradient, wanted_gradients[name], rtol=1e-5)


def test_beta_0_clones_every_step_alike(batch):
    loss = marwil.marwil_loss(**batch, **SETTINGS | {"beta": 0.0})
    assert_close(loss.policy, bc_loss(logp=batch["logp"]))
    assert_close(loss.policy, -batch["logp"].mean())


def test_better_actions_weigh_more(batch):
    better = batch | {"value_targets": batch["value_targets"] + np.float32(1.0)}
    ratio = marwil.marwil_loss(**better, **SETTINGS).policy
    ratio /= marwil.marwil_loss(**batch, **SETTINGS).policy
    assert_close(ratio, np.exp(0.8 * 1.0 / 2.0), rtol=1e-5)


def test_a_batch_without_a_step_that_counts_is_harmless(batch):
    loss = marwil.marwil_loss(**batch, **SETTINGS, mask=np.zeros(5, bool))
    assert_close(loss, np.zeros(3))


@pytest.mark.parametrize("mask", MASKS)
def test_mean_squared_advantage_is_twice_the_value_loss(batch, mask):
    mask = np.array(mask)
    want = 2.0 * marwil.marwil_loss(**batch, **SETTINGS, mask=mask).value
    for name in PER_STEP:
        batch[name][~mask] = np.nan
    batch.pop("logp")
    assert_close(marwil.mean_squared_advantage(**batch, mask=mask), want)


def test_the_average_moves_even_at_the_smallest_rate():
    """RLlib's, in float32, stays at 100 for ever at its default rate of 1e-8."""
    average = tf.constant(100.0, tf.float64)
    for _ in range(3):
        average = marwil.moved_average(average, tf.constant(4.0), 1e-8)
    assert_close(100.0 - average, 3 * 96e-8, rtol=1e-6)


@pytest.mark.parametrize("name", [*PER_STEP, "mask"])
def test_column_vector_is_rejected(batch, name):
    batch["mask"] = np.ones(5, bool)
    batch[name] = batch[name][:, None]
    with pytest.raises(ValueError, match=r"has shape \(5,( 1)?\)"):
        marwil.marwil_loss(**batch, **SETTINGS)
