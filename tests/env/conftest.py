"""What the tests of environment runners share."""

from types import SimpleNamespace

import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.env.single_agent_env_runner import SingleAgentEnvRunner
from tflearner.testing import CountingEnv


class CountingModule:
    """Acts by a rule that a single environment can follow, too."""

    def __init__(self):
        self.num_calls = 0
        self.state = {"w": np.ones(2)}

    def forward_inference(self, batch):
        self.num_calls += 1
        tag, episode, step = batch[Columns.OBS].T.astype(np.int64)
        return {
            Columns.ACTIONS: (tag + 2 * episode + step) % 3,
            Columns.VF_PREDS: -batch[Columns.OBS][:, 2],
        }

    def forward_exploration(self, batch):
        outputs = self.forward_inference(batch)
        logp = np.log1p(batch[Columns.OBS][:, 2])
        return outputs | {Columns.ACTION_LOGP: logp}

    def is_stateful(self):
        return False

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state


def make_config(**settings):
    """Returns the settings that a runner reads."""
    defaults = {
        "env": CountingEnv,
        "env_config": {},
        "num_envs_per_env_runner": 3,
        "gym_env_vectorize_mode": "sync",
        "autoreset_mode": "same_step",
        "env_step_timeout_s": None,
        "action_masks": "auto",
        "rollout_fragment_length": 4,
        "episode_lookback_horizon": 1,
        "explore": True,
        "seed": 5,
        "metrics_num_episodes_for_smoothing": 100,
    }
    return SimpleNamespace(**(defaults | settings))


@pytest.fixture
def make_runner():
    """Returns a function that makes runners; they are stopped after the test."""
    runners = []

    def make(module=None, env_to_module=None, module_to_env=None, **settings):
        runner = SingleAgentEnvRunner(
            config=make_config(**settings),
            module=module or CountingModule(),
            env_to_module=env_to_module,
            module_to_env=module_to_env,
        )
        runners.append(runner)
        return runner

    yield make
    for runner in runners:
        runner.stop()
