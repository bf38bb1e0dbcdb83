"""Tests for `tflearner.losses.impala`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses.impala import impala_loss
from tflearner.losses.vtrace import VTrace
from tflearner.testing import assert_close

SETTINGS = {"vf_loss_coeff": 0.5, "entropy_coeff": 0.01}
PER_STEP = ("logp", "values", "entropy", "advantages", "value_targets")
MASK = np.array([[True, True, False], [True, False, False]])


def loss_of(*, advantages, value_targets, **batch):
    targets = VTrace(value_targets=value_targets, advantages=advantages)
    return impala_loss(targets=targets, **SETTINGS | batch)


def oracle(batch, mask):
    """Section 4.2's terms, one step at a time, and the gradients of the total."""
    terms = dict.fromkeys(("policy", "value", "entropy"), 0.0)
    gradients = {name: np.zeros(mask.shape) for name in ("logp", "values", "entropy")}
    num = mask.sum()
    for at in map(tuple, np.argwhere(mask)):
        step = {name: float(batch[name][at]) for name in PER_STEP}
        error = step["values"] - step["value_targets"]
        terms["policy"] -= step["logp"] * step["advantages"] / num
        terms["value"] += 0.5 * error**2 / num
        terms["entropy"] += step["entropy"] / num
        gradients["logp"][at] = -step["advantages"] / num
        gradients["values"][at] = 0.5 * error / num
        gradients["entropy"][at] = -0.01 / num
    total = terms["policy"] + 0.5 * terms["value"] - 0.01 * terms["entropy"]
    return terms | {"total": total}, gradients


@pytest.fixture
def batch():
    """Two sequences of three steps; all numbers differ."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((2, 3), np.float32) for name in PER_STEP}


@pytest.mark.parametrize("mask", [MASK, np.ones((2, 3), bool)])
def test_terms_and_gradients_match_the_oracle(compiled, batch, mask):
    """NaN in masked steps must reach neither the loss nor a gradient."""

    def loss_and_gradients(logp, values, entropy, **others):
        own = {"logp": logp, "values": values, "entropy": entropy}
        with tf.GradientTape() as tape:
            tape.watch(own)
            loss = loss_of(**own, **others)
        return loss, tape.gradient(loss.total, own)

    wanted, wanted_gradients = oracle(batch, mask)
    for name in ("logp", "values", "entropy"):
        batch[name][~mask] = np.nan
    loss, gradients = compiled(loss_and_gradients)(**batch, mask=mask)
    for term, value in loss._asdict().items():
        assert_close(value, wanted[term], rtol=1e-5)
    for name, gradient in gradients.items():
        assert_close(gradient, wanted_gradients[name], rtol=1e-5)


def test_without_a_mask_every_step_counts(batch):
    want = oracle(batch, np.ones((2, 3), bool))[0]
    assert_close(loss_of(**batch).total, want["total"], rtol=1e-5)


def test_a_batch_without_a_step_that_counts_is_harmless(batch):
    assert_close(loss_of(**batch, mask=np.zeros((2, 3), bool)), np.zeros(4))


@pytest.mark.parametrize("name", [*PER_STEP[1:], "mask"])
def test_column_of_another_shape_is_rejected(batch, name):
    batch["mask"] = MASK
    batch[name] = batch[name][:, :1]
    with pytest.raises(ValueError, match=rf"`{name}` has shape \(2, 1\).*\(2, 3\)"):
        loss_of(**batch)
