"""Tests for `tflearner.connectors.states`."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
)
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.connectors.states import (
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
)
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import BatchError, ConfigError
from tflearner.modules.rl_module import MultiRLModule, RLModule
from tflearner.testing import random_episodes

L = 3
no, yes = False, True


class Stateless(RLModule):
    def get_state(self, *args, **kwargs):
        return {}

    def set_state(self, state):
        pass


class Stateful(Stateless):
    """Its state after step t is t + 1; at the start it is 0."""

    def get_initial_state(self):
        return {"a": {"t": np.zeros(2, np.float32)}, "b": np.float32(0)}


def episode(length, t_started=0, *, lookback=1, to_numpy=False, keys=("state_out",)):
    """A part of an episode: the observation and the state at time t are t."""
    lookback = min(lookback, t_started)
    t = np.arange(t_started - lookback, t_started + length + 1)
    states = [{"a": {"t": np.full(2, x, "f")}, "b": np.float32(x)} for x in t[1:]]
    outputs = {"state_out": states, "logp": list(-t[1:])}
    made = SingleAgentEpisode(
        "it",
        observations=list(t),
        actions=list(t[:-1]),
        rewards=list(t[:-1]),
        t_started=t_started,
        len_lookback_buffer=lookback,
        extra_model_outputs={key: outputs[key] for key in keys},
    )
    return made.to_numpy() if to_numpy else made


def call(*episodes, one_more=False, batch=None, max_seq_len=L, module=None):
    pieces = [
        AddObservationsFromEpisodesToBatch(),
        AddColumnsFromEpisodesToTrainBatch(),
        AddTimeDimToBatchAndZeroPad(),
        AddStatesFromEpisodesToBatch(),
    ]
    if one_more:
        pieces.insert(0, AddOneTsToEpisodesAndTruncate())
    module = module or Stateful(model_config={"max_seq_len": max_seq_len})
    return LearnerConnectorPipeline(pieces)(
        rl_module=MultiRLModule({"m": module, "other": Stateless()}),
        batch=batch or {},
        episodes=list(episodes),
    )


def of(module_id, made):
    made.module_id = module_id
    return made


def sequences_of(made, **kwargs):
    return {
        column: arrays[0] for column, arrays in call(of("m", made), **kwargs).items()
    }


both_forms = pytest.mark.parametrize("to_numpy", [False, True], ids=["lists", "arrays"])


@both_forms
def test_rows_are_cut_into_sequences_and_padded(to_numpy):
    batch = sequences_of(episode(5, to_numpy=to_numpy, keys=("state_out", "logp")))
    assert batch.pop(Columns.STATE_IN).keys() == {"a", "b"}
    assert {column: array.tolist() for column, array in batch.items()} == {
        "obs": [[0, 1, 2], [3, 4, 0]],
        "actions": [[0, 1, 2], [3, 4, 0]],
        "rewards": [[0, 1, 2], [3, 4, 0]],
        "terminateds": [[no, no, no], [no, no, no]],
        "truncateds": [[no, no, no], [no, no, no]],
        "logp": [[-1, -2, -3], [-4, -5, 0]],
        "seq_lens": [3, 2],
        "loss_mask": [[yes, yes, yes], [yes, yes, no]],
    }
    assert batch[Columns.SEQ_LENS].dtype == np.int32
    assert batch[Columns.LOSS_MASK].dtype == bool
    assert batch[Columns.REWARDS].dtype == np.float32


@pytest.mark.parametrize(
    ("length", "seq_lens", "mask"),
    [
        (1, [2], [[yes, no, no]]),
        (2, [3], [[yes, yes, no]]),
        (3, [3, 1], [[yes, yes, yes], [no, no, no]]),
        (4, [3, 2], [[yes, yes, yes], [yes, no, no]]),
    ],
)
def test_artificial_rows_count_as_rows_but_not_in_the_mask(length, seq_lens, mask):
    batch = sequences_of(episode(length), one_more=True)
    assert batch[Columns.SEQ_LENS].tolist() == seq_lens
    assert batch[Columns.LOSS_MASK].tolist() == mask
    last_row = batch[Columns.OBS][-1, seq_lens[-1] - 1]
    assert last_row == length, "the observation that closes the episode"


@both_forms
@pytest.mark.parametrize("one_more", [False, True])
@pytest.mark.parametrize("t_started", [0, 1, 10])
@pytest.mark.parametrize("length", range(1, 8))
def test_state_in_is_the_state_at_the_time_of_the_first_row(
    length, t_started, one_more, to_numpy
):
    made = episode(length, t_started, to_numpy=to_numpy)
    batch = sequences_of(made, one_more=one_more)
    want = batch[Columns.OBS][:, 0]
    state = batch[Columns.STATE_IN]
    assert state["b"].tolist() == want.tolist()
    assert state["a"]["t"].tolist() == [[x, x] for x in want]
    assert state["a"]["t"].dtype == np.float32
    assert Columns.STATE_OUT not in batch


def test_stateless_modules_are_left_alone():
    made = [episode(4, keys=("logp",)), episode(4), episode(5, keys=("logp",))]
    for one, module_id in zip(made, ("other", "m", "other")):
        of(module_id, one)
    batch = call(*made)
    assert [array.shape for array in batch[Columns.OBS]] == [(4,), (2, 3), (5,)]
    for column in (Columns.STATE_IN, Columns.SEQ_LENS, Columns.LOSS_MASK):
        assert [entry is None for entry in batch[column]] == [True, False, True]


def test_without_stateful_modules_nothing_is_added():
    made = of("m", episode(4, keys=("logp",)))
    assert not {"state_in", "seq_lens", "loss_mask"} & set(
        call(made, module=Stateless())
    )


def test_nested_observations():
    space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,))})
    made = random_episodes(space, gym.spaces.Discrete(2), ends=[(2, "cut")])[0]
    array = sequences_of(made)[Columns.OBS]["a"]
    assert array.shape == (1, 3, 2)
    np.testing.assert_array_equal(array[0, 1], made.get_observations(1)["a"])
    assert (array[0, 2] == 0).all()


def test_one_sequence_needs_no_recorded_states():
    batch = sequences_of(episode(3, keys=()))
    assert batch[Columns.STATE_IN]["b"].tolist() == [0.0]


def test_a_user_mask_is_cut_and_padded():
    own = [np.array([yes, no, yes, yes])]
    batch = sequences_of(episode(4), batch={"loss_mask": own})
    assert batch["loss_mask"].tolist() == [[yes, no, yes], [yes, no, no]]
    assert own[0].shape == (4,), "what the user gave stays"


@pytest.mark.parametrize("max_seq_len", [None, 0, 2.5])
def test_missing_max_seq_len_is_an_error(max_seq_len):
    match = rf"module 'm', max_seq_len .* got {max_seq_len}, want an int >= 1"
    with pytest.raises(ConfigError, match=match):
        call(of("m", episode(4)), max_seq_len=max_seq_len)


ERRORS = {
    "no states": (
        episode(4, keys=("logp",)),
        r"module 'm', episodes\[0\] \('it'\): got model outputs \['logp'\].*'state_out'",
    ),
    "no lookback": (
        episode(2, 5, lookback=0),
        "got a chunk from t=5 without lookback.*episode_lookback_horizon",
    ),
    "other names": (
        SingleAgentEpisode(
            observations=[0] * 5,
            actions=[0] * 4,
            rewards=[0.0] * 4,
            len_lookback_buffer=0,
            extra_model_outputs={"state_out": [{"h": np.zeros(2)}] * 4},
        ),
        "column 'state_out': got other states than the module's",
    ),
    "other shapes": (
        SingleAgentEpisode(
            observations=[0] * 5,
            actions=[0] * 4,
            rewards=[0.0] * 4,
            t_started=7,
            len_lookback_buffer=1,
            extra_model_outputs={
                "state_out": [{"a": {"t": np.zeros(3)}, "b": np.zeros(())}] * 4
            },
        ),
        "column 'state_out': got other states than the module's",
    ),
}


@pytest.mark.parametrize(("made", "match"), ERRORS.values(), ids=ERRORS)
def test_unusable_states_are_an_error(made, match):
    with pytest.raises(BatchError, match=match):
        call(of("m", made))


def test_columns_of_other_lengths_are_an_error():
    match = r"module 'm', column 'own', episodes\[0\].*: got 4 rows, want 5"
    with pytest.raises(BatchError, match=match):
        call(of("m", episode(4)), batch={"own": [np.zeros(4)]}, one_more=True)
    with pytest.raises(BatchError, match="column 'own': got 2 entries, want 1"):
        call(of("m", episode(4)), batch={"own": [np.zeros(4)] * 2})
