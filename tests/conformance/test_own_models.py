"""A Keras model of the user's takes the place of the default network."""

import keras
import numpy as np
import pytest
import tree

from tflearner.modules import acting
from tflearner.testing import assert_close

ME = "default_policy"


def own_model():
    layers = keras.layers
    return keras.Sequential(
        [layers.Flatten(), layers.Dense(6, "relu"), layers.Dense(5)]
    )


@pytest.fixture(scope="module")
def learner(row):
    config = row.config()
    model_config = config.model_config
    settings = (
        model_config if isinstance(model_config, dict) else model_config.to_dict()
    )
    changed = {"model": own_model, "conv_filters": None, "fcnet_use_layernorm": False}
    return row.make_learner(model_config={**settings, **changed})


def test_its_weights_learn(row, learner):
    before = learner.get_state("rl_module")["rl_module"][ME]
    results = row.train(learner)[ME]
    after = learner.get_state("rl_module")["rl_module"][ME]
    assert np.isfinite(results["total_loss"])
    assert any((before[key] != after[key]).any() for key in before)


def test_it_acts_in_numpy_like_the_module(row, learner):
    module, observations = learner.module[ME], row.observations(12)
    assert isinstance(acting.make_actor(module), acting.NumpyActor)
    policy = module.numpy_policy()
    state = ()
    batch = {"obs": observations}
    if module.is_stateful():
        first = module.get_initial_state()
        state = (tree.map_structure(lambda x: np.repeat(x[None], 12, 0), first),)
        batch = acting.with_time_axis(batch | {"state_in": state[0]})
    outputs = module.forward_inference(batch)
    if module.is_stateful():
        outputs = acting.without_time_axis(outputs)
    got = policy(observations, *state)
    got = got[0] if state else got
    assert_close(got, outputs["action_dist_inputs"], rtol=1e-5, atol=1e-5)
