"""Batches in each space: all weights learn from good ones, bad ones are refused."""

import gymnasium as gym
import numpy as np
import pytest
import tree

from tflearner.columns import Columns
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import BatchError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import learner_digest, random_batch, random_episodes

OBS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
ACTIONS = gym.spaces.Discrete(4)
LSTM = {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 5}


@pytest.fixture(scope="module")
def learner_of(make_config):
    """Returns a function from spaces and settings to a learner, made once."""
    made = {}

    def get(spaces, run_eagerly=True, **model_config):
        key = repr((spaces, run_eagerly, model_config))
        if key not in made:
            model = DefaultModelConfig(**{"fcnet_hiddens": [8], **model_config})
            config = make_config(spaces, minibatch_size=8, num_epochs=1, lr=1e-3)
            config.framework(run_eagerly=run_eagerly).rl_module(model_config=model)
            made[key] = config.build_learner()
        return made[key]

    return get


def module_of(learner):
    return learner.module[DEFAULT_MODULE_ID]


def update(learner, batch):
    return learner.update(batch)[DEFAULT_MODULE_ID]


def assert_all_weights_learn(learner):
    """Holds a learner to an update on 24 rows."""
    module = module_of(learner)
    batch = random_batch(module, 24)
    copy = tree.map_structure(np.copy, batch)
    before = tree.map_structure(np.copy, module.get_state())
    results = update(learner, batch)
    assert results["num_module_steps_trained"] == 24
    assert results["num_non_finite_updates_lifetime"] == 0
    for name in ("total_loss", "entropy", "mean_kl_loss"):
        assert 0.0 != abs(results[name]) < 100.0, name  # Masks are far from it.
    for key, weight in module.get_state().items():
        assert (weight != before[key]).any(), key
    tree.map_structure(np.testing.assert_array_equal, batch, copy)


def test_weights_learn_from_actions(action_space, learner_of):
    assert_all_weights_learn(learner_of((OBS, action_space)))


@pytest.mark.deep
def test_weights_learn_from_actions_in_traced_updates(action_space, learner_of):
    assert_all_weights_learn(learner_of((OBS, action_space), run_eagerly=False))


@pytest.mark.deep_but_first
def test_weights_learn_from_sequences_of_actions(action_space, learner_of):
    assert_all_weights_learn(learner_of((OBS, action_space), **LSTM))


@pytest.mark.deep_but_first
def test_weights_learn_from_observations(observation_space, learner_of):
    assert_all_weights_learn(learner_of((observation_space, ACTIONS)))


@pytest.mark.deep
def test_weights_learn_from_observations_in_traced_updates(
    observation_space, learner_of
):
    learner = learner_of((observation_space, ACTIONS), run_eagerly=False)
    assert_all_weights_learn(learner)


@pytest.mark.deep_but_first
def test_weights_learn_from_sequences_of_observations(observation_space, learner_of):
    assert_all_weights_learn(learner_of((observation_space, ACTIONS), **LSTM))


def test_episodes_with_nested_actions(action_spaces, learner_of):
    space = action_spaces["tuple"]  # Counted from 0, as episodes hold actions.
    learner = learner_of((OBS, space))
    episodes = random_episodes(OBS, space)
    for index, episode in enumerate(episodes):
        inputs = [np.zeros(12, np.float32)] * len(episode)
        episode.set_extra_model_outputs(Columns.ACTION_DIST_INPUTS, inputs)
        if index % 2:  # The others stay in lists.
            episode.to_numpy()
    results = learner.update_from_episodes(episodes)[DEFAULT_MODULE_ID]
    assert results["num_module_steps_trained"] == sum(map(len, episodes))


def put(*path, index, value):
    """Returns a function that changes one number of a batch's actions."""

    def change(batch):
        leaf = batch[Columns.ACTIONS]
        for key in path:
            leaf = leaf[key]
        leaf[index] = value

    return change


def replace(column, function):
    return lambda batch: batch.update({column: function(batch[column])})


BAD = {
    "number": (
        "numbers",
        put(index=(3, 1), value=4),
        r"column 'actions': got 4 at row 3, index \(1,\), want values in \[0, 3\]",
    ),
    "negative": ("numbers", put(index=(0, 0), value=-1), r"-1 at row 0.*\[0, 1\]"),
    "bit": ("bit-matrix", put(index=(1, 0, 1), value=2), r"2 at row 1.*\[0, 1\]"),
    "shape": (
        "bit-matrix",
        replace(Columns.ACTIONS, lambda x: x.reshape(-1, 4)),
        r"column 'actions': got int8 \(24, 4\), want \(N, 2, 2\)",
    ),
    "leaf": (
        "nest",
        put("z", 0, index=5, value=3),
        r"'actions'\['z'\]\[0\]: got 3 at row 5",
    ),
    "deep leaf": (
        "nest",
        put("a", "n", index=(5, 0), value=2),
        r"'actions'\['a'\]\['n'\]: got 2 at row 5.*want values in \[0, 1\]",
    ),
    "infinite leaf": (
        "nest",
        put("z", 1, index=(2, 0), value=np.inf),
        r"'actions'\['z'\]\[1\].*inf.*row 2",
    ),
    "another nest": (
        "tuple",
        replace(Columns.ACTIONS, lambda x: x[:2]),
        r"'actions': got a tuple with keys \[0, 1\], want a tuple with keys \[0, 1, 2\]",
    ),
    "array for a nest": (
        "tuple",
        replace(Columns.ACTIONS, lambda x: x[0]),
        "'actions': got an array, want a tuple",
    ),
    "nest for an array": (
        "numbers",
        replace(Columns.ACTIONS, lambda x: (x, x)),
        "'actions': got a tuple",
    ),
    "inputs": (
        "tuple",
        replace(Columns.ACTION_DIST_INPUTS, lambda x: x[:, 1:]),
        r"'action_dist_inputs': got float32 \(24, 11\), want \(N, 12\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_actions_that_are_none_of_the_space_are_refused(
    name, action_spaces, learner_of
):
    space, change, text = BAD[name]
    learner = learner_of((OBS, action_spaces[space]))
    batch = random_batch(module_of(learner), 24)
    change(batch)
    before = learner_digest(learner)
    with pytest.raises(BatchError, match=text):
        learner.update(batch)
    assert learner_digest(learner) == before


def test_logits_of_forbidden_numbers_alone_may_be_minus_infinity(
    action_spaces, learner_of
):
    learner = learner_of((OBS, action_spaces["nest"]))
    # 3 numbers, means and log stds of a Box, 2 + 3 numbers, 2 bits.
    for index in range(14):
        batch = random_batch(module_of(learner), 24)
        batch[Columns.ACTIONS] = tree.map_structure(
            np.zeros_like, batch[Columns.ACTIONS]
        )
        inputs = batch[Columns.ACTION_DIST_INPUTS]
        inputs[0, index] = -np.inf
        if index in (1, 2, 8, 10, 11):
            update(learner, batch)
        elif index not in (0, 7, 9):  # Those are the numbers that were chosen.
            with pytest.raises(BatchError, match="action_dist_inputs.*-inf"):
                learner.update(batch)
