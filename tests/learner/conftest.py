"""What the tests of learners share."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.algorithms.ppo import PPOConfig
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import random_batch

SPACES = (gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2))


@pytest.fixture(scope="session")
def make_config():
    """Returns a function from settings to the config of a tiny PPO learner."""

    def make(spaces=SPACES, **settings):
        config = PPOConfig(observation_space=spaces[0], action_space=spaces[1])
        config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8]))
        config.update_from_dict({"jit_compile": False, "seed": 1} | settings)
        return config

    return make


@pytest.fixture(scope="session")
def make_learner(make_config):
    """Returns a function from settings to a tiny learner: PPO's by default."""

    def make(learner_class=None, **settings):
        return make_config(learner_class=learner_class, **settings).build_learner()

    return make


@pytest.fixture(scope="session")
def make_batch():
    """Returns a function from a learner and numbers of rows to {module id: columns}."""

    def make(learner, num_rows=20, *, seed=0, **rows_by_module):
        ids = rows_by_module or dict.fromkeys(learner.module, num_rows)
        return {
            mid: random_batch(learner.module[mid], rows, seed=seed + i)
            for i, (mid, rows) in enumerate(ids.items())
        }

    return make
