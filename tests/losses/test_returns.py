"""Tests for `tflearner.losses.returns`."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses import returns
from tflearner.testing import assert_close

in_every_mode = pytest.mark.parametrize(
    "compiled",
    ["numpy", "eager", "traced", pytest.param("xla", marks=pytest.mark.deep)],
    indirect=True,
)
in_both_forms = pytest.mark.parametrize("compiled", ["numpy", "eager"], indirect=True)

# Pieces of episodes one after the other: length, and whether termination ends it.
PIECES = ((3, True), (1, False), (4, False), (1, True), (2, True))


def oracle(*, rewards, values, next_values, terminateds, ends, gamma, lambda_):
    """Equation (16): for every step the sum of the discounted later TD errors."""
    advantages = []
    for t in range(len(rewards)):
        advantage = 0.0
        for later in range(t, len(rewards)):
            bootstrap = 0.0 if terminateds[later] else next_values[later]
            delta = rewards[later] + gamma * bootstrap - values[later]
            advantage += (gamma * lambda_) ** (later - t) * float(delta)
            if ends[later]:
                break
        advantages.append(advantage)
    return np.array(advantages)


def make_inputs(pieces=PIECES, seed=3):
    """Random numbers for pieces of episodes. All float32 or bool [N]."""
    rng = np.random.default_rng(seed)
    num = sum(length for length, _ in pieces)
    last = np.cumsum([length for length, _ in pieces]) - 1
    ends, terminateds = np.zeros((2, num), bool)
    ends[last] = True
    terminateds[last] = [terminated for _, terminated in pieces]
    rewards, values, next_values = rng.standard_normal((3, num), np.float32)
    # Inside of a piece the next value is the value of the next step.
    next_values[:-1] = np.where(ends[:-1], next_values[:-1], values[1:])
    return {
        "rewards": rewards,
        "values": values,
        "next_values": next_values,
        "terminateds": terminateds,
        "ends": ends,
    }


def test_inputs_take_every_branch():
    """Guards the other tests: an oracle only sees what its inputs exercise."""
    inputs = make_inputs()
    ends, terminateds = inputs["ends"], inputs["terminateds"]
    assert (ends & terminateds).any() and (ends & ~terminateds).any()
    assert (ends[1:] & ends[:-1]).any(), "a piece of one step amid others"
    assert (ends & ~terminateds)[:-1].any(), "a bootstrap amid the array"
    assert (np.abs(inputs["next_values"][ends]) > 0.1).all()
    assert not np.isclose(inputs["next_values"][:-1], inputs["values"][1:])[
        ends[:-1]
    ].any()


@in_every_mode
@pytest.mark.parametrize(("gamma", "lambda_"), [(0.9, 0.8), (0.99, 1.0), (1.0, 0.0)])
def test_advantages_match_the_oracle(compiled, gamma, lambda_):
    inputs = make_inputs() | {"gamma": gamma, "lambda_": lambda_}
    got = compiled(returns.generalized_advantages)(**inputs)
    assert_close(got, oracle(**inputs), rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
    pieces=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1),
    gamma=st.floats(0.0, 1.0),
    lambda_=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**31),
)
def test_any_pieces_match_the_oracle(pieces, gamma, lambda_, seed):
    inputs = make_inputs(pieces, seed) | {"gamma": gamma, "lambda_": lambda_}
    got = returns.generalized_advantages(**inputs)
    assert_close(got, oracle(**inputs), rtol=1e-4, atol=1e-5)


def test_lambda_1_gives_returns_minus_values():
    inputs = make_inputs([(3, True), (3, False)])
    got = returns.generalized_advantages(**inputs, gamma=0.5, lambda_=1.0)
    rewards, last_value = inputs["rewards"], inputs["next_values"][5]
    first = rewards[0] + 0.5 * rewards[1] + 0.25 * rewards[2]
    fourth = rewards[3] + 0.5 * rewards[4] + 0.25 * rewards[5] + 0.125 * last_value
    want = [first - inputs["values"][0], fourth - inputs["values"][3]]
    assert_close(got[[0, 3]], want, rtol=1e-5)


def test_only_termination_hides_the_next_value():
    inputs = make_inputs([(2, True), (2, False)])
    other = inputs | {"next_values": inputs["next_values"] + np.float32([0, 9, 0, 9])}
    settings = {"gamma": 0.9, "lambda_": 0.5}
    before = returns.generalized_advantages(**inputs, **settings)
    after = returns.generalized_advantages(**other, **settings)
    assert_close(after - before, [0.0, 0.0, 0.9 * 0.5 * 8.1, 8.1], rtol=1e-5, atol=1e-6)


@in_both_forms
def test_pieces_do_not_influence_each_other(compiled):
    advantages = compiled(returns.generalized_advantages)
    settings = {"gamma": 0.9, "lambda_": 0.9}
    inputs = make_inputs()
    start = 0
    together = np.asarray(advantages(**inputs, **settings))
    for length, _ in PIECES:
        rows = slice(start, start + length)
        alone = advantages(**{k: x[rows] for k, x in inputs.items()}, **settings)
        assert_close(together[rows], alone, rtol=1e-5)
        start += length


def test_arrays_stay_as_they_are():
    inputs = make_inputs()
    for array in inputs.values():
        array.flags.writeable = False
    returns.generalized_advantages(**inputs, gamma=0.9, lambda_=0.9)


@in_both_forms
@pytest.mark.parametrize("name", ["values", "next_values", "terminateds", "ends"])
def test_column_vector_is_rejected(compiled, name):
    inputs = make_inputs()
    inputs[name] = inputs[name][:, None]
    with pytest.raises(ValueError, match=rf"`{name}` has shape \(11, 1\).*\(11,\)"):
        compiled(returns.generalized_advantages)(**inputs, gamma=0.9, lambda_=0.9)


@pytest.mark.parametrize("num", [1, 2, 3, 7, 8, 100])
def test_scan_equals_the_loop(num):
    inputs, decays = np.random.default_rng(num).random((2, num), np.float32)
    got = returns.reverse_linear_recurrence(tf.constant(inputs), tf.constant(decays))
    assert_close(got, returns.reverse_linear_recurrence(inputs, decays), rtol=1e-5)


def test_gradients_flow_through_the_scan():
    inputs, decays = tf.constant([1.0, 2.0, 3.0]), tf.constant([0.5, 0.25, 9.0])
    with tf.GradientTape() as tape:
        tape.watch([inputs, decays])
        first = returns.reverse_linear_recurrence(inputs, decays)[0]
    # x_0 = i_0 + d_0 (i_1 + d_1 i_2)
    gradients = tape.gradient(first, [inputs, decays])
    assert_close(gradients[0], [1.0, 0.5, 0.125])
    assert_close(gradients[1], [2.75, 1.5, 0.0])
