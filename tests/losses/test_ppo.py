"""Tests for `tflearner.losses.ppo`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses import ppo
from tflearner.testing import assert_close

SETTINGS = {
    "clip_param": 0.2,
    "vf_clip_param": 1.0,
    "vf_loss_coeff": 0.5,
    "entropy_coeff": 0.01,
    "kl_coeff": 0.3,
}
PER_STEP = (
    "logp",
    "logp_old",
    "advantages",
    "values",
    "value_targets",
    "entropy",
    "kl",
)
COEFFICIENTS = ("entropy_coeff", "kl_coeff")
MASKS = [[True] * 6, [True, False, True, True, False, False]]


def oracle(batch, mask, settings):
    """The terms of equations (7) to (9), one step at a time, and their gradients.

    Returns:
        ({term: scalar}, {column: gradient of the total. [6]}).
    """
    clip, cap = settings["clip_param"], settings["vf_clip_param"]
    c_v, c_e = settings["vf_loss_coeff"], settings["entropy_coeff"]
    c_kl, num = settings["kl_coeff"], np.sum(mask)
    names = ("policy", "value", "value_unclipped", "value_clip_fraction")
    terms = dict.fromkeys((*names, "entropy", "kl"), 0.0)
    gradients = {column: np.zeros(6) for column in ("logp", "values", "entropy", "kl")}
    for t in np.flatnonzero(mask):
        step = {column: float(batch[column][t]) for column in PER_STEP}
        ratio, advantage = np.exp(step["logp"] - step["logp_old"]), step["advantages"]
        # What the minimum in (7) amounts to: no gain from leaving the interval.
        gains_nothing = ratio > 1 + clip if advantage > 0 else ratio < 1 - clip
        bound = 1 + clip if advantage > 0 else 1 - clip
        surrogate = (bound if gains_nothing else ratio) * advantage
        error = step["values"] - step["value_targets"]
        terms["policy"] -= surrogate / num
        terms["value"] += min(error**2, cap) / num
        terms["value_unclipped"] += error**2 / num
        terms["value_clip_fraction"] += (error**2 > cap) / num
        terms["entropy"] += step["entropy"] / num
        terms["kl"] += step["kl"] / num
        gradients["logp"][t] = 0.0 if gains_nothing else -ratio * advantage / num
        gradients["values"][t] = c_v * 2 * error / num if error**2 < cap else 0.0
        gradients["entropy"][t] = -c_e / num
        gradients["kl"][t] = c_kl / num
    terms["total"] = (
        terms["policy"]
        + c_v * terms["value"]
        - c_e * terms["entropy"]
        + c_kl * terms["kl"]
    )
    return terms, gradients


@pytest.fixture
def batch():
    """Six steps chosen to take every branch: see `test_batch_takes_every_branch`."""
    columns = {
        "logp": np.log([0.2, 0.9, 0.55, 0.2, 0.9, 0.45]),
        "logp_old": np.log([0.5] * 6),
        "advantages": [1.0, 2.0, 0.5, -1.0, -3.0, -0.25],
        "values": [0.0, 0.5, 3.0, -2.0, -0.5, 1.0],
        "value_targets": [0.5, 0.0, 0.0, 1.0, 0.25, -1.0],
        "entropy": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        "kl": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
    }
    return {column: np.float32(values) for column, values in columns.items()}


@pytest.mark.parametrize("mask", MASKS)
def test_batch_takes_every_branch(batch, mask):
    """Guards the other tests: an oracle only sees what its inputs exercise."""
    ratio = np.exp(batch["logp"] - batch["logp_old"])
    error = (batch["values"] - batch["value_targets"]) ** 2
    sides = {
        (float(np.sign(a)), "below" if r < 0.8 else "above" if r > 1.2 else "inside")
        for a, r in zip(batch["advantages"], ratio)
    }
    assert len(sides) == 6
    assert (error[mask] < 1.0).any() and (error[mask] > 1.0).any()


@pytest.mark.parametrize("mask", MASKS)
def test_terms_match_the_oracle(compiled, batch, mask):
    loss = compiled(ppo.ppo_loss)(**batch, mask=np.array(mask), **SETTINGS)
    want, _ = oracle(batch, mask, SETTINGS)
    for term, value in loss._asdict().items():
        assert_close(value, want[term], rtol=1e-5)


def test_without_a_mask_every_step_counts(compiled, batch):
    loss = compiled(ppo.ppo_loss)(**batch, **SETTINGS)
    assert_close(loss.total, oracle(batch, [True] * 6, SETTINGS)[0]["total"], rtol=1e-5)


def test_gradients_match_the_oracle(compiled, batch):
    def gradients(**batch):
        columns = {name: batch[name] for name in ("logp", "values", "entropy", "kl")}
        with tf.GradientTape() as tape:
            tape.watch(columns)
            total = ppo.ppo_loss(**batch, **SETTINGS).total
        return tape.gradient(total, columns)

    got = compiled(gradients)(**batch)
    for column, want in oracle(batch, [True] * 6, SETTINGS)[1].items():
        assert_close(got[column], want, rtol=1e-5)


def test_masked_steps_may_hold_anything(compiled, batch):
    """NaN in masked steps must reach neither the loss nor a gradient."""

    def loss_and_gradient(logp, values, **batch):
        with tf.GradientTape() as tape:
            tape.watch([logp, values])
            loss = ppo.ppo_loss(logp=logp, values=values, **batch, **SETTINGS)
        return loss, tape.gradient(loss.total, [logp, values])

    mask = np.array(MASKS[1])
    for name in PER_STEP:
        batch[name][~mask] = [np.nan, np.inf, -np.inf]
    loss, gradients = compiled(loss_and_gradient)(**batch, mask=mask)
    want, want_gradients = oracle(batch, mask, SETTINGS)
    for term, value in loss._asdict().items():
        assert_close(value, want[term], rtol=1e-5)
    assert_close(gradients[0], want_gradients["logp"], rtol=1e-5)
    assert_close(gradients[1], want_gradients["values"], rtol=1e-5)


def test_a_batch_without_a_step_that_counts_is_harmless(compiled, batch):
    loss = compiled(ppo.ppo_loss)(**batch, mask=np.zeros(6, bool), **SETTINGS)
    assert_close(loss.total, 0.0)


def test_sequences_are_averaged_over_all_steps(batch):
    sequences = {name: column.reshape(2, 3) for name, column in batch.items()}
    flat = ppo.ppo_loss(**batch, mask=np.array(MASKS[1]), **SETTINGS)
    mask = np.array(MASKS[1]).reshape(2, 3)
    assert_close(ppo.ppo_loss(**sequences, mask=mask, **SETTINGS).total, flat.total)


@pytest.mark.parametrize(("sign", "edge"), [(1.0, 1.2), (-1.0, 0.8)])
def test_no_gain_from_leaving_the_trust_interval(batch, sign, edge):
    batch["advantages"] = np.full(6, sign, np.float32)
    at_the_edge = batch | {"logp": batch["logp_old"] + np.float32(np.log(edge))}
    beyond = batch | {"logp": batch["logp_old"] + np.float32(sign * 2.0)}
    want = ppo.ppo_loss(**at_the_edge, **SETTINGS).policy
    assert_close(ppo.ppo_loss(**beyond, **SETTINGS).policy, want)


def test_infinite_vf_clip_clips_nothing(compiled, batch):
    settings = SETTINGS | {"vf_clip_param": float("inf")}
    loss = compiled(ppo.ppo_loss)(**batch, **settings)
    assert_close(loss.value, loss.value_unclipped)
    assert loss.value > 1.0


@pytest.mark.parametrize("kl_coeff", [0.0, 0])
def test_zero_kl_coeff_leaves_an_infinite_kl_out(batch, kl_coeff):
    batch["kl"][2] = np.inf
    loss = ppo.ppo_loss(**batch, **SETTINGS | {"kl_coeff": kl_coeff})
    want = loss.policy + 0.5 * loss.value - 0.01 * loss.entropy
    assert_close(loss.total, want)
    assert np.isinf(loss.kl)


def test_coefficients_may_be_variables(batch):
    coefficients = {name: tf.Variable(SETTINGS[name]) for name in COEFFICIENTS}
    loss = ppo.ppo_loss(**batch, **SETTINGS | coefficients)
    assert_close(loss.total, oracle(batch, [True] * 6, SETTINGS)[0]["total"], rtol=1e-5)


@pytest.mark.parametrize("name", [*PER_STEP[1:], "mask"])
def test_column_vector_is_rejected(batch, name):
    batch["mask"] = np.ones(6, bool)
    batch[name] = batch[name][:, None]
    with pytest.raises(ValueError, match=rf"`{name}` has shape \(6, 1\).*\(6,\)"):
        ppo.ppo_loss(**batch, **SETTINGS)
