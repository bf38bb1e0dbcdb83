"""What a stateful module gets to train on, out of rows or sequences."""

import types

import gymnasium as gym
import numpy as np
import pytest

from tflearner.errors import BatchError
from tflearner.intake import batch_checks

STATE = {"h": np.full(2, 7.0, np.float32), "deep": {"count": np.int32(3)}}
LENGTHS = np.array([2, 3, 1])


def specs_of(max_seq_len=None, observation_space=None):
    if observation_space is None:
        observation_space = gym.spaces.Box(-1, 1, (2,))
    return batch_checks.column_specs(
        types.SimpleNamespace(
            observation_space=observation_space,
            action_space=None,
            is_stateful=lambda: True,
            get_initial_state=lambda: STATE,
            max_seq_len=max_seq_len,
        )
    )


def check(columns, specs=None, **settings):
    specs = specs_of() if specs is None else specs
    return batch_checks.check_columns(
        "p", columns, specs=specs, required=["obs"], **settings
    )


def rows(**columns):
    obs = np.arange(12, dtype=np.float32).reshape(6, 2)
    return {"obs": obs, "rewards": np.arange(1.0, 7.0), "seq_lens": LENGTHS} | columns


@pytest.mark.parametrize(("max_seq_len", "steps"), [(None, 3), (2, 3), (5, 5)])
@pytest.mark.parametrize("mode", batch_checks.MODES)
def test_rows_are_padded_to_sequences(max_seq_len, steps, mode):
    checked = check(rows(), specs_of(max_seq_len), mode=mode)
    assert checked["obs"].shape == (3, steps, 2)
    np.testing.assert_array_equal(
        checked["rewards"][:, :3], [[1, 2, 0], [3, 4, 5], [6, 0, 0]]
    )
    assert not checked["rewards"][:, 3:].any()
    want = np.arange(steps) < LENGTHS[:, None]
    np.testing.assert_array_equal(checked["loss_mask"], want)
    np.testing.assert_array_equal(checked["seq_lens"], LENGTHS)
    assert checked["seq_lens"].dtype == np.int32


def test_a_mask_of_rows_is_padded_with_false():
    checked = check(rows(loss_mask=np.array([True] * 4 + [False, True])))
    np.testing.assert_array_equal(
        checked["loss_mask"],
        [[True, True, False], [True, True, False], [True, False, False]],
    )


def test_sequences_begin_in_the_initial_state_unless_they_bring_their_own():
    state_in = check(rows())["state_in"]
    np.testing.assert_array_equal(state_in["h"], np.full((3, 2), 7.0))
    np.testing.assert_array_equal(state_in["deep"]["count"], [3, 3, 3])
    own = {"h": np.ones((3, 2)), "deep": {"count": np.arange(3)}}
    state_in = check(rows(state_in=own))["state_in"]
    assert state_in["h"].dtype == np.float32
    assert state_in["deep"]["count"].tolist() == [0, 1, 2]


def test_sequences_stay_as_they_are_and_are_full_without_lengths():
    sequences = {"obs": np.ones((3, 4, 2), np.float32), "own": np.ones((3, 4, 1))}
    checked = check(sequences)
    assert checked["obs"] is sequences["obs"]
    assert checked["seq_lens"].tolist() == [4, 4, 4] and checked["loss_mask"].all()
    checked = check(sequences | {"seq_lens": None})
    assert checked["loss_mask"].all()


def test_a_mask_of_sequences_is_kept():
    mask = np.array([[True, False], [True, False]])
    sequences = {"obs": np.ones((2, 2, 2)), "loss_mask": mask}
    checked = check(sequences | {"seq_lens": np.array([2, 1])})
    assert checked["loss_mask"] is mask


def test_padding_may_be_zero_where_zero_is_no_value():
    specs = specs_of(observation_space=gym.spaces.Discrete(3, start=5))
    obs = np.array([[5, 6], [7, 0]])
    lengths = {"seq_lens": np.array([2, 1])}
    np.testing.assert_array_equal(check({"obs": obs} | lengths, specs)["obs"], obs)
    checked = check({"obs": np.array([5, 6, 7])} | lengths, specs)
    np.testing.assert_array_equal(checked["obs"], obs)
    for row, step, value in [(0, 1, 0), (1, 1, 4)]:
        wrong = obs.copy()
        wrong[row, step] = value
        text = rf"{value} at sequence {row}, step {step}, want values in \[5, 7\]"
        with pytest.raises(BatchError, match=text):
            check({"obs": wrong} | lengths, specs)


def test_lengths_decide_where_no_column_has_a_known_form():
    specs = specs_of(observation_space=gym.spaces.Text(3))
    padded = check({"obs": np.ones((3, 4, 2)), "seq_lens": LENGTHS}, specs)
    assert padded["obs"].shape == (3, 4, 2)
    flat = check({"obs": np.ones((6, 2)), "seq_lens": LENGTHS}, specs)
    assert flat["obs"].shape == (3, 3, 2)
    nested = check({"obs": {"a": np.ones((6, 2))}, "seq_lens": LENGTHS}, specs)
    assert nested["obs"]["a"].shape == (3, 3, 2)


def test_nested_observations_are_padded_leaf_by_leaf():
    space = gym.spaces.Dict(a=gym.spaces.Discrete(9), b=gym.spaces.Box(-1, 1, (2,)))
    obs = {"b": np.ones((6, 2)), "a": np.arange(6)}
    checked = check(rows(obs=obs), specs_of(observation_space=space))["obs"]
    assert checked["b"].shape == (3, 3, 2)
    assert checked["a"].tolist() == [[0, 1, 0], [2, 3, 4], [5, 0, 0]]


def test_padding_that_no_memory_holds_is_refused(monkeypatch):
    monkeypatch.setattr(batch_checks, "max_bytes", lambda: 10**6)
    columns = {
        "obs": np.zeros((1000, 2), np.float32),
        "seq_lens": np.array([501] + [1] * 499),
    }
    with pytest.raises(BatchError, match="'seq_lens': got lengths that pad.* GB"):
        check(columns)


@pytest.mark.parametrize(
    "columns", [{}, {"state_in": {"h": np.zeros((3, 2))}}, {"seq_lens": LENGTHS}]
)
def test_without_a_column_of_steps_there_is_no_batch(columns):
    with pytest.raises(BatchError, match="module 'p': got columns .*'obs'"):
        check(columns, mode="off")
