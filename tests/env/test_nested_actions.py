"""Actions of several parts on their way to environments and into episodes."""

import gymnasium as gym
import numpy as np
import pytest
import tree
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tflearner.columns import Columns
from tflearner.connectors.actions import NormalizeAndClipActions
from tflearner.env.vector_stepper import VectorStepper

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete

SPACES = {
    "multi-discrete": gym.spaces.MultiDiscrete([4, 9], start=[0, 5]),
    "bits": gym.spaces.MultiBinary(2),
    "dict": gym.spaces.Dict(
        [("z", Discrete(9, start=3)), ("a", Box(-4, 4, (2, 1), np.float64))]
    ),
    "tuple": gym.spaces.Tuple(
        [
            Discrete(9),
            gym.spaces.Tuple([Box(0, 255, (1,), np.uint8), gym.spaces.MultiBinary(2)]),
        ]
    ),
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


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
        numbers = [np.ravel(x) for x in tree.flatten(action)]
        numbers = np.concatenate(numbers).astype(np.float64)
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
            return ((rows + self._count) % 2 * np.ones(space.shape)).astype(dtype)

        return {Columns.ACTIONS: leaf(self._space)}

    def is_stateful(self):
        return False


def numbers_of(action):
    return np.concatenate([np.ravel(x) for x in tree.flatten(action)])


@every_space
@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_environments_get_the_actions_that_episodes_keep(make_runner, space, mode):
    to_env = NormalizeAndClipActions(None, space)
    runner = make_runner(
        Module(space),
        module_to_env=to_env,
        env=lambda config=None: Echo(space),
        autoreset_mode=mode,
        num_envs_per_env_runner=2,
        episode_lookback_horizon=2,
    )
    episodes = runner.sample(num_timesteps=8) + runner.sample(num_timesteps=8)
    assert sum(map(len, episodes)) in (16, 17)  # One environment may be resetting.
    for episode in episodes:
        actions = episode.get_actions()
        like = Module(space).forward_exploration({Columns.OBS: [0]})[Columns.ACTIONS]
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


@every_space
def test_random_actions_are_of_the_space(make_runner, space):
    runner = make_runner(Module(space), env=lambda config=None: Echo(space))
    episodes = runner.sample(num_timesteps=9, random_actions=True)
    assert sum(map(len, episodes)) == 9


@every_space
def test_actions_are_copied_in_the_dtypes_of_the_space(space):
    env = SyncVectorEnv(
        [lambda: Echo(space)] * 2, autoreset_mode=AutoresetMode.SAME_STEP
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
