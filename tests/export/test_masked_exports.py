"""Exports of policies on nested observations, with masks of actions."""

import json

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
import tree

from tflearner.algorithms.ppo import PPOConfig
from tflearner.columns import Columns
from tflearner.connectors.observations import MeanStdFilter
from tflearner.connectors.pipeline import EnvToModulePipeline
from tflearner.modules import acting
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.spaces.mask_spaces import ACTION_MASK
from tflearner.testing import random_batch

Box, Dict, Discrete = gym.spaces.Box, gym.spaces.Dict, gym.spaces.Discrete
ACTIONS = Discrete(4, start=2)
# Names of spaces of observations, and settings of the default module.
KINDS = {
    "image": ("masked-image", {}),
    "dense": ("masked", {}),
    "lstm": ("masked-nest", {"use_lstm": True, "lstm_cell_size": 4}),
}
NUM = 400


class Made:
    def __init__(self, space, model_config):
        config = PPOConfig().environment(observation_space=space, action_space=ACTIONS)
        model_config = {"fcnet_hiddens": [8], **model_config}
        config.rl_module(model_config=DefaultModelConfig(**model_config))
        self.learner = config.debugging(seed=1).build_learner()
        self.module = self.learner.module["default_policy"].unwrapped()
        rng = np.random.default_rng(2)
        for weight in self.module.weights:
            weight.assign_add(rng.uniform(-0.5, 0.5, weight.shape))
        obs = random_batch(self.module, NUM)[Columns.OBS]
        if self.module.is_stateful():  # Of each sequence the first step.
            obs = random_batch(self.module, NUM * self.module.max_seq_len)[Columns.OBS]
            obs = tree.map_structure(lambda x: x[:, 0], obs)
        self.obs = obs
        self.state = tree.map_structure(
            lambda x: np.repeat(x[None], NUM, 0), self.module.get_initial_state()
        )

    def inputs(self):
        return (self.obs, self.state) if self.module.is_stateful() else (self.obs,)

    def greedy(self):
        """The actions that an environment runner takes."""
        batch = {Columns.OBS: self.obs}
        if self.module.is_stateful():
            batch[Columns.STATE_IN] = self.state
        actor, rng = acting.make_actor(self.module), np.random.default_rng(0)
        outputs = actor(batch, explore=False, rng=rng)
        return outputs[Columns.ACTION_DIST_INPUTS].argmax(-1) + 2

    def assert_allowed(self, actions):
        masks = self.obs[ACTION_MASK]
        assert np.take_along_axis(masks, np.asarray(actions)[:, None] - 2, 1).all()
        assert len(np.unique(actions)) > 1


def flat(name, nest):
    """Returns the leaves of a column by the names that exports give them."""
    return {
        "_".join(map(str, (name, *path))): leaf
        for path, leaf in tree.flatten_with_path(nest)
    }


@pytest.fixture(params=KINDS)
def made(request, observation_spaces):
    name, model_config = KINDS[request.param]
    return Made(observation_spaces[name], model_config)


@pytest.mark.deep
def test_saved_model_never_takes_a_forbidden_action(made, tmp_path):
    made.learner.export(tmp_path / "policy")
    policy = tf.saved_model.load(str(tmp_path / "policy"))
    inputs = tree.map_structure(tf.constant, made.inputs())

    def actions_of(outputs):
        return (outputs[0] if made.module.is_stateful() else outputs).numpy()

    greedy = actions_of(policy.act_greedy(*inputs))
    np.testing.assert_array_equal(greedy, made.greedy())
    made.assert_allowed(greedy)
    for seed in ([1, 2], [3, 4]):
        made.assert_allowed(actions_of(policy.act(*inputs, tf.constant(seed))))
    turned = dict(reversed(inputs[0].items()))  # The order of keys is of no account.
    np.testing.assert_array_equal(
        actions_of(policy.act_greedy(turned, *inputs[1:])), greedy
    )
    spec = json.loads((tmp_path / "policy" / "spec.json").read_text())
    wanted = {
        name: {"dtype": x.dtype.name, "shape": [None, *x.shape[1:]]}
        for name, x in flat("obs", made.obs).items()
    }
    for endpoint in ("act", "act_greedy", "value"):
        inputs = spec["endpoints"][endpoint]["inputs"]
        assert {k: v for k, v in inputs.items() if k.startswith("obs")} == wanted
    parts = spec["observation_space"]["spaces"]
    assert parts[ACTION_MASK] == {"type": "MultiBinary", "dtype": "int8", "shape": [4]}


@pytest.mark.deep_but_first
def test_keras_file_never_takes_a_forbidden_action(made, tmp_path):
    made.learner.export(tmp_path / "policy.keras", format="keras")
    model = keras.models.load_model(tmp_path / "policy.keras")
    named = flat("obs", made.obs)
    if made.module.is_stateful():
        named |= flat("state", made.state)
    outputs = model(named)
    actions = outputs["actions"] if made.module.is_stateful() else outputs
    np.testing.assert_array_equal(actions, made.greedy())


@pytest.mark.deep
def test_tflite_file_never_takes_a_forbidden_action(made, tmp_path):
    report = made.learner.export(tmp_path / "policy.tflite", format="tflite")
    assert report.max_difference < 1e-5  # On masked observations.


@pytest.mark.deep
def test_masks_are_not_normalised(tmp_path):
    space = Dict(
        {"observations": Box(-1, 1, (3,)), ACTION_MASK: Box(0, 1, (4,), np.int8)}
    )
    made = Made(space, {})
    piece = MeanStdFilter(space, ACTIONS)
    assert piece.observation_space[ACTION_MASK] == space[ACTION_MASK]
    obs = piece(batch={Columns.OBS: made.obs}, explore=True)[Columns.OBS]
    assert obs[ACTION_MASK] is made.obs[ACTION_MASK]
    assert obs["observations"].std() > 0.9  # Of uniform numbers in [-1, 1] it is 0.6.
    made.learner.export(
        tmp_path / "policy",
        env_to_module=EnvToModulePipeline([piece], space, ACTIONS),
    )
    policy = tf.saved_model.load(str(tmp_path / "policy"))
    raw = tree.map_structure(tf.constant, made.obs)
    made.assert_allowed(policy.act_greedy(raw).numpy())
