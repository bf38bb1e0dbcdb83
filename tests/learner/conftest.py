"""What the tests of learners share."""

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest

from tflearner.algorithms.ppo import PPOConfig
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import learner_digest, random_batch

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


@pytest.fixture(scope="module")
def built_learners():
    """Learners of one file by settings, each with its first state and digest."""
    return {}


@pytest.fixture
def get_learner(make_learner, built_learners):
    """Returns a function from settings to a learner that the tests of a file share.

    It is built once and set back to its first state for every test, with its traces kept.
    A test that asks twice for the same settings gets two learners. Those that change a
    learner's config, modules or attributes, or count its traces, build their own.
    """
    num_asked = Counter()

    def get(learner_class=None, **settings):
        settings["learner_class"] = learner_class
        text = repr(sorted(settings.items()))
        num_asked[text] += 1
        key = text, num_asked[text]
        if key not in built_learners:
            learner = make_learner(**settings)
            # The settings stay as well, so that no other object gets their addresses.
            built_learners[key] = (
                learner,
                learner.get_state(),
                learner_digest(learner),
                settings,
            )
        learner, state, digest, _ = built_learners[key]
        if learner_digest(learner) != digest:
            learner.set_state(state, force=True)
            assert learner_digest(learner) == digest, (
                "a test changed more than its state"
            )
        return learner

    return get


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
