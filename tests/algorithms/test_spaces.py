"""PPO in each space, from the first step to the export."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import tree

from tflearner.algorithms.ppo import PPO, PPOConfig
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.spaces.mask_spaces import ACTION_MASK
from tflearner.testing import run_digest

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete


def make_config(env, **model_config):
    """Returns the config of a tiny PPO."""
    model_config = {"fcnet_hiddens": [16]} | model_config
    config = PPOConfig().environment(env).framework(jit_compile=False)
    config.rl_module(model_config=DefaultModelConfig(**model_config))
    return config.debugging(seed=0)


def saved_and_loaded(algo, path):
    """Returns a run that goes on like another one, made from its checkpoint."""
    algo.save(path)
    again = PPO.from_checkpoint(path, env=algo.config.env)
    assert run_digest(again) == run_digest(algo)
    return again


class MatchEnv(gym.Env):
    """One-step episodes; the reward is the mean over the components of an action.

    Numbers and bits, counted from their start, are to be what the observation shows,
    or the last there is: that is 1, else 0. Components of a Box, normalised, are to be
    half of it, and lose the difference.
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
            middle, reach = (space.high + space.low) / 2.0, (space.high - space.low) / 2
            normalised = np.ravel((action - middle) / reach)
            yield 1.0 - np.minimum(1.0, np.abs(normalised - 0.5 * self._target))
        else:
            last = getattr(space, "nvec", 2) - 1
            wanted = np.minimum(self._target, last) + getattr(space, "start", 0)
            yield np.ravel(action == wanted).astype(float)

    def _obs(self):
        return np.full(3, self._target, np.float32)


@pytest.mark.deep_but_first
def test_actions_are_learned_saved_and_exported(action_space, tmp_path):
    config = (
        make_config(lambda config=None: MatchEnv(action_space))
        .env_runners(num_envs_per_env_runner=8)
        .training(lr=1e-2, minibatch_size=64, num_epochs=5, lambda_=0.95)
        .training(train_batch_size_per_learner=256)
    )
    algo = config.build_algo()
    history = algo.fit(total_steps=2_500, verbose=0, log_dir=tmp_path / "run")
    after = algo.evaluate(episodes=50).episode_return_mean
    assert history.history["episode_return"][0] < 0.8 and after > 0.9

    again = saved_and_loaded(algo, tmp_path / "checkpoint")
    assert again.get_module().action_space == action_space
    report = again.export(tmp_path / "policy")
    assert report.max_difference < 1e-6
    policy = tf.saved_model.load(str(report.path))
    actions = tree.map_structure(np.asarray, policy.act_greedy(tf.ones((1, 3))))
    tree.assert_same_structure(actions, again.env_runner.env.action_space.sample())
    for run in (algo, again):
        run.stop()


class Strict(gym.Env):
    """Random observations, episodes of 7 steps; forbidden actions are an error.

    Args:
        space: Space of observations; a mask among them allows one action.
        in_info: Whether there is such a mask in infos.
    """

    action_space = Discrete(4, start=2)

    def __init__(self, space, in_info=False):
        self.observation_space, self.in_info = space, in_info
        self.in_obs = ACTION_MASK in getattr(space, "spaces", ())

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.t = 0
        return self._results()

    def step(self, action):
        if not self.mask[action - 2]:
            raise ValueError(f"{action} is not among {self.mask}")
        self.t += 1
        obs, info = self._results()
        return obs, float(action), self.t == 7, False, info

    def _results(self):
        obs = self.observation_space.sample()
        self.mask = np.ones(4, np.int8)
        if self.in_info or self.in_obs:
            self.mask = self.np_random.permutation([1, 0, 0, 0]).astype(np.int8)
        if self.in_obs:
            obs[ACTION_MASK] = self.mask.astype(
                self.observation_space[ACTION_MASK].dtype
            )
        return obs, {ACTION_MASK: self.mask} if self.in_info else {}


def trained(env, **settings):
    """Returns a run that was trained eagerly for a moment, and held to all of it."""
    config = make_config(env, **settings).framework(run_eagerly=True)
    config.training(train_batch_size_per_learner=48, minibatch_size=24, num_epochs=2)
    algo = config.env_runners(num_envs_per_env_runner=3).build_algo()
    for _ in range(2):
        results = algo.train()["learners"]["default_policy"]
        assert results["num_non_finite_updates_lifetime"] == 0
        assert np.isfinite(results["total_loss"])
    space = algo.get_module().observation_space
    is_masked = ACTION_MASK in getattr(space, "spaces", ())
    assert (results["entropy"] == 0.0) == is_masked  # One action is allowed.
    assert algo.evaluate(episodes=4).num_episodes == 4
    return algo


@pytest.mark.deep_but_first
def test_observations_are_trained_on_saved_and_exported(observation_space, tmp_path):
    algo = trained(lambda config=None: Strict(observation_space))
    again = saved_and_loaded(algo, tmp_path / "checkpoint")
    assert again.get_module().observation_space == observation_space
    again.export(tmp_path / "policy")
    for run in (algo, again):
        run.stop()


def test_masks_in_infos_go_beside_nested_observations(observation_spaces):
    env = lambda config=None: Strict(observation_spaces["tuple"], in_info=True)
    trained(env, use_lstm=True, lstm_cell_size=4, max_seq_len=3).stop()
