"""Tests for `tflearner.connectors.episode_columns`."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch,
    AddNextObservationsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
)
from tflearner.connectors.pipeline import ConnectorPipelineV2
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.testing import random_episodes

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete


def episode(length=3, lookback=2, to_numpy=False, **kwargs):
    """Steps that count; those of the lookback are negative.

    observation t, action 10 t, reward 100 t, model output 1000 t.
    """
    t = np.arange(-lookback, length + 1)
    made = SingleAgentEpisode(
        observations=list(t),
        actions=list(10 * t[:-1]),
        rewards=[100.0 * x for x in t[:-1]],
        extra_model_outputs={"out": list(1000 * t[:-1])},
        len_lookback_buffer=lookback,
        **kwargs,
    )
    return made.to_numpy() if to_numpy else made


def columns_of(episodes, *, one_more, batch=None):
    pieces = [
        AddObservationsFromEpisodesToBatch(),
        AddColumnsFromEpisodesToTrainBatch(),
    ]
    if one_more:
        pieces.insert(0, AddOneTsToEpisodesAndTruncate())
    pipeline = ConnectorPipelineV2(pieces)
    return pipeline(rl_module=None, batch=batch or {}, episodes=episodes)


def as_lists(batch):
    return {column: [a.tolist() for a in arrays] for column, arrays in batch.items()}


both_forms = pytest.mark.parametrize("to_numpy", [False, True], ids=["lists", "arrays"])


@both_forms
def test_columns_of_the_steps(to_numpy):
    episodes = [
        episode(3, to_numpy=to_numpy, terminated=True),
        episode(1, to_numpy=to_numpy, truncated=True),
        episode(2, to_numpy=to_numpy),
    ]
    assert as_lists(columns_of(episodes, one_more=False)) == {
        "obs": [[0, 1, 2], [0], [0, 1]],
        "actions": [[0, 10, 20], [0], [0, 10]],
        "rewards": [[0.0, 100.0, 200.0], [0.0], [0.0, 100.0]],
        "terminateds": [[False, False, True], [False], [False, False]],
        "truncateds": [[False, False, False], [True], [False, False]],
        "out": [[0, 1000, 2000], [0], [0, 1000]],
    }


@both_forms
def test_one_artificial_row_more(to_numpy):
    episodes = [
        episode(3, to_numpy=to_numpy, terminated=True),
        episode(1, to_numpy=to_numpy, truncated=True),
        episode(2, to_numpy=to_numpy),
    ]
    no, yes = False, True
    assert as_lists(columns_of(episodes, one_more=True)) == {
        "loss_mask": [[yes, yes, yes, no], [yes, no], [yes, yes, no]],
        "obs": [[0, 1, 2, 3], [0, 1], [0, 1, 2]],
        "actions": [[0, 10, 20, 20], [0, 0], [0, 10, 10]],
        "rewards": [[0.0, 100.0, 200.0, 0.0], [0.0, 0.0], [0.0, 100.0, 0.0]],
        "terminateds": [[no, no, yes, no], [no, no], [no, no, no]],
        "truncateds": [[no, no, no, no], [yes, no], [no, yes, no]],
        "out": [[0, 1000, 2000, 2000], [0, 0], [0, 1000, 1000]],
    }


def test_dtypes():
    batch = columns_of([episode(to_numpy=True)], one_more=True)
    dtypes = {column: arrays[0].dtype for column, arrays in batch.items()}
    flags = (Columns.TERMINATEDS, Columns.TRUNCATEDS, Columns.LOSS_MASK)
    assert {dtypes[flag] for flag in flags} == {np.dtype(bool)}
    assert dtypes[Columns.REWARDS] == np.float32


@pytest.mark.parametrize("one_more", [False, True])
@pytest.mark.parametrize("name", [Columns.ACTIONS, Columns.REWARDS, "out"])
def test_columns_that_are_there_are_left_alone(name, one_more):
    own = [np.array([7, 8, 9])]
    batch = columns_of([episode()], one_more=one_more, batch={name: own})
    assert batch[name] is own
    assert Columns.TERMINATEDS in batch


@both_forms
def test_nested_spaces(to_numpy):
    space = gym.spaces.Dict({"a": Box(0, 1, (2,)), "b": Discrete(5)})
    made = random_episodes(space, gym.spaces.Tuple([Discrete(3)]), lookback=1)
    for one in made:
        if to_numpy:
            one.to_numpy()
    batch = columns_of(made, one_more=True)
    for index, one in enumerate(made):
        obs, actions = batch[Columns.OBS][index], batch[Columns.ACTIONS][index][0]
        assert obs["a"].shape == (len(one) + 1, 2)
        for t in range(len(one) + 1):
            np.testing.assert_array_equal(obs["a"][t], one.get_observations(t)["a"])
            assert obs["b"][t] == one.get_observations(t)["b"]
            assert actions[t] == one.get_actions(min(t, len(one) - 1))[0]


@pytest.mark.parametrize("one_more", [False, True])
def test_outputs_that_an_episode_lacks_are_none(one_more):
    episodes = [episode(), episode(), episode()]
    episodes[1].set_extra_model_outputs("other", [1, 2, 3])
    episodes[2].extra_model_outputs.clear()
    batch = columns_of(episodes, one_more=one_more)
    more = [3] if one_more else []
    assert batch["other"][1].tolist() == [1, 2, 3, *more]
    assert [entry is None for entry in batch["other"]] == [True, False, True]
    assert [entry is None for entry in batch["out"]] == [False, False, True]
    assert [len(entry) for entry in batch["actions"]] == [3 + one_more] * 3


def test_outputs_do_not_replace_what_the_episode_knows():
    made = episode()
    made.set_extra_model_outputs("rewards", [7.0, 8.0, 9.0])
    batch = columns_of([made], one_more=False)
    assert batch[Columns.REWARDS][0].tolist() == [0.0, 100.0, 200.0]


def test_states_of_every_step_are_left_out():
    made = episode()
    made.set_extra_model_outputs("state_out", [{"h": 1}, {"h": 2}, {"h": 3}])
    assert "state_out" not in columns_of([made], one_more=False)


# The observations that followed.


def next_obs(episodes, *, one_more):
    pieces = [
        AddObservationsFromEpisodesToBatch(),
        AddNextObservationsFromEpisodesToTrainBatch(),
    ]
    if one_more:
        pieces.insert(0, AddOneTsToEpisodesAndTruncate())
    pipeline = ConnectorPipelineV2(pieces)
    return pipeline(rl_module=None, batch={}, episodes=episodes)


@both_forms
@pytest.mark.parametrize("lookback", [0, 2])
def test_next_observations_follow_on_the_observations(to_numpy, lookback):
    episodes = [episode(n, lookback, to_numpy=to_numpy) for n in (3, 1)]
    assert as_lists(next_obs(episodes, one_more=False)) == {
        "obs": [[0, 1, 2], [0]],
        "new_obs": [[1, 2, 3], [1]],
    }


@both_forms
def test_next_observations_with_artificial_rows_repeat_the_last(to_numpy):
    episodes = [episode(n, to_numpy=to_numpy) for n in (3, 1)]
    batch = next_obs(episodes, one_more=True)
    assert as_lists(batch)["obs"] == [[0, 1, 2, 3], [0, 1]]
    assert as_lists(batch)["new_obs"] == [[1, 2, 3, 3], [1, 1]]


@both_forms
@pytest.mark.parametrize("one_more", [False, True])
def test_nested_next_observations(to_numpy, one_more):
    space = gym.spaces.Dict({"a": Box(0, 1, (2,)), "b": Discrete(5)})
    for one in random_episodes(space, Discrete(3)):
        if to_numpy:
            one.to_numpy()
        got = next_obs([one], one_more=one_more)[Columns.NEXT_OBS][0]
        assert got["a"].shape == (len(one) + one_more, 2)
        for t in range(len(one) + one_more):
            want = one.get_observations(min(t + 1, len(one)))
            np.testing.assert_array_equal(got["a"][t], want["a"])
            assert got["b"][t] == want["b"]


def test_no_episodes():
    batch = columns_of([], one_more=True)
    assert all(arrays == [] for arrays in batch.values())
