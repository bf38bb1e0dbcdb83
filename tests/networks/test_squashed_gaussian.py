"""Tests for `tflearner.networks.squashed_gaussian`."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.networks.squashed_gaussian import LARGEST_ACTION, SquashedGaussian
from tflearner.testing import assert_close


def log_density(raw, loc, log_std):
    """log N(raw) - log(1 - tanh(raw)^2), float64 [B]; 1 - tanh^2 is 1 / cosh^2."""
    raw, loc, log_std = (np.float64(x) for x in (raw, loc, log_std))
    noise = (raw - loc) / np.exp(log_std)
    log_normal = -(noise**2) / 2 - log_std - np.log(2 * np.pi) / 2
    log_cosh = np.abs(raw) + np.log1p(np.exp(-2 * np.abs(raw))) - np.log(2)
    return (log_normal + 2 * log_cosh).sum(-1)


def case(seed=0, num=64):
    """Inputs and moderate actions, float32 [64, 6] and [64, 3]."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num, 6)).astype(np.float32)
    return inputs, np.tanh(rng.normal(size=(num, 3))).astype(np.float32)


# Means and noise that make |raw| everything from 0 to 50, on both sides.
RAW = np.float32([-50, -20, -9.1, -9, -5, -1, -1e-3, 0, 1e-3, 1, 5, 9, 9.1, 20, 50])
NOISE = np.resize(np.float32([0.0, -1.5, 0.3, 2.0]), RAW.shape)
LOG_STD = np.resize(np.float32([-3.0, 0.5, -1.0]), RAW.shape)
LOC = RAW - np.exp(LOG_STD) * NOISE


def test_draws_have_the_density_of_the_change_of_variables(compiled):
    def draw(inputs, noise):
        return SquashedGaussian.from_logits(inputs).rsample_and_logp(noise)

    inputs = np.stack([LOC, LOG_STD], -1)
    actions, logp = compiled(draw)(inputs=inputs, noise=NOISE[:, None])
    raw = np.float64(LOC) + np.exp(np.float64(LOG_STD)) * NOISE
    assert_close(actions, np.tanh(raw)[:, None], rtol=1e-5, atol=1e-6)
    want = log_density(raw[:, None], inputs[:, :1], inputs[:, 1:])
    assert_close(logp, want, rtol=2e-6, atol=2e-5)


def test_oracle_is_the_textbook_formula_where_that_can_be_computed():
    raw = np.linspace(-8, 8, 33)[:, None]
    log_normal = -((raw - 0.3) ** 2) / 2 / 0.25 - np.log(0.5) - np.log(2 * np.pi) / 2
    want = (log_normal - np.log(1 - np.tanh(raw) ** 2)).sum(-1)
    assert_close(log_density(raw, 0.3, np.log(0.5)), want, rtol=1e-8)


def test_gradients_of_saturated_draws_are_finite_and_right(compiled):
    def gradients(inputs, noise):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            actions, logp = SquashedGaussian.from_logits(inputs).rsample_and_logp(noise)
        return tape.gradient(actions, inputs), tape.gradient(logp, inputs)

    inputs = np.stack([LOC, LOG_STD], -1)
    of_actions, of_logp = compiled(gradients)(inputs=inputs, noise=NOISE[:, None])
    raw = np.float64(LOC) + np.exp(np.float64(LOG_STD)) * NOISE
    path = np.stack([np.ones_like(raw), raw - LOC], -1)  # d raw / d inputs
    slope = 1 / np.cosh(raw) ** 2
    # tanh' is computed as 1 - tanh^2, which is a rounding error where it is tiny.
    assert_close(of_actions, slope[:, None] * path, rtol=1e-3, atol=1e-6)
    want = 2 * np.tanh(raw)[:, None] * path - [0.0, 1.0]
    assert_close(of_logp, want, rtol=1e-5, atol=1e-5)


def test_logp_of_given_actions(compiled):
    def evaluate(inputs, actions):
        return SquashedGaussian.from_logits(inputs).logp(actions)

    inputs, actions = case()
    got = compiled(evaluate)(inputs=inputs, actions=actions)
    want = log_density(np.arctanh(np.float64(actions)), inputs[:, :3], inputs[:, 3:])
    assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_numpy_equals_tensorflow():
    inputs, actions = case()
    dist = SquashedGaussian.from_logits(tf.constant(inputs))
    got = SquashedGaussian.logp_np(inputs, actions)
    assert got.dtype == np.float32
    assert_close(got, dist.logp(actions), rtol=1e-6, atol=1e-6)
    greedy = SquashedGaussian.deterministic_np(inputs)
    assert_close(greedy, dist.to_deterministic().sample(), rtol=1e-6)
    assert_close(greedy, np.tanh(inputs[:, :3]))


@pytest.mark.parametrize("edge", [1.0, -1.0, 1.0 - 1e-7, LARGEST_ACTION, 0.9999])
def test_logp_at_saturation_is_finite(edge):
    inputs, _ = case()
    actions = np.full((64, 3), edge, np.float32)
    got = SquashedGaussian.logp_np(inputs, actions)
    want = SquashedGaussian.from_logits(tf.constant(inputs)).logp(actions)
    assert np.isfinite(got).all()
    # Terms near 20 cancel: each is right to 1e-6.
    assert_close(got, want, rtol=2e-6, atol=2e-5)
    bound = np.float64(np.float32(LARGEST_ACTION))
    raw = np.arctanh(np.clip(np.float64(actions), -bound, bound))
    assert_close(got, log_density(raw, inputs[:, :3], inputs[:, 3:]), atol=2e-5)


def test_logp_of_given_actions_is_that_of_the_draw():
    inputs, _ = case()
    dist = SquashedGaussian.from_logits(tf.constant(inputs))
    actions, logp = dist.rsample_and_logp(seed=tf.constant([1, 2]))
    assert_close(actions, dist.rsample(seed=tf.constant([1, 2])))
    inner = np.abs(actions).max(-1) < 0.99
    assert 20 < inner.sum()
    assert_close(dist.logp(actions)[inner], logp[inner], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("inputs", [(0.0, 0.0), (0.7, -1.0), (-1.5, 0.3)])
def test_density_integrates_to_one(inputs):
    actions = np.float32(np.linspace(-0.99999, 0.99999, 200_001))
    inputs = np.tile(np.float32(inputs), (len(actions), 1))
    density = np.exp(SquashedGaussian.logp_np(inputs, actions[:, None]), dtype="f8")
    assert_close(np.trapezoid(density, actions), 1.0, rtol=2e-3)


def test_draws_have_the_right_distribution():
    inputs = np.tile(np.float32([0.5, -0.5, np.log(0.5), np.log(2.0)]), (20_000, 1))
    draws = SquashedGaussian.sample_np(inputs, np.random.default_rng(0))
    dist = SquashedGaussian.from_logits(tf.constant(inputs))
    for actions in (draws, dist.sample(seed=tf.constant([1, 2])).numpy()):
        assert actions.dtype == np.float32
        assert np.abs(actions).max() <= 1.0
        raw = np.arctanh(np.clip(actions, -LARGEST_ACTION, LARGEST_ACTION))
        assert_close(raw.mean(0), [0.5, -0.5], rtol=0, atol=4 * 2.0 / 20_000**0.5)
        assert_close(raw.std(0), [0.5, 2.0], rtol=0.03)


def test_draws_repeat_with_their_seed():
    inputs, _ = case()
    dist = SquashedGaussian.from_logits(tf.constant(inputs))
    for draw in (
        lambda seed: dist.sample(seed=tf.constant([0, seed])).numpy(),
        lambda seed: SquashedGaussian.sample_np(inputs, np.random.default_rng(seed)),
    ):
        np.testing.assert_array_equal(draw(1), draw(1))
        assert (draw(1) != draw(2)).any()


def test_plain_draws_carry_no_gradients():
    inputs = tf.constant(case()[0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        dist = SquashedGaussian.from_logits(inputs)
        plain, pathwise = dist.sample([1, 2]), dist.rsample([1, 2])
    assert tape.gradient(plain, inputs) is None
    assert tape.gradient(pathwise, inputs) is not None


def test_entropy_and_kl_have_no_closed_form():
    dist = SquashedGaussian.from_logits(tf.zeros([2, 4]))
    for call in (dist.entropy, lambda: dist.kl(dist)):
        with pytest.raises(NotImplementedError, match="no closed form"):
            call()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_actions_may_have_the_shape_of_the_space(shape):
    size = int(np.prod(shape))
    space = gym.spaces.Box(-1, 1, shape)
    assert SquashedGaussian.required_input_dim(space) == 2 * size
    inputs = np.random.default_rng(0).normal(size=(5, 2 * size)).astype(np.float32)
    flat = SquashedGaussian.sample_np(inputs, np.random.default_rng(1))
    actions, want = flat.reshape(5, *shape), SquashedGaussian.logp_np(inputs, flat)
    dist = SquashedGaussian.from_logits(tf.constant(inputs))
    for got in (SquashedGaussian.logp_np(inputs, actions), dist.logp(actions)):
        assert_close(got, want, rtol=1e-5, atol=1e-5)
