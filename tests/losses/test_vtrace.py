"""Tests for `tflearner.losses.vtrace`."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses import returns
from tflearner.losses.vtrace import vtrace
from tflearner.testing import assert_close

THRESHOLDS = [(1.0, 1.0), (0.7, 2.0), (3.0, 0.5), (None, None)]
# Of two sequences: an episode that terminates and the row that closes it, then one that
# is cut at the border; one whose piece is closed by a row, and padding.
MASKS = [[True, True, False, True, True, True], [True, True, True, False, False, False]]
TERMINATEDS = [
    [False, True, False, False, False, False],
    [False, False, False, False, False, False],
]


def oracle(
    *, logp, behaviour_logp, rewards, values, terminateds, mask, bootstrap_values,
    gamma, clip_rho_threshold, clip_pg_rho_threshold,
):  # fmt: skip
    """Equation (1) as a double sum, and the advantages of section 4.2."""
    num_steps = rewards.shape[1]

    def target(i, s):
        """v_s, or V of a step that does not count."""
        if s == num_steps:
            return bootstrap_values[i]
        total, weight = float(values[i, s]), 1.0
        for t in range(s, num_steps):
            if not mask[i, t]:
                break
            delta = step_return(i, t, value_behind(i, t)) - values[i, t]
            total += weight * clipped(i, t, clip_rho_threshold) * delta
            if terminateds[i, t]:
                break
            weight *= gamma * clipped(i, t, 1.0)
        return total

    def value_behind(i, t):
        return values[i, t + 1] if t + 1 < num_steps else bootstrap_values[i]

    def step_return(i, t, behind):
        return rewards[i, t] + (0.0 if terminateds[i, t] else gamma * behind)

    def clipped(i, t, threshold):
        ratio = np.exp(float(logp[i, t]) - float(behaviour_logp[i, t]))
        return ratio if threshold is None else min(threshold, ratio)

    targets, advantages = np.zeros((2, *rewards.shape))
    for i, s in np.argwhere(mask):
        targets[i, s] = target(i, s)
        error = step_return(i, s, target(i, s + 1)) - values[i, s]
        advantages[i, s] = clipped(i, s, clip_pg_rho_threshold) * error
    return targets, advantages


def make_steps(num_sequences=2, num_steps=6, seed=3):
    """Random steps, all of which count and none terminates. [S, T] each."""
    rng = np.random.default_rng(seed)
    shape = (num_sequences, num_steps)
    return {
        "logp": -rng.exponential(1.0, shape).astype(np.float32),
        "behaviour_logp": -rng.exponential(1.0, shape).astype(np.float32),
        "rewards": rng.standard_normal(shape, np.float32),
        "values": rng.standard_normal(shape, np.float32),
        "terminateds": np.zeros(shape, bool),
        "mask": np.ones(shape, bool),
        "bootstrap_values": rng.standard_normal(num_sequences, np.float32),
        "gamma": 0.9,
        "clip_rho_threshold": 1.0,
        "clip_pg_rho_threshold": 1.0,
    }


@pytest.fixture
def steps():
    """Two sequences that take every branch: see `test_steps_take_every_branch`."""
    ends = {"terminateds": np.array(TERMINATEDS), "mask": np.array(MASKS)}
    return make_steps() | ends


def test_steps_take_every_branch(steps):
    """Guards the other tests: an oracle only sees what its inputs exercise."""
    ratios = np.exp(steps["logp"] - steps["behaviour_logp"])[steps["mask"]]
    for bound in (0.5, 0.7, 1.0):
        assert (ratios < bound).any() and (ratios > bound).any()
    assert (ratios > 3.0).any()


@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_targets_and_advantages_match_the_oracle(compiled, steps, thresholds):
    steps["clip_rho_threshold"], steps["clip_pg_rho_threshold"] = thresholds
    got = compiled(lambda **tensors: vtrace(**{**steps, **tensors}))(
        **{k: x for k, x in steps.items() if isinstance(x, np.ndarray)}
    )
    targets, advantages = oracle(**steps)
    assert_close(got.value_targets, targets, rtol=1e-5, atol=1e-6)
    assert_close(got.advantages, advantages, rtol=1e-5, atol=1e-6)


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    gamma=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**31),
)
def test_any_sequences_match_the_oracle(shape, gamma, seed):
    rng = np.random.default_rng(seed)
    steps = make_steps(*shape, seed) | {"gamma": gamma}
    steps["mask"], steps["terminateds"] = rng.random((2, *shape)) < [[[0.7]], [[0.3]]]
    got, want = vtrace(**steps), oracle(**steps)
    assert_close(got.value_targets, want[0], rtol=1e-4, atol=1e-5)
    assert_close(got.advantages, want[1], rtol=1e-4, atol=1e-5)


def test_on_policy_targets_are_returns_over_n_steps():
    steps = make_steps()
    steps["behaviour_logp"] = steps["logp"]
    rewards, values = steps["rewards"].ravel(), steps["values"].ravel()
    ends = np.arange(12) % 6 == 5
    next_values = np.append(values[1:], 0.0)
    next_values[ends] = steps["bootstrap_values"]
    advantages = returns.generalized_advantages(
        rewards=rewards,
        values=values,
        next_values=next_values.astype(np.float32),
        terminateds=np.zeros(12, bool),
        ends=ends,
        gamma=0.9,
        lambda_=1.0,
    )
    got = vtrace(**steps)
    assert_close(got.value_targets, (values + advantages).reshape(2, 6), rtol=1e-5)
    assert_close(got.advantages, advantages.reshape(2, 6), rtol=1e-5, atol=1e-6)


def test_the_row_that_closes_a_piece_bootstraps_with_its_whole_value(steps):
    """RLlib takes min(1, ratio) of it away, of an action that was never taken there."""
    other = steps | {"values": steps["values"].copy()}
    other["values"][1, 3] += 1.0
    change = vtrace(**other).advantages - vtrace(**steps).advantages
    ratio = np.exp(steps["logp"] - steps["behaviour_logp"])[1, 2]
    assert_close(change[1, 2], min(1.0, ratio) * 0.9, rtol=1e-5)


def test_an_action_that_is_impossible_now_leaves_values_as_they_are(steps):
    steps["logp"] = np.full((2, 6), -100.0, np.float32)
    got = vtrace(**steps)
    assert_close(got.value_targets, np.where(MASKS, steps["values"], 0.0))
    assert_close(got.advantages, np.zeros((2, 6)), atol=1e-30)


def test_no_gradient_flows_into_targets(steps):
    logp, values = tf.constant(steps.pop("logp")), tf.constant(steps.pop("values"))
    with tf.GradientTape() as tape:
        tape.watch([logp, values])
        got = vtrace(logp=logp, values=values, **steps)
        loss = tf.reduce_sum(got.value_targets + got.advantages)
    assert tape.gradient(loss, [logp, values]) == [None, None]


def test_masked_steps_may_hold_anything(steps):
    want = oracle(**steps)
    anywhere = ~steps["mask"]
    closes = np.roll(steps["mask"] & ~steps["terminateds"], 1, axis=1) & anywhere
    assert closes.sum() == 1
    for name in ("logp", "behaviour_logp", "rewards", "values"):
        where = anywhere & ~closes if name == "values" else anywhere
        steps[name][where] = [np.nan, np.inf, -np.inf, np.nan][: where.sum()]
    got = vtrace(**steps)
    assert_close(got.value_targets, want[0], rtol=1e-5, atol=1e-6)
    assert_close(got.advantages, want[1], rtol=1e-5, atol=1e-6)


def test_without_a_mask_every_step_counts_and_0_stands_behind_the_last():
    steps = make_steps()
    want = vtrace(**steps | {"bootstrap_values": np.zeros(2, np.float32)})
    for name in ("mask", "bootstrap_values"):
        steps.pop(name)
    got = vtrace(**steps)
    assert_close(got.value_targets, want.value_targets)
    assert_close(got.advantages, want.advantages)


@pytest.mark.parametrize(
    "name", ["behaviour_logp", "rewards", "values", "terminateds", "mask"]
)
def test_column_of_another_shape_is_rejected(steps, name):
    steps[name] = steps[name][:, :1]
    with pytest.raises(ValueError, match=rf"`{name}` has shape \(2, 1\).*\(2, 6\)"):
        vtrace(**steps)
