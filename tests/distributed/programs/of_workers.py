"""The learner and the batch of processes that learn together, and of one that does not."""

import gymnasium as gym
import keras
import numpy as np

from tflearner.algorithms.ppo import PPOConfig, PPOTfLearner
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import random_batch


class Sgd(PPOTfLearner):
    """Takes plain steps, so that gradients that are too long would show."""

    def configure_optimizers_for_module(self, module_id, config=None):
        params = self.get_parameters(self.module[module_id])
        optimizer = keras.optimizers.SGD(0.1)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params)


def make_learner(strategy):
    config = PPOConfig(
        observation_space=gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
        action_space=gym.spaces.Discrete(2),
    )
    config.multi_agent(policies=["p0"]).debugging(seed=1)
    config.training(learner_class=Sgd, grad_clip=0.1)
    config.learners(strategy=strategy)
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8]))
    return config.build_learner()


def make_batch(rows):
    """Returns some of 128 rows."""
    module = make_learner(None).module["p0"]
    return {name: column[rows] for name, column in random_batch(module, 128).items()}
