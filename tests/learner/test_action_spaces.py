"""Batches whose actions have several parts."""

import gymnasium as gym
import numpy as np
import pytest
import tree

from tflearner.columns import Columns
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import BatchError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import learner_digest, random_batch, random_episodes

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS = Box(-1.0, 1.0, (4,), np.float32)
TREE = gym.spaces.Tuple(
    [
        Discrete(3, start=2),
        gym.spaces.Dict(a=Box(-1, 1, (1,)), b=gym.spaces.MultiDiscrete([2, 3])),
        gym.spaces.MultiBinary(2),
    ]
)
SPACES = {
    "numbers": gym.spaces.MultiDiscrete([2, 3], start=[1, 0]),
    "bits": gym.spaces.MultiBinary([2, 2]),
    "tree": TREE,
}


@pytest.fixture(scope="module")
def learners(make_config):
    """Returns a function from the name of a space to a learner, made once."""
    made = {}

    def get(name, **model_config):
        if name not in made:
            config = make_config((OBS, SPACES[name.split()[0]]))
            settings = {"fcnet_hiddens": [8], **model_config}
            config.rl_module(model_config=DefaultModelConfig(**settings))
            config.update_from_dict({"minibatch_size": 8})
            made[name] = config.build_learner()
        return made[name]

    return get


def update(learner, batch):
    return learner.update(batch)[DEFAULT_MODULE_ID]


@pytest.mark.parametrize("name", SPACES)
def test_updates_change_all_weights_and_nothing_that_was_given(name, learners):
    learner = learners(name)
    module = learner.module[DEFAULT_MODULE_ID]
    batch = random_batch(module, 24)
    copy = tree.map_structure(np.copy, batch)
    before = module.get_state()
    results = update(learner, batch)
    assert results["num_module_steps_trained"] == 24
    assert results["num_non_finite_updates_lifetime"] == 0
    assert np.isfinite(results["mean_kl_loss"]) and results["entropy"] != 0.0
    for key, weight in module.get_state().items():
        assert (weight != before[key]).any(), key
    tree.map_structure(np.testing.assert_array_equal, batch, copy)


def test_sequences_of_nested_actions(learners):
    learner = learners("tree lstm", use_lstm=True, lstm_cell_size=4, max_seq_len=3)
    batch = random_batch(learner.module[DEFAULT_MODULE_ID], 22)
    assert batch[Columns.ACTIONS][1]["b"].shape == (8, 3, 2)
    results = update(learner, batch)
    assert results["num_module_steps_trained"] == 22
    assert np.isfinite(results["total_loss"])


def test_episodes_with_nested_actions(learners):
    learner = learners("tree")
    # Episodes hold actions as modules take them, counted from 0.
    space = gym.spaces.Tuple([Discrete(3), *TREE.spaces[1:]])
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
        put(index=(3, 1), value=3),
        r"column 'actions': got 3 at row 3, index \(1,\), want values in \[0, 2\]",
    ),
    "negative": ("numbers", put(index=(0, 0), value=-1), r"-1 at row 0.*\[0, 1\]"),
    "bit": ("bits", put(index=(1, 0, 1), value=2), r"2 at row 1.*\[0, 1\]"),
    "shape": (
        "bits",
        replace(Columns.ACTIONS, lambda x: x.reshape(-1, 4)),
        r"column 'actions': got int8 \(24, 4\), want \(N, 2, 2\)",
    ),
    "leaf": ("tree", put(0, index=5, value=3), r"'actions'\[0\]: got 3 at row 5"),
    "deep leaf": (
        "tree",
        put(1, "b", index=(5, 0), value=2),
        r"'actions'\[1\]\['b'\]: got 2 at row 5.*want values in \[0, 1\]",
    ),
    "infinite leaf": (
        "tree",
        put(1, "a", index=(2, 0), value=np.inf),
        r"'actions'\[1\]\['a'\].*inf.*row 2",
    ),
    "another nest": (
        "tree",
        replace(Columns.ACTIONS, lambda x: x[:2]),
        r"'actions': got a tuple with keys \[0, 1\], want a tuple with keys \[0, 1, 2\]",
    ),
    "array for a nest": (
        "tree",
        replace(Columns.ACTIONS, lambda x: x[0]),
        "'actions': got an array, want a tuple",
    ),
    "nest for an array": (
        "numbers",
        replace(Columns.ACTIONS, lambda x: (x, x)),
        "'actions': got a tuple",
    ),
    "inputs": (
        "tree",
        replace(Columns.ACTION_DIST_INPUTS, lambda x: x[:, 1:]),
        r"'action_dist_inputs': got float32 \(24, 11\), want \(N, 12\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_actions_that_are_none_of_the_space_are_refused(name, learners):
    space, change, text = BAD[name]
    learner = learners(space)
    batch = random_batch(learner.module[DEFAULT_MODULE_ID], 24)
    change(batch)
    before = learner_digest(learner)
    with pytest.raises(BatchError, match=text):
        learner.update(batch)
    assert learner_digest(learner) == before


def test_logits_of_forbidden_numbers_alone_may_be_minus_infinity(learners):
    learner = learners("tree")
    # 3 numbers, mean and log std of a Box, 2 + 3 numbers, 2 bits.
    for index in range(12):
        batch = random_batch(learner.module[DEFAULT_MODULE_ID], 24)
        batch[Columns.ACTIONS] = tree.map_structure(
            np.zeros_like, batch[Columns.ACTIONS]
        )
        inputs = batch[Columns.ACTION_DIST_INPUTS]
        inputs[0, index] = -np.inf
        if index in (1, 2, 6, 8, 9):
            update(learner, batch)
        elif index not in (0, 5, 7):  # Those are the numbers that were chosen.
            with pytest.raises(BatchError, match="action_dist_inputs.*-inf"):
                learner.update(batch)
