"""What the tests of the contract share: tiny learners that run line by line."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOConfig, PPOTfLearner
from tflearner.columns import Columns
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import random_batch

SPACES = (gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2))
OUTPUTS = (Columns.ACTION_DIST_INPUTS, Columns.VF_PREDS)


class Recording(TfLearner):
    """Keeps what an update calls, in order; its loss reaches every weight.

    A step is kept with the rewards of its rows, by which tests tell rows apart.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = []

    @property
    def names(self):
        return [name for name, _ in self.calls]

    @property
    def steps(self):
        return [rows for name, rows in self.calls if name == "step"]

    def before_gradient_based_update(self, *, timesteps):
        super().before_gradient_based_update(timesteps=timesteps)
        self.calls.append(("before", timesteps))

    def after_gradient_based_update(self, *, timesteps):
        super().after_gradient_based_update(timesteps=timesteps)
        self.calls.append(("after", timesteps))

    def _update(self, batch, **kwargs):
        if tf.executing_eagerly():
            rows = {mid: own["rewards"].numpy() for mid, own in batch.items()}
            self.calls.append(("step", rows))
        return super()._update(batch, **kwargs)

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return tf.add_n([tf.reduce_mean(fwd_out[name] ** 2) for name in OUTPUTS])


@pytest.fixture(scope="session")
def recording():
    """The class of learners that keep what was called."""
    return Recording


@pytest.fixture(scope="session")
def make_config():
    """Returns a function from settings to the config of a tiny learner."""

    def make(spaces=SPACES, model=None, **settings):
        config = PPOConfig(observation_space=spaces[0], action_space=spaces[1])
        model = {"fcnet_hiddens": []} | (model or {})
        config.rl_module(model_config=DefaultModelConfig(**model))
        defaults = {"run_eagerly": True, "jit_compile": False, "seed": 1, "lr": 0.01}
        return config.update_from_dict(defaults | settings)

    return make


@pytest.fixture(scope="session")
def make_learner(make_config):
    """Returns a function from settings to a learner, by default a `Recording` one."""

    def make(learner_class=Recording, **settings):
        return make_config(learner_class=learner_class, **settings).build_learner()

    return make


@pytest.fixture(scope="session")
def make_ppo(make_learner):
    """Returns a function from settings to a PPO learner."""
    return lambda **settings: make_learner(PPOTfLearner, **settings)


@pytest.fixture(scope="session")
def make_batch():
    """Returns a function from a learner and numbers of rows to {module id: columns}.

    The rewards of a module are 0, 1, 2, ...
    """

    def make(learner, num_rows=10, *, seed=0, **rows_by_module):
        ids = rows_by_module or dict.fromkeys(learner.module, num_rows)
        batch = {}
        for i, (mid, rows) in enumerate(ids.items()):
            batch[mid] = random_batch(learner.module[mid], rows, seed=seed + i)
            batch[mid]["rewards"] = np.arange(rows, dtype=np.float32)
        return batch

    return make


@pytest.fixture(scope="session")
def ones():
    """Returns a function from a learner to gradients of 1 for all of its weights."""

    def make(learner):
        params = learner.get_parameters(learner.module)
        return {learner.get_param_ref(p): tf.ones(p.shape) for p in params}

    return make


@pytest.fixture(scope="session")
def assert_same():
    """Returns a function that checks that two nests are equal to the bit."""

    def check(got, want):
        tf.nest.assert_same_structure(got, want)
        tf.nest.map_structure(np.testing.assert_array_equal, got, want)

    return check


@pytest.fixture(scope="session")
def differ():
    """Returns a function that says whether any array of two like nests differs."""

    def check(a, b):
        pairs = zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
        return any(not np.array_equal(x, y) for x, y in pairs)

    return check
