"""PPO from environment to export, on nested observations and with masks."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.algorithms.ppo import PPOConfig
from tflearner.modules.action_masks import ACTION_MASK
from tflearner.modules.default_model_config import DefaultModelConfig

Box, Dict, Discrete = gym.spaces.Box, gym.spaces.Dict, gym.spaces.Discrete
VECTOR, IMAGE = Box(-1, 1, (3,), np.float32), Box(0, 255, (4, 4, 1), np.uint8)
MASK = gym.spaces.MultiBinary(3)


class Strict(gym.Env):
    """Random observations, episodes of 7 steps; forbidden actions are an error."""

    action_space = Discrete(3)

    def __init__(self, space, in_info=False):
        self.observation_space, self.in_info = space, in_info

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.t = 0
        return self._results()

    def step(self, action):
        if not self.mask[action]:
            raise ValueError(f"{action} is not among {self.mask}")
        self.t += 1
        obs, info = self._results()
        return obs, float(action), self.t == 7, False, info

    def _results(self):
        obs = self.observation_space.sample()
        self.mask = np.ones(3, np.int8)
        if self.in_info or ACTION_MASK in self.observation_space.spaces:
            self.mask = self.np_random.permutation([1, 0, 0]).astype(np.int8)
        if self.in_info:
            return obs, {ACTION_MASK: self.mask}
        if ACTION_MASK in self.observation_space.spaces:
            obs[ACTION_MASK] = self.mask
        return obs, {}


@pytest.mark.parametrize(
    ("space", "in_info", "model_config"),
    [
        (Dict({"b": IMAGE, "a": VECTOR, ACTION_MASK: MASK}), False, {}),
        (
            gym.spaces.Tuple([VECTOR, Dict({"x": Discrete(2, start=3)})]),
            True,
            {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 3},
        ),
        (gym.spaces.Tuple([VECTOR, gym.spaces.MultiBinary(2)]), False, {}),
    ],
    ids=["image-masked", "tuple-lstm-masked", "tuple"],
)
def test_ppo_trains_evaluates_and_exports(space, in_info, model_config, tmp_path):
    config = (
        PPOConfig()
        .environment(lambda: Strict(space, in_info))
        .env_runners(num_envs_per_env_runner=3)
        .training(train_batch_size_per_learner=48, minibatch_size=24, num_epochs=2)
        .framework(jit_compile=False)
        .rl_module(
            model_config=DefaultModelConfig(**{"fcnet_hiddens": [8], **model_config})
        )
        .debugging(seed=0)
    )
    algo = config.build_algo()
    for _ in range(2):
        results = algo.train()["learners"]["default_policy"]
        assert results["num_non_finite_updates_lifetime"] == 0
        assert np.isfinite(results["total_loss"])
    module = algo.learner.module["default_policy"]
    if ACTION_MASK in module.observation_space.spaces:  # One action is allowed.
        assert results["entropy"] == 0.0
    assert algo.evaluate(episodes=4).num_episodes == 4
    algo.export(tmp_path / "policy")
    algo.stop()
