"""Tests for `tflearner.networks.action_masks`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.networks import action_masks
from tflearner.networks.distributions import Categorical
from tflearner.spaces import mask_spaces
from tflearner.spaces.mask_spaces import ACTION_MASK, FORBIDDEN

MASKS = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]], np.int8)
LOGITS = np.random.default_rng(0).standard_normal((4, 3), np.float32)


def oracle(logits, masks):
    rows = []
    for row, mask in zip(logits, masks):
        keep = [bool(m) or not any(mask) for m in mask]
        rows.append([x if k else FORBIDDEN for x, k in zip(row, keep)])
    return np.array(rows, np.float32)


def test_inputs_cross_every_branch():
    num_allowed = MASKS.sum(1)
    assert {0, 1, 2, 3} == set(num_allowed)


@pytest.mark.parametrize("dtype", [np.int8, np.float32, np.uint8, np.bool_])
def test_forbidden_outputs_are_replaced(dtype):
    observations = {ACTION_MASK: MASKS.astype(dtype)}
    want = oracle(LOGITS, MASKS)
    np.testing.assert_array_equal(action_masks.masked(LOGITS, observations), want)
    got = mask_spaces.masked_np(LOGITS, observations)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.float32


def test_sequences_are_masked_like_rows():
    got = action_masks.masked(LOGITS[None], {ACTION_MASK: MASKS[None]})
    np.testing.assert_array_equal(got[0], oracle(LOGITS, MASKS))


def test_half_precision_stays_finite():
    got = action_masks.masked(LOGITS.astype(np.float16), {ACTION_MASK: MASKS})
    assert got.dtype == tf.float32 and np.isfinite(got).all()


def test_forbidden_actions_have_no_probability_and_no_gradient():
    logits, old = tf.constant(LOGITS), tf.constant(LOGITS[::-1].copy())
    with tf.GradientTape() as tape:
        tape.watch(logits)
        dist = Categorical.from_logits(
            action_masks.masked(logits, {ACTION_MASK: MASKS})
        )
        other = Categorical.from_logits(action_masks.masked(old, {ACTION_MASK: MASKS}))
        entropy, kl = dist.entropy(), other.kl(dist)
        total = tf.reduce_sum(entropy + kl)
    allowed = oracle(np.ones_like(LOGITS), MASKS) > 0
    weights = np.where(allowed, np.exp(LOGITS.astype(np.float64)), 0.0)
    p = weights / weights.sum(1, keepdims=True)
    want = -np.where(allowed, p * np.log(np.where(allowed, p, 1.0)), 0.0).sum(1)
    np.testing.assert_allclose(entropy, want, rtol=1e-5, atol=1e-7)
    assert np.isfinite(kl).all() and (kl.numpy()[1] == 0.0)
    gradients = tape.gradient(total, logits).numpy()
    assert np.isfinite(gradients).all() and (gradients[~allowed] == 0.0).all()


def test_forbidden_actions_are_never_drawn():
    rng = np.random.default_rng(0)
    many = {ACTION_MASK: np.repeat(MASKS[:3], 2000, axis=0)}
    inputs = mask_spaces.masked_np(np.repeat(LOGITS[:3], 2000, axis=0), many)
    for actions in (
        Categorical.sample_np(inputs, rng),
        Categorical.from_logits(tf.constant(inputs)).sample(seed=(1, 2)).numpy(),
        Categorical.deterministic_np(inputs),
    ):
        assert np.take_along_axis(many[ACTION_MASK], actions[:, None], 1).all()
        assert np.unique(actions).size > 1


class Always:
    """A generator of one and the same number."""

    def __init__(self, number):
        self.number = number

    def random(self, shape, dtype):
        return np.full(shape, self.number, dtype)


@pytest.mark.parametrize("number", [0.0, 1.0 - 2.0**-24])
def test_forbidden_actions_at_both_ends_are_never_drawn(number):
    """The smallest and the largest number that float32 generators draw."""
    masks = {ACTION_MASK: np.tile([0, 0, 1, 1, 1, 0, 0], (2000, 1))}
    logits = np.random.default_rng(0).normal(0.0, 3.0, (2000, 7)).astype(np.float32)
    inputs = mask_spaces.masked_np(logits, masks)
    actions = Categorical.sample_np(inputs, Always(number))
    assert np.isin(actions, (2, 3, 4)).all()
