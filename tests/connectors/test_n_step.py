"""Tests for `tflearner.connectors.n_step`."""

import gymnasium as gym
import numpy as np
import pytest
import tree

from tflearner.columns import Columns
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch,
    AddNextObservationsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
)
from tflearner.connectors.n_step import NStepTransitions
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.data.episode_replay_buffer import EpisodeReplayBuffer
from tflearner.errors import BatchError, UsageError
from tflearner.testing import random_episodes

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
GAMMA = 0.9
ENDS = (
    (5, "terminated"),
    (1, "truncated"),
    (4, "cut"),
    (3, "both"),
    (1, "terminated"),
    (7, "cut"),
)
SPACES = {
    "box": Box(-1, 1, (3,)),
    "nest": gym.spaces.Dict(
        {"a": Box(-1, 1, (2,)), "b": gym.spaces.Tuple([Discrete(4)])}
    ),
}


def batch_of(episodes, *pieces, batch=None):
    pipeline = LearnerConnectorPipeline(
        [
            AddObservationsFromEpisodesToBatch(),
            AddNextObservationsFromEpisodesToTrainBatch(),
            AddColumnsFromEpisodesToTrainBatch(),
            *pieces,
        ]
    )
    return pipeline(rl_module=None, batch=batch or {}, episodes=episodes)


def episodes_of(space="box", *, ends=ENDS, lookback=0, numpy=False):
    made = random_episodes(SPACES[space], Discrete(3), ends=ends, lookback=lookback)
    return [e.to_numpy() for e in made] if numpy else made


def want(episode, t, n):
    """Row t over n steps, by the definition."""
    length = len(episode)
    last = min(t + n, length)
    return {
        "rewards": sum(
            GAMMA**k * np.float32(episode.get_rewards(t + k)) for k in range(last - t)
        ),
        "new_obs": episode.get_observations(last),
        "terminateds": last == length and episode.is_terminated,
        "truncateds": last == length and episode.is_truncated,
        "n_step": last - t,
        "weights": 1.0,
    }


def assert_equal(got, wanted):
    tree.map_structure(
        lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-6), got, wanted
    )


@pytest.mark.parametrize("n_step", [1, 2, 3, 4])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("numpy", [False, True], ids=["lists", "arrays"])
def test_rows_look_as_many_steps_ahead_as_there_are(n_step, space, numpy):
    episodes = episodes_of(space, lookback=2, numpy=numpy)
    plain = batch_of(episodes)
    batch = batch_of(episodes, NStepTransitions(gamma=GAMMA, n_step=n_step))
    for i, episode in enumerate(episodes):
        for t in range(len(episode)):
            wanted = want(episode, t, n_step)
            row = {
                column: tree.map_structure(lambda leaf, t=t: leaf[t], batch[column][i])
                for column in wanted
            }
            assert_equal(row, wanted)
        for column in (Columns.OBS, Columns.ACTIONS, "action_logp"):
            assert_equal(batch[column][i], plain[column][i])
        for column in ("rewards", "n_step", "weights"):
            assert batch[column][i].dtype == np.float32
        for column in ("terminateds", "truncateds"):
            assert batch[column][i].dtype == bool


@pytest.mark.parametrize("n_step", [1, 3])
def test_rows_are_those_of_the_replay_buffer(n_step):
    episodes = episodes_of()
    buffer = EpisodeReplayBuffer(
        100, observation_space=SPACES["box"], action_space=Discrete(3), seed=0
    )
    buffer.add(episodes)
    drawn = buffer.sample(300, n_step=n_step, gamma=GAMMA)
    batch = batch_of(episodes, NStepTransitions(gamma=GAMMA, n_step=n_step))
    batch = {column: np.concatenate(batch[column]) for column in drawn}
    rows = {tuple(x): i for i, x in enumerate(batch["obs"].tolist())}
    where = [rows[tuple(x)] for x in drawn["obs"].tolist()]
    assert set(where) == set(range(21))
    for column, values in drawn.items():
        np.testing.assert_array_equal(values, batch[column][where], err_msg=column)


def test_of_a_pair_the_larger_number_counts():
    episodes = episodes_of()
    pair, number = (
        batch_of(episodes, NStepTransitions(gamma=GAMMA, n_step=n)) for n in ((1, 3), 3)
    )
    assert_equal(pair, number)


def test_columns_that_are_there_are_left_alone():
    episodes = episodes_of()
    given = {"weights": [np.full(len(e), 0.5) for e in episodes]}
    batch = batch_of(episodes, NStepTransitions(gamma=GAMMA), batch=given)
    assert {float(x) for x in np.concatenate(batch["weights"])} == {0.5}
    assert {float(x) for x in np.concatenate(batch["n_step"])} == {1.0}


def test_episodes_and_arrays_stay_as_they_are():
    episodes = episodes_of(numpy=True)
    before = [repr(e.get_state()) for e in episodes]
    batch_of(episodes, NStepTransitions(gamma=GAMMA, n_step=3))
    assert [repr(e.get_state()) for e in episodes] == before


def test_chunks_shorter_than_the_steps_are_refused():
    episodes = episodes_of()
    match = (
        r"episodes\[2\] \('.*'\): got 4 steps of an episode that continues, want at least "
        r"n_step=5.*longer fragments.*replay buffer"
    )
    with pytest.raises(BatchError, match=match):
        batch_of(episodes, NStepTransitions(gamma=GAMMA, n_step=5))


def test_misplaced_pieces_are_refused():
    episodes, piece = episodes_of(), NStepTransitions(gamma=GAMMA)
    with pytest.raises(BatchError, match=r"without \['rewards', 'new_obs'.*behind"):
        piece(batch={}, episodes=episodes, shared_data={})
    pipeline = LearnerConnectorPipeline([AddOneTsToEpisodesAndTruncate()])
    for each in (
        AddNextObservationsFromEpisodesToTrainBatch(),
        AddColumnsFromEpisodesToTrainBatch(),
        piece,
    ):
        pipeline.append(each)
    with pytest.raises(BatchError, match="artificial last rows.*AddOneTs"):
        pipeline(rl_module=None, batch={}, episodes=episodes)
    batch = batch_of(episodes)
    batch["rewards"].pop()
    with pytest.raises(BatchError, match="'rewards': got 5 entries, want 6"):
        piece(batch=batch, episodes=episodes, shared_data={})


@pytest.mark.parametrize("n_step", [0, -1, 1.5, None, (1, 2, 3), (3, 1), ()])
def test_impossible_steps_are_refused(n_step):
    with pytest.raises(UsageError, match="n_step"):
        NStepTransitions(gamma=GAMMA, n_step=n_step)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, np.nan, None])
def test_impossible_discounts_are_refused(gamma):
    with pytest.raises(UsageError, match="gamma"):
        NStepTransitions(gamma=gamma)


def test_arguments_come_back():
    piece = NStepTransitions(gamma=GAMMA, n_step=(1, 3))
    _, kwargs = piece.get_ctor_args_and_kwargs()
    assert NStepTransitions(**kwargs).get_ctor_args_and_kwargs() == ((), kwargs)
    assert (kwargs["gamma"], kwargs["n_step"]) == (GAMMA, 3)
