"""Tests for `tflearner.connectors.episode_columns`."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
)
from tflearner.connectors.pipeline import ConnectorPipelineV2
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import BatchError
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
        "truncateds": [[no, no, no, no], [yes, no], [no, no, no]],
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


def test_other_model_outputs_are_an_error():
    episodes = [episode(), episode()]
    episodes[1].set_extra_model_outputs("state_out", [1, 2, 3])
    match = r"episodes\[1\]: got model outputs \['out', 'state_out'\].*\['out'\]"
    with pytest.raises(BatchError, match=match):
        columns_of(episodes, one_more=False)


def test_no_episodes():
    batch = columns_of([], one_more=True)
    assert all(arrays == [] for arrays in batch.values())
