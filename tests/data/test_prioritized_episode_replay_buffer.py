"""Tests for `tflearner.data.prioritized_episode_replay_buffer`.

What it shares with the uniform one is tested with that.
"""

import copy

import gymnasium as gym
import numpy as np
import pytest

from tflearner.data.prioritized_episode_replay_buffer import (
    PrioritizedEpisodeReplayBuffer,
)
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.data.sum_tree import SumTree
from tflearner.errors import BatchError, CheckpointMismatchError, UsageError


def make(capacity=50, **settings):
    return PrioritizedEpisodeReplayBuffer(
        capacity,
        observation_space=gym.spaces.Box(-1e6, 1e6, (), np.float32),
        action_space=gym.spaces.Discrete(2),
        seed=0,
        **settings,
    )


def steps(first, num, **flags):
    """An episode whose observations count from `first`."""
    return SingleAgentEpisode(
        observations=np.arange(first, first + num + 1, dtype=np.float32),
        actions=np.zeros(num, np.int64),
        rewards=np.zeros(num),
        len_lookback_buffer=0,
        **flags,
    )


def powers_of(buffer):
    """{observation: p^alpha} of the rows that can be drawn."""
    state = buffer.get_state()
    seen = state["transitions"]["observations"][0].tolist()
    powers = state["priorities"]["powers"].tolist()
    return {x: power for x, power in zip(seen, powers, strict=True) if power}


def with_priorities(errors, **settings):
    """A buffer of as many steps, whose observations count from 0, with such errors."""
    buffer = make(len(errors) + 1, **settings)
    buffer.add(steps(0, len(errors)))
    batch = buffer.sample(40 * len(errors))  # Every row, almost surely.
    buffer.update_priorities(np.asarray(errors)[batch["obs"].astype(int)])
    assert len(np.unique(batch["obs"])) == len(errors)
    return buffer


ERRORS = [0.5, 4.0, 0.0, 1.0, -2.0, 0.25, 8.0]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_rows_are_drawn_in_proportion_to_priorities(alpha):
    buffer = with_priorities(ERRORS, alpha=alpha)
    shares = (np.abs(ERRORS) + 1e-6) ** alpha
    shares /= shares.sum()
    num = 200_000
    drawn = buffer.sample(num)["obs"].astype(int)
    counts = np.bincount(drawn, minlength=len(ERRORS))
    wanted = num * shares
    large = wanted > 5  # That without an error is drawn 0.1 times for alpha = 1.
    statistic = np.sum((counts - wanted)[large] ** 2 / wanted[large])
    assert statistic < 22.5  # chi^2 with 6 degrees of freedom, p = 0.001.
    assert counts[~large].sum() <= 5


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_are_those_of_the_paper_with_the_largest_of_all_rows(alpha, beta):
    buffer = with_priorities(ERRORS[:2] + ERRORS[3:], alpha=alpha, beta=beta)
    errors = np.abs(ERRORS[:2] + ERRORS[3:]) + 1e-6
    probability = errors**alpha / np.sum(errors**alpha)
    weights = (len(errors) * probability) ** -beta
    weights /= weights.max()
    for given in (None, beta):
        batch = buffer.sample(50, beta=given)
        wanted = weights[batch["obs"].astype(int)]
        np.testing.assert_allclose(batch["weights"], wanted, rtol=1e-6)
        assert batch["weights"].max() <= 1.0
    np.testing.assert_array_equal(buffer.sample(50, beta=0)["weights"], 1.0)


def test_the_largest_weight_forgets_rows_that_left():
    buffer = make(5)
    buffer.add(steps(0, 1))
    buffer.sample(1)
    buffer.update_priorities([0.0])  # By far the smallest.
    buffer.add(steps(10, 2))
    assert buffer.sample(99)["weights"].min() < 0.05
    buffer.add(steps(20, 1))
    assert set(buffer.sample(99)["obs"].tolist()) <= {10.0, 11.0, 20.0}
    np.testing.assert_array_equal(buffer.sample(99)["weights"], 1.0)


def test_new_steps_get_the_largest_priority_so_far():
    buffer = make(alpha=1.0)
    buffer.add(steps(0, 2))
    assert powers_of(buffer) == {0.0: 1.0, 1.0: 1.0}
    for error, largest in [(0.5, 1.0), (-7.0, 7.0 + 1e-6), (2.0, 7.0 + 1e-6)]:
        buffer.sample(1)
        buffer.update_priorities([error])
        first = 100 * largest + error
        buffer.add(steps(int(first), 1))
        assert powers_of(buffer)[int(first)] == largest


@pytest.mark.parametrize("seed", range(3))
def test_a_slow_oracle_has_the_same_priorities(seed):
    rng = np.random.default_rng(seed)
    buffer = make(23, alpha=0.5)
    rows, largest, number = [], 1.0, 0  # (observation, p^alpha or None).
    for _ in range(60):
        num = int(rng.integers(1, 6))
        buffer.add(steps(number, num, terminated=True))
        rows += [[float(number + t), largest**0.5] for t in range(num)]
        rows += [[float(number + num), None]]
        rows, number = rows[-23:], number + 100
        assert powers_of(buffer) == {x: power for x, power in rows if power}
        drawn = buffer.sample(6)["obs"].tolist()
        if rng.random() < 0.3:  # Some of the rows leave before their errors are known.
            buffer.add(steps(number, 12))
            rows += [[float(number + t), largest**0.5] for t in range(12)]
            rows += [[float(number + 12), None]]
            rows, number = rows[-23:], number + 100
        errors = rng.standard_normal((2, 3)) * 3
        buffer.update_priorities(errors)
        for x, error in zip(drawn, errors.reshape(-1).tolist()):
            for row in rows:
                if row[0] == x:
                    row[1] = (abs(error) + 1e-6) ** 0.5
                    largest = max(largest, abs(error) + 1e-6)
        want = {x: power for x, power in rows if power}
        assert powers_of(buffer) == pytest.approx(want, rel=1e-12)


def test_of_several_errors_for_a_row_the_last_counts():
    buffer = make(alpha=1.0)
    buffer.add(steps(0, 2))
    drawn = buffer.sample(50)["obs"]
    errors = np.arange(50.0)
    buffer.update_priorities(errors)
    want = {x: float(errors[drawn == x][-1]) + 1e-6 for x in (0.0, 1.0)}
    assert powers_of(buffer) == want


def test_priorities_can_be_updated_again_and_all_rows_may_have_left():
    buffer = make(4, alpha=1.0)
    buffer.add(steps(0, 3))
    x = buffer.sample(1)["obs"].item()
    for error in (3.0, 2.0):
        buffer.update_priorities(np.float32([[error]]))
        assert powers_of(buffer)[x] == error + 1e-6
    buffer.add(steps(10, 3))
    before = powers_of(buffer)
    buffer.update_priorities([99])
    assert powers_of(buffer) == before
    buffer.add(steps(20, 3))
    assert set(powers_of(buffer).values()) == {3.0 + 1e-6}  # Not 99: it was not here.


@pytest.mark.parametrize(
    ("errors", "match"),
    [
        ([1.0, 2.0], r"float64 \(2,\), want one number for each of the 3"),
        (np.ones((2, 3)), r"\(2, 3\)"),
        ([1.0, np.nan, np.inf], "2 non-finite in float32, the first at 1"),
        ([1.0, 2.0, 1e39], "1 non-finite in float32, the first at 2"),
        (["a", "b", "c"], "<U1"),
        ([True, False, True], "bool"),
        (None, "object"),
    ],
)
def test_bad_errors_are_refused_and_nothing_is_changed(errors, match):
    buffer = make()
    buffer.add(steps(0, 5))
    buffer.sample(3)
    before = repr(buffer.get_state())
    with pytest.raises(BatchError, match=match) as caught:
        buffer.update_priorities(errors)
    assert "Nothing was changed" in str(caught.value)
    assert repr(buffer.get_state()) == before


def test_errors_need_a_batch_before():
    with pytest.raises(UsageError, match="a call before sample"):
        make().update_priorities([1.0])


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, None, "1", True])
def test_impossible_exponents_are_refused(value):
    with pytest.raises(UsageError, match="alpha"):
        make(alpha=value)
    with pytest.raises(UsageError, match="beta"):
        make(beta=value)
    if value is not None:
        buffer = make()
        buffer.add(steps(0, 5))
        before = repr(buffer.get_state())
        with pytest.raises(UsageError, match="beta"):
            buffer.sample(1, beta=value)
        assert repr(buffer.get_state()) == before


def test_size_counts_the_tree():
    buffer = make(50)
    assert buffer.nbytes == 50 * (4 + 8 + 4 + 2 + 4) + SumTree.nbytes_of(50)


def test_errors_reach_a_restored_buffer(tmp_path):
    saved = make()
    saved.add(steps(0, 30))
    saved.sample(9)
    saved.save_to_path(tmp_path)
    restored = PrioritizedEpisodeReplayBuffer.from_checkpoint(tmp_path, beta=0.9)
    assert (restored.alpha, restored.beta) == (0.6, 0.9)
    for buffer in (saved, restored):
        buffer.update_priorities(np.arange(9.0))
    assert powers_of(restored) == powers_of(saved)
    drawn = [buffer.sample(50, beta=0.5) for buffer in (saved, restored)]
    np.testing.assert_array_equal(drawn[0]["obs"], drawn[1]["obs"])
    np.testing.assert_array_equal(drawn[0]["weights"], drawn[1]["weights"])


def changed(name, change):
    buffer = make(8)
    buffer.add(steps(0, 5))
    buffer.sample(4)
    state = copy.deepcopy(buffer.get_state())
    state["priorities"][name] = change(state["priorities"].get(name))
    return state


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("alpha", lambda x: 0.5),
        ("more", lambda x: 1),
        ("largest", lambda x: 0.0),
        ("largest", lambda x: np.inf),
        ("largest", lambda x: 1),
        ("powers", lambda x: x[1:]),
        ("powers", lambda x: x.astype(np.float32)),
        ("powers", lambda x: x * np.nan),
        ("powers", lambda x: -x),
        ("powers", lambda x: x * 0),
        ("powers", lambda x: x + 1),
        ("drawn", lambda x: x.tolist()),
        ("drawn", lambda x: x.reshape(2, 2)),
        ("drawn", lambda x: x - 9),
        ("drawn", lambda x: x + 6),
    ],
)
def test_bad_states_are_refused_and_nothing_is_changed(name, change):
    buffer = make(8)
    buffer.add(steps(50, 12))
    before = repr(buffer.get_state())
    with pytest.raises(CheckpointMismatchError, match=f"priorities.*{name}") as caught:
        buffer.set_state(changed(name, change))
    assert "Nothing was changed" in str(caught.value)
    assert repr(buffer.get_state()) == before
    for whole in ([], None):
        state = changed("alpha", lambda x: x) | {"priorities": whole}
        with pytest.raises(CheckpointMismatchError, match="'priorities'"):
            buffer.set_state(state)
