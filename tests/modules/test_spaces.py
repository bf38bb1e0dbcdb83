"""Default modules in each space: all ways of acting agree with training."""

import gymnasium as gym
import keras
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.modules import acting, inference
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.spaces.mask_spaces import ACTION_MASK, FORBIDDEN
from tflearner.testing import assert_close, random_batch

OBS, ACTIONS = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(4, start=2)
LSTM = {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 3}


def make(observation_space=OBS, action_space=ACTIONS, **settings):
    config = DefaultModelConfig(**{"fcnet_hiddens": (8,), **settings})
    module = PPOTfRLModule(observation_space, action_space, model_config=config, seed=0)
    rng = np.random.default_rng(1)
    for weight in module.weights:  # Biases, too, are something.
        weight.assign_add(rng.uniform(-0.5, 0.5, weight.shape))
    return module


def assert_acts_as_it_trains(module):
    """Holds each way of acting to the inputs of distributions that training has."""
    batch = random_batch(module, 12)
    rows = {Columns.OBS: batch[Columns.OBS]}
    want = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS].numpy()
    if module.is_stateful():  # The first step of each sequence.
        first = keras.tree.map_structure(lambda x: x[:, 0], batch[Columns.OBS])
        rows = {Columns.OBS: first, Columns.STATE_IN: batch[Columns.STATE_IN]}
        want = want[:, 0]
    for make_actor in (acting.make_actor, inference.TracedActor):
        actor = make_actor(module)
        for explore in (False, True):
            outputs = actor(rows, explore=explore, rng=np.random.default_rng(0))
            got = outputs[Columns.ACTION_DIST_INPUTS]
            assert_close(got, want, rtol=1e-4, atol=1e-5)
    if ACTION_MASK in getattr(module.observation_space, "spaces", ()):
        masks = rows[Columns.OBS][ACTION_MASK]
        np.testing.assert_array_equal(want == FORBIDDEN, masks == 0)
        assert (masks == 0).any()
    else:
        assert (want != FORBIDDEN).all()


def has_image(space):
    return "camera" in getattr(space, "spaces", ())


def test_modules_act_as_they_train_on_observations(observation_space):
    module = make(observation_space)
    wanted = (
        inference.TracedActor if has_image(observation_space) else acting.NumpyActor
    )
    assert isinstance(acting.make_actor(module), wanted)
    assert_acts_as_it_trains(module)


def test_modules_act_as_they_train_with_actions(action_space):
    module = make(action_space=action_space)
    assert isinstance(acting.make_actor(module), acting.NumpyActor)
    assert_acts_as_it_trains(module)


@pytest.mark.deep_but_first
def test_modules_with_a_state_act_as_they_train_on_observations(observation_space):
    assert_acts_as_it_trains(make(observation_space, **LSTM))


@pytest.mark.deep_but_first
def test_modules_of_two_networks_act_as_they_train_on_observations(observation_space):
    for settings in ({}, LSTM):
        module = make(observation_space, vf_share_layers=False, **settings)
        assert_acts_as_it_trains(module)


@pytest.mark.deep_but_first
def test_modules_with_a_state_act_as_they_train_with_actions(action_space):
    assert_acts_as_it_trains(make(action_space=action_space, **LSTM))
