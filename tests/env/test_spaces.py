"""Each space on the way between environments and episodes."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import tree
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tflearner.columns import Columns
from tflearner.connectors.actions import NormalizeAndClipActions
from tflearner.env.vector_stepper import VectorStepper
from tflearner.spaces.leaves import leaf_spaces
from tflearner.spaces.mask_spaces import ACTION_MASK

Box = gym.spaces.Box
every_mode = pytest.mark.parametrize("mode", ["same_step", "next_step"])


class Echo(gym.Env):
    """Shows the action that it got, as numbers in a row, and how often it stepped.

    It ends every third step, and changes what it got.
    """

    def __init__(self, space):
        self.action_space = space
        size = gym.spaces.utils.flatdim(space)
        self.observation_space = Box(-np.inf, np.inf, (size + 1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(self.observation_space.shape), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self._steps += 1
        shown = np.zeros(self.observation_space.shape)
        shown[0] = self._steps
        numbers = numbers_of(action)
        shown[1 : 1 + len(numbers)] = numbers
        for leaf in tree.flatten(action):
            if isinstance(leaf, np.ndarray) and leaf.ndim:
                leaf[:] = 0
        return shown, 1.0, self._steps == 3, False, {}


class Module:
    """Takes actions of its space, one after the other, counted from 0."""

    def __init__(self, space):
        self._space, self._count = space, 0

    def forward_exploration(self, batch):
        num = len(batch[Columns.OBS])
        self._count += 1

        def leaf(space):
            if isinstance(space, gym.spaces.Dict):
                return {key: leaf(own) for key, own in space.spaces.items()}
            if isinstance(space, gym.spaces.Tuple):
                return tuple(leaf(own) for own in space.spaces)
            if isinstance(space, Box):
                size = int(np.prod(space.shape))
                return np.full((num, size), self._count / 50, np.float32)
            dtype = np.int8 if isinstance(space, gym.spaces.MultiBinary) else np.int32
            rows = np.arange(num).reshape(-1, *[1] * len(space.shape))
            most = getattr(space, "nvec", np.full(space.shape, 2))
            return ((rows + self._count) % np.minimum(2, most)).astype(dtype)

        return {Columns.ACTIONS: leaf(self._space)}

    def is_stateful(self):
        return False


def numbers_of(element):
    return np.concatenate([np.ravel(x) for x in tree.flatten(element)])


@every_mode
def test_environments_get_the_actions_that_episodes_keep(
    make_runner, action_space, mode
):
    to_env = NormalizeAndClipActions(None, action_space)
    runner = make_runner(
        Module(action_space),
        module_to_env=to_env,
        env=lambda config=None: Echo(action_space),
        autoreset_mode=mode,
        num_envs_per_env_runner=2,
        episode_lookback_horizon=2,
    )
    episodes = runner.sample(num_timesteps=8) + runner.sample(num_timesteps=8)
    assert sum(map(len, episodes)) in (16, 17)  # One environment may be resetting.
    for episode in episodes:
        actions = episode.get_actions()
        like = Module(action_space).forward_exploration({Columns.OBS: [0]})[
            Columns.ACTIONS
        ]
        tree.assert_same_structure(actions, like)
        for got, want in zip(tree.flatten(actions), tree.flatten(like)):
            assert (got.dtype, got.shape[1:]) == (want.dtype, want.shape[1:])
            assert len(got) == len(episode)
        for_env = to_env(batch={Columns.ACTIONS: actions})
        for_env = for_env.get(Columns.ACTIONS_FOR_ENV, actions)
        kept = episode.get_extra_model_outputs()
        if Columns.ACTIONS_FOR_ENV in kept:
            tree.map_structure(
                np.testing.assert_array_equal, kept[Columns.ACTIONS_FOR_ENV], for_env
            )
        for t in range(len(episode)):
            want = numbers_of(tree.map_structure(lambda x, t=t: x[t], for_env))
            shown = episode.get_observations(t + 1)[1 : 1 + len(want)]
            np.testing.assert_allclose(shown, want)


def test_random_actions_are_of_the_space(make_runner, action_space):
    runner = make_runner(
        Module(action_space), env=lambda config=None: Echo(action_space)
    )
    episodes = runner.sample(num_timesteps=9, random_actions=True)
    assert sum(map(len, episodes)) == 9


def test_actions_are_copied_in_the_dtypes_of_the_space(action_space):
    env = SyncVectorEnv(
        [lambda: Echo(action_space)] * 2, autoreset_mode=AutoresetMode.SAME_STEP
    )
    stepper = VectorStepper(env)
    stepper.reset()
    env.action_space.seed(0)
    actions = env.action_space.sample()
    # Modules put out int32.
    given = tree.map_structure(
        lambda x: x.astype(np.int32) if x.dtype == np.int64 else x, actions
    )
    before = tree.map_structure(np.copy, given)
    copied = stepper._copied(given)
    tree.assert_same_structure(copied, actions)
    for got, want in zip(tree.flatten(copied), tree.flatten(actions)):
        assert got.dtype == want.dtype
    stepper.step(given)
    tree.map_structure(np.testing.assert_array_equal, given, before)


class Shows(gym.Env):
    """Shows samples of a space, and keeps those since its seed. Episodes have 3 steps."""

    action_space = gym.spaces.Discrete(4)

    def __init__(self, space):
        self.observation_space = space
        self.shown = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
            self.shown.clear()
        self._steps = 0
        return self._observation(), {}

    def step(self, action):
        self._steps += 1
        return self._observation(), 1.0, self._steps == 3, False, {}

    def _observation(self):
        obs = self.observation_space.sample()
        if ACTION_MASK in getattr(self.observation_space, "spaces", ()):
            obs[ACTION_MASK][0] = 1
        self.shown.append(numbers_of(obs))
        return obs


class Watches:
    """Takes the first action, and keeps what it is shown."""

    def __init__(self):
        self.seen = []

    def forward_exploration(self, batch):
        self.seen.append(rows_of(batch[Columns.OBS]))
        return {Columns.ACTIONS: np.zeros(len(self.seen[-1]), np.int32)}

    def is_stateful(self):
        return False


def rows_of(observations):
    """All numbers of nested observations. [N, numbers]."""
    leaves = tree.flatten(observations)
    return np.concatenate([x.reshape(len(x), -1) for x in leaves], 1)


@every_mode
def test_modules_and_episodes_get_what_environments_show(
    make_runner, observation_space, mode
):
    envs, module = [], Watches()

    def make_env(config=None):
        envs.append(Shows(copy.deepcopy(observation_space)))
        return envs[-1]

    runner = make_runner(
        module, env=make_env, autoreset_mode=mode, num_envs_per_env_runner=2
    )
    episodes = runner.sample(num_timesteps=16)
    shown = [env.shown for env in envs]
    got = [rows_of(episode.get_observations()) for episode in episodes]
    # 8 steps of each environment, and the first observations of 3 episodes.
    np.testing.assert_array_equal(np.concatenate(got), shown[0][:11] + shown[1][:11])
    for first, second in module.seen:
        assert first.tolist() in np.asarray(shown[0]).tolist()
        assert second.tolist() in np.asarray(shown[1]).tolist()
    tree.map_structure_up_to(
        leaf_spaces(observation_space),
        lambda space, x: np.testing.assert_equal(x.dtype, space.dtype),
        leaf_spaces(observation_space),
        episodes[0].get_observations(),
    )
