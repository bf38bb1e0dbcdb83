"""PPO in each kind of action space, from the first step to the export."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import tree

from tflearner.algorithms.ppo import PPO, PPOConfig
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import run_digest

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
MultiDiscrete, MultiBinary = gym.spaces.MultiDiscrete, gym.spaces.MultiBinary


class MatchEnv(gym.Env):
    """One-step episodes; the reward is the mean over the components of an action.

    Numbers and bits, counted from their start, are to be what the observation shows:
    that is 1, else 0. Components of a Box are to be half of it, and lose the difference.
    """

    def __init__(self, action_space):
        self.observation_space = Box(0.0, 1.0, (3,), np.float32)
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._target = int(self.np_random.integers(2))
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        rewards = np.concatenate(list(self._rewards(self.action_space, action)))
        return self._obs(), rewards.mean(), True, False, {}

    def _rewards(self, space, action):
        if isinstance(space, gym.spaces.Dict):
            for key, part in space.spaces.items():
                yield from self._rewards(part, action[key])
        elif isinstance(space, gym.spaces.Tuple):
            for part, own in zip(space.spaces, action):
                yield from self._rewards(part, own)
        elif isinstance(space, Box):
            yield 1.0 - np.minimum(1.0, np.abs(np.ravel(action) - 0.5 * self._target))
        else:
            start = getattr(space, "start", 0)
            yield np.ravel(action - start == self._target).astype(float)

    def _obs(self):
        return np.full(3, self._target, np.float32)


SPACES = {
    "multi-discrete": MultiDiscrete([2, 3]),
    "multi-binary": MultiBinary(3),
    "dict": gym.spaces.Dict(a=Discrete(2), b=Box(-1.0, 1.0, (2,))),
    "tuple": gym.spaces.Tuple(
        [Discrete(3), gym.spaces.Tuple([Box(-1.0, 1.0, (1,)), MultiDiscrete([2, 2])])]
    ),
    "starts": gym.spaces.Dict(
        a=Discrete(3, start=5), b=MultiDiscrete([[2, 2]], start=[[1, -1]])
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_learns_saves_and_exports(name, tmp_path):
    space = SPACES[name]
    env = lambda config=None: MatchEnv(space)
    config = (
        PPOConfig()
        .environment(env)
        .training(lr=1e-2, minibatch_size=64, num_epochs=5, lambda_=0.95)
        .training(train_batch_size_per_learner=256)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[16]))
    )
    config.update_from_dict(
        {"seed": 0, "num_envs_per_env_runner": 8, "jit_compile": False}
    )
    algo = config.build_algo()
    history = algo.fit(total_steps=2_500, verbose=0, log_dir=tmp_path / "run")
    after = algo.evaluate(episodes=50).episode_return_mean
    assert history.history["episode_return"][0] < 0.8 and after > 0.9

    algo.save(tmp_path / "checkpoint")
    again = PPO.from_checkpoint(tmp_path / "checkpoint", env=env)
    assert run_digest(again) == run_digest(algo)
    assert again.get_module().action_space == space

    report = again.export(tmp_path / "policy")
    assert report.max_difference < 1e-6
    policy = tf.saved_model.load(str(report.path))
    actions = tree.map_structure(np.asarray, policy.act_greedy(tf.ones((1, 3))))
    tree.assert_same_structure(actions, again.env_runner.env.action_space.sample())
    for run in (algo, again):
        run.stop()
