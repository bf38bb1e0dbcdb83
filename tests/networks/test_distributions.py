"""Tests for `tflearner.networks.distributions`."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.networks.distributions import Categorical, Deterministic, DiagGaussian
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
NUM_DRAWS = 20_000


def log_softmax(logits):
    shifted = np.float64(logits) - np.max(logits, -1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def categorical_closed_form(logits, other, actions):
    """(log p(a), -sum p log p, sum p (log p - log q)), float64."""
    logp, logq = log_softmax(logits), log_softmax(other)
    probs = np.exp(logp)
    taken = np.array([row[a] for row, a in zip(logp, actions)])
    return taken, -(probs * logp).sum(-1), (probs * (logp - logq)).sum(-1)


def gaussian_closed_form(inputs, other, actions):
    """The same for independent normal components."""
    (loc, log_std), (loc_2, log_std_2) = (
        np.split(np.float64(x), 2, -1) for x in (inputs, other)
    )
    std, std_2 = np.exp(log_std), np.exp(log_std_2)
    noise = (np.reshape(actions, loc.shape) - loc) / std
    logp = -(noise**2) / 2 - log_std - np.log(2 * np.pi) / 2
    entropy = 0.5 + np.log(2 * np.pi) / 2 + log_std
    square = std**2 + (loc - loc_2) ** 2
    kl = log_std_2 - log_std + square / (2 * std_2**2) - 0.5
    return logp.sum(-1), entropy.sum(-1), kl.sum(-1)


def case(cls, seed=0):
    """Inputs of two distributions, and actions. float32 [64, 6], int or float [64]."""
    rng = np.random.default_rng(seed)
    inputs, other = rng.normal(scale=2.0, size=(2, 64, 6)).astype(np.float32)
    if cls is Categorical:
        return inputs, other, rng.integers(6, size=64), categorical_closed_form
    actions = rng.normal(size=(64, 3)).astype(np.float32)
    return inputs, other, actions, gaussian_closed_form


both = pytest.mark.parametrize("cls", [Categorical, DiagGaussian])


@both
def test_closed_forms(compiled, cls):
    def evaluate(inputs, other, actions):
        dist = cls.from_logits(inputs)
        return dist.logp(actions), dist.entropy(), dist.kl(cls.from_logits(other))

    *arrays, closed_form = case(cls)
    inputs, other, actions = arrays
    got = compiled(evaluate)(inputs=inputs, other=other, actions=actions)
    for value, want in zip(got, closed_form(*arrays)):
        assert_close(value, want, rtol=1e-5, atol=1e-5)


@both
def test_numpy_logp_equals_tensorflow_probability(cls):
    inputs, _, actions, _ = case(cls)
    got = cls.logp_np(inputs, actions)
    want = cls.from_logits(tf.constant(inputs)).logp(actions)
    assert_close(got, want, rtol=1e-6, atol=1e-6)
    assert got.dtype == np.float32


@both
def test_numpy_functions_take_any_leading_dimensions(cls):
    inputs, _, actions, _ = case(cls)
    sequences = inputs.reshape(8, 8, 6)
    logp = cls.logp_np(sequences, actions.reshape(8, 8, *actions.shape[1:]))
    assert_close(logp, cls.logp_np(inputs, actions).reshape(8, 8))
    draws = cls.sample_np(sequences, np.random.default_rng(0))
    assert draws.shape == (8, 8, *actions.shape[1:])


@both
def test_numpy_draws_repeat_with_the_generator(cls):
    inputs, *_ = case(cls)
    draws = [cls.sample_np(inputs, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


@both
def test_tensorflow_draws_repeat_with_the_seed(cls):
    dist = cls.from_logits(tf.constant(case(cls)[0]))
    draws = [dist.sample(seed=tf.constant([0, seed])) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).numpy().any()


LOGITS = np.log(np.float32([0.5, 0.3, 0.15, 0.05]))


@pytest.mark.parametrize("shift", [0.0, -300.0, 300.0])
def test_numpy_draws_have_the_right_frequencies(shift):
    logits = np.tile(LOGITS + np.float32(shift), (NUM_DRAWS, 1))
    draws = Categorical.sample_np(logits, np.random.default_rng(0))
    assert draws.dtype == np.int32
    assert_frequencies(draws, np.exp(LOGITS))


def test_tensorflow_draws_have_the_right_frequencies():
    dist = Categorical.from_logits(tf.tile(LOGITS[None], [NUM_DRAWS, 1]))
    assert_frequencies(dist.sample(seed=tf.constant([1, 2])).numpy(), np.exp(LOGITS))


def assert_frequencies(draws, probabilities):
    got = np.bincount(draws, minlength=len(probabilities)) / len(draws)
    deviation = np.sqrt(probabilities * (1 - probabilities) / len(draws))
    assert (np.abs(got - probabilities) < 4 * deviation).all(), got


def test_gaussian_draws_have_the_right_moments():
    inputs = np.tile(np.float32([1.0, -2.0, np.log(0.5), np.log(3.0)]), (NUM_DRAWS, 1))
    draws = DiagGaussian.sample_np(inputs, np.random.default_rng(0))
    dist = DiagGaussian.from_logits(tf.constant(inputs))
    for array in (draws, dist.sample(seed=tf.constant([1, 2])).numpy()):
        assert array.dtype == np.float32
        assert_close(array.mean(0), [1.0, -2.0], rtol=0, atol=4 * 3.0 / NUM_DRAWS**0.5)
        assert_close(array.std(0), [0.5, 3.0], rtol=0.03)
        assert abs(np.corrcoef(array.T)[0, 1]) < 0.03


EXTREME = np.float32(
    [
        [0.0, 1.0, -np.inf],  # A forbidden action.
        [-np.inf, -np.inf, 5.0],  # Only one is allowed.
        [1e30, -1e30, 1e30],
        [-1e4, 0.0, 1e4],
    ]
)


def test_extreme_logits_draw_possible_actions_only():
    logits = np.repeat(EXTREME, 1000, 0)
    draws = Categorical.sample_np(logits, np.random.default_rng(0)).reshape(4, 1000)
    possible = [{0, 1}, {2}, {0, 2}, {2}]
    assert [set(row.tolist()) for row in draws] == possible


class Constant:
    """A generator whose every number is the same."""

    def __init__(self, number):
        self.number = number

    def random(self, shape, dtype):
        return np.full(shape, self.number, dtype)


@pytest.mark.parametrize(("number", "want"), [(0.0, 1), (1.0 - 2.0**-24, 2)])
def test_outermost_random_numbers_draw_possible_actions(number, want):
    logits = np.float32([[-np.inf, 0.0, 0.0, -np.inf]])
    assert Categorical.sample_np(logits, Constant(number)).tolist() == [want]


def test_extreme_logits_have_the_right_logp():
    half, third = np.log(0.5), -np.log1p(np.exp(1.0))
    want = np.float32(
        [
            [third, third + 1.0, -np.inf],
            [-np.inf, -np.inf, 0.0],
            [half, -2e30, half],
            [-2e4, -1e4, 0.0],
        ]
    )
    dist = Categorical.from_logits(tf.constant(EXTREME))
    for action in range(3):
        actions = np.full(4, action)
        got = Categorical.logp_np(EXTREME, actions)
        assert_close(got, want[:, action], rtol=1e-6)
        assert_close(dist.logp(actions), want[:, action], rtol=1e-6)


def test_extreme_logits_give_finite_gradients(compiled):
    def evaluate(logits):
        old = Categorical.from_logits(logits)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(logits)
            new = Categorical.from_logits(logits)
            terms = new.logp(tf.constant([0, 2, 0, 2])), new.entropy(), old.kl(new)
        return terms, [tape.gradient(term, logits) for term in terms]

    terms, gradients = compiled(evaluate)(logits=EXTREME)
    for array in (*terms, *gradients):
        assert np.isfinite(array).all()


def test_draws_of_rsample_alone_carry_gradients():
    inputs = tf.constant([[1.0, 2.0, 0.0, np.log(3.0)]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        dist = DiagGaussian.from_logits(inputs)
        pathwise, plain = dist.rsample([1, 2]), dist.sample([1, 2])
    assert_close(pathwise, plain)
    noise = (pathwise.numpy() - [[1.0, 2.0]]) / [[1.0, 3.0]]
    want = np.concatenate([np.ones((1, 2)), noise * [[1.0, 3.0]]], -1)
    assert_close(tape.gradient(pathwise, inputs), want, rtol=1e-5)
    assert tape.gradient(plain, inputs) is None


def test_categorical_has_no_pathwise_gradient():
    with pytest.raises(NotImplementedError, match="Categorical"):
        Categorical.from_logits(tf.zeros([1, 2])).rsample()


@both
def test_deterministic_action_is_the_likeliest(cls):
    inputs, *_ = case(cls)
    want = inputs.argmax(-1) if cls is Categorical else inputs[:, :3]
    actions = cls.deterministic_np(inputs)
    np.testing.assert_array_equal(actions, want)
    dist = cls.from_logits(tf.constant(inputs)).to_deterministic()
    np.testing.assert_array_equal(dist.sample(), want)
    assert dist.sample().dtype == actions.dtype
    assert dist.to_deterministic() is dist


def test_deterministic_has_no_density():
    dist = Deterministic.from_logits(tf.zeros([2, 3]))
    for call in (dist.entropy, lambda: dist.logp(0), lambda: dist.kl(dist)):
        with pytest.raises(NotImplementedError):
            call()


@pytest.mark.parametrize(
    ("cls", "space", "want"),
    [
        (Categorical, Discrete(3), 3),
        (Categorical, Discrete(3, start=5), 3),
        (DiagGaussian, Box(-1, 1, ()), 2),
        (DiagGaussian, Box(-1, 1, (3,)), 6),
        (DiagGaussian, Box(-1, 1, (2, 3)), 12),
        (Deterministic, Box(-1, 1, (2, 3)), 6),
    ],
)
def test_required_input_dim(cls, space, want):
    assert cls.required_input_dim(space) == want


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_logp_takes_actions_in_the_shape_of_the_space(shape):
    size = int(np.prod(shape))
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(5, 2 * size)).astype(np.float32)
    flat = DiagGaussian.sample_np(inputs, rng)
    assert flat.shape == (5, size)
    actions = flat.reshape(5, *shape)
    want = gaussian_closed_form(inputs, inputs, flat)[0]
    dist = DiagGaussian.from_logits(tf.constant(inputs))
    for got in (DiagGaussian.logp_np(inputs, actions), dist.logp(actions)):
        assert_close(got, want, rtol=1e-5)
