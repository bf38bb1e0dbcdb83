"""Pieces with a memory for each environment: acting equals a slow oracle."""

import inspect
import textwrap

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
import tree
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

from tflearner.algorithms.ppo import PPOConfig
from tflearner.columns import Columns
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.frame_stacking import FrameStacking
from tflearner.connectors.pipeline import EnvToModulePipeline
from tflearner.connectors.prev_actions_prev_rewards import PrevActionsPrevRewards
from tflearner.env.single_agent_env_runner import SingleAgentEnvRunner
from tflearner.errors import ConfigError, EnvStepError, SpaceError
from tflearner.spaces.mask_spaces import ACTION_MASK
from tflearner.testing import CountingEnv

MODES = ("same_step", "next_step", "disabled")
every_mode = pytest.mark.parametrize("mode", MODES)
COUNTING = (CountingEnv.observation_space, CountingEnv.action_space)


def docstring_example():
    """Returns the class in the docstring of `ConnectorV2` that has a memory."""
    text = inspect.getdoc(ConnectorV2)
    start = text.index("    class AddChange")
    code = textwrap.dedent(text[start : text.index("\nArgs:", start)])
    names = {"ConnectorV2": ConnectorV2, "gym": gym, "np": np}
    exec(code, names)  # noqa: S102 - it is our own docstring.
    return names["AddChange"]


AddChange = docstring_example()


def stack_of_3(raw, actions, rewards):
    return np.concatenate([np.zeros((2, 3)), raw])[-3:].ravel()


def change(raw, actions, rewards):
    last = raw[-2] if len(raw) > 1 else raw[-1]
    return np.concatenate([raw[-1], raw[-1] - last])


def prev_2_and_3(raw, actions, rewards):
    one_hot = np.concatenate([np.zeros((2, 3)), np.eye(3)[actions]])[-2:].ravel()
    return {
        "_orig_obs": raw[-1],
        "prev_n_actions": one_hot,
        "prev_n_rewards": np.concatenate([np.zeros(3), rewards])[-3:],
    }


def both(raw, actions, rewards):
    stack = stack_of_3(raw, actions, rewards)
    return prev_2_and_3([stack], actions, rewards)


def prev(*spaces):
    return PrevActionsPrevRewards(*spaces, n_prev_actions=2, n_prev_rewards=3)


def two(*spaces):
    stacks = FrameStacking(*spaces, num_frames=3)
    return [stacks, prev(stacks.observation_space, spaces[1])]


# Name: (pieces for spaces, what the module sees after an episode's first steps).
PIECES = {
    "stack": (lambda *spaces: FrameStacking(*spaces, num_frames=3), stack_of_3),
    "prev": (prev, prev_2_and_3),
    "change": (AddChange, change),
    "both": (two, both),
    "nested": (lambda *spaces: EnvToModulePipeline(two(*spaces)), both),
}


def make_runner(connector, env=CountingEnv, **settings):
    config = PPOConfig().environment(env, action_masks=False).debugging(seed=3)
    config.env_runners(num_envs_per_env_runner=3, **settings)
    config.env_runners(env_to_module_connector=connector)
    pipeline = config.build_env_to_module_connector(*COUNTING)
    return SingleAgentEnvRunner(config=config, module=None, env_to_module=pipeline)


def whole_episodes(chunks):
    """Yields observations, actions and rewards of each episode, with its chunks joined.

    Chunks overlap in one observation, which has to be the same in both.
    """
    joined = {}
    for chunk in chunks:
        obs = chunk.get_observations(slice(0, len(chunk) + 1))
        new = obs, chunk.get_actions(), chunk.get_rewards()
        if chunk.t_started == 0:
            joined[chunk.id_] = new
            continue
        old = joined[chunk.id_]
        for last, first in zip(tree.flatten(old[0]), tree.flatten(obs)):
            np.testing.assert_array_equal(last[-1], first[0])
        obs = tree.map_structure(lambda a, b: np.concatenate([a, b[1:]]), old[0], obs)
        joined[chunk.id_] = obs, *map(np.concatenate, zip(old[1:], new[1:]))
    return joined.values()


@every_mode
@pytest.mark.parametrize("name", PIECES)
def test_acting_equals_an_oracle_across_episodes(name, mode):
    make, oracle = PIECES[name]
    runner = make_runner(make, autoreset_mode=mode)
    chunks = [
        chunk
        for _ in range(4)
        for chunk in runner.sample(num_timesteps=17, random_actions=True)
    ]
    space = runner.env_to_module.observation_space
    runner.stop()
    episodes = list(whole_episodes(chunks))
    assert sum(len(actions) > 3 for _, actions, _ in episodes) > 3
    tags = {chunk.id_: tree.flatten(chunk.get_observations(0))[0] for chunk in chunks}
    assert len(tags) == len(episodes) > 12
    for obs, actions, rewards in episodes:
        frames = tree.flatten(obs)[0]  # The newest frame is what CountingEnv gave.
        frames = frames[:, :3] if name == "change" else frames[:, -3:]
        assert frames[:, 2].tolist() == list(range(len(actions) + 1))
        assert (frames[:, :2] == frames[0, :2]).all()
        for t in range(len(actions) + 1):
            seen = tree.map_structure(lambda x, t=t: x[t], obs)
            want = oracle(frames[: t + 1], actions[:t], rewards[:t])
            tree.assert_same_structure(seen, want)
            for got, own in zip(tree.flatten(seen), tree.flatten(want)):
                np.testing.assert_array_equal(got, own)
            assert space.contains(seen)


class Starts(ConnectorV2):
    """Keeps what it is told of the starts of episodes, beside the step's number."""

    def __init__(self, *spaces):
        super().__init__(*spaces)
        self.told = []

    def __call__(self, *, batch, shared_data, **kwargs):
        starts = shared_data["starts"]
        assert starts.dtype == bool and starts.shape == batch[Columns.OBS].shape[:1]
        self.told += zip(starts.tolist(), batch[Columns.OBS][:, 2].tolist())
        return batch


@every_mode
def test_pieces_are_told_which_rows_begin_an_episode(mode):
    runner = make_runner(Starts, autoreset_mode=mode)
    for settings in ({"num_timesteps": 29}, {"num_episodes": 4}, {"num_timesteps": 5}):
        runner.sample(random_actions=True, **settings)
    runner.stop()
    told = runner.env_to_module.connectors[0].told
    assert sum(starts for starts, _ in told) > 10
    assert all(starts == (step == 0) for starts, step in told)


def test_an_error_in_an_environment_ends_what_is_remembered():
    class Fails(CountingEnv):
        def step(self, action):
            if (self._episode, self._step) == (2, 2):
                raise OSError("once")
            return super().step(action)

    runner = make_runner(PIECES["stack"][0], env=Fails)
    with pytest.raises(EnvStepError, match="once"):
        runner.sample(num_timesteps=60, random_actions=True)
    for chunk in runner.sample(num_timesteps=3, random_actions=True):
        assert not chunk.get_observations(0)[:6].any()
    runner.stop()


def test_two_runners_that_share_a_pipeline_remember_their_own():
    make = PIECES["both"][0]
    alone, runner = make_runner(make), make_runner(make)
    other = SingleAgentEnvRunner(
        config=runner.config, module=None, env_to_module=runner.env_to_module
    )
    for _ in range(3):
        want = alone.sample(num_timesteps=7, random_actions=True)
        got = runner.sample(num_timesteps=7, random_actions=True)
        other.sample(num_episodes=4, random_actions=True)
        for a, b in zip(want, got, strict=True):
            leaves = [tree.flatten(e.get_observations()) for e in (a, b)]
            for left, right in zip(*leaves, strict=True):
                np.testing.assert_array_equal(left, right)
    for own in (alone, runner, other):
        own.stop()


def test_memory_is_no_state():
    runner = make_runner(PIECES["both"][0])
    runner.sample(num_timesteps=7, random_actions=True)
    assert not runner.env_to_module.has_state
    assert {*runner.get_state(not_components="rl_module")} == {"rng", "metrics_logger"}
    runner.stop()


# The rule in TensorFlow.

POINT = Box(-1.0, 1.0, (2,), np.float32)
IMAGE = Box(0, 255, (4, 4, 1), np.uint8)
NESTED = Dict(a=POINT, b=Tuple([IMAGE, Discrete(3)]), c=Box(5.0, 6.0, (), np.float64))
MASKED = Dict({ACTION_MASK: gym.spaces.MultiBinary(3), "x": POINT})
ACTIONS = {
    "discrete": Discrete(3, start=2),
    "multi-discrete": MultiDiscrete([[2, 3], [4, 2]]),
    "multi-binary": gym.spaces.MultiBinary(3),
    "box": Box(-1.0, 1.0, (2, 2), np.float32),
    "nested": Dict(b=Discrete(2), a=Tuple([POINT, MultiDiscrete([2, 3])])),
}
TABLE = {
    "image": (IMAGE, Discrete(3)),
    "nested": (NESTED, Discrete(3)),
    "masked": (MASKED, Discrete(3)),
    **{f"{name} actions": (POINT, space) for name, space in ACTIONS.items()},
}


def samples(space, num, seed):
    space.seed(seed)
    batch = gym.vector.utils.create_empty_array(space, num)
    return gym.vector.utils.concatenate(
        space, [space.sample() for _ in range(num)], batch
    )


@pytest.mark.parametrize("make", [FrameStacking, prev], ids=["stack", "prev"])
@pytest.mark.parametrize("name", TABLE)
def test_tensors_equal_numpy(make, name):
    spaces = TABLE[name]
    piece, num = make(*spaces), 5
    first = tree.map_structure(
        lambda x: np.repeat(x[None], num, 0), piece.get_initial_memory()
    )

    def step(x, memory, actions, rewards, xp):
        out, memory = piece.recall(x, memory, xp)
        return out, piece.remember(memory, actions, rewards, xp)

    in_graph = tf.function(lambda *inputs: step(*inputs, keras.ops))
    memory = of_tensors = first
    for seed in range(4):
        x, actions = (samples(space, num, seed) for space in spaces)
        if isinstance(spaces[1], Discrete):
            actions = actions - spaces[1].start  # As modules count them.
        rewards = np.arange(num) + 0.5 * seed
        want = out, memory = step(x, memory, actions, rewards, np)
        element = tree.map_structure(lambda column: np.asarray(column[-1]), out)
        assert piece.observation_space.contains(element)
        inputs = tree.map_structure(tf.constant, (x, of_tensors, actions, rewards))
        got = _, of_tensors = in_graph(*inputs)
        tree.assert_same_structure(want, got)
        for a, b in zip(tree.flatten(want), tree.flatten(got)):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert any(leaf.any() for leaf in tree.flatten(memory))


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_are_encoded_part_by_part(name):
    space = ACTIONS[name]
    piece = PrevActionsPrevRewards(POINT, space, n_prev_rewards=0)
    zeros = tree.map_structure(lambda x: x[None], piece.get_initial_memory())
    sizes = {"discrete": 3, "multi-discrete": 11, "multi-binary": 3, "box": 4}
    assert zeros["prev_n_actions"].shape == (1, sizes.get(name, 9))
    actions = {
        "discrete": np.array([2]),
        "multi-discrete": np.array([[[1, 2], [0, 1]]]),
        "multi-binary": np.array([[1, 0, 1]]),
        "box": np.array([[[0.5, -1.0], [0.0, 1.0]]], np.float32),
        "nested": {
            "b": np.array([1]),
            "a": (np.array([[0.5, 0.25]], np.float32), np.array([[1, 2]])),
        },
    }
    want = {
        "discrete": [0, 0, 1],
        "multi-discrete": [0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1],
        "multi-binary": [1, 0, 1],
        "box": [0.5, -1, 0, 1],
        "nested": [0.5, 0.25, 0, 1, 0, 0, 1, 0, 1],
    }
    memory = piece.remember(zeros, actions[name], np.zeros(1), np)
    assert memory["prev_n_actions"][0].tolist() == want[name]


def test_masks_stay_where_modules_look_for_them():
    space = PrevActionsPrevRewards(MASKED, Discrete(3)).observation_space
    assert {*space} == {"_orig_obs", "prev_n_actions", "prev_n_rewards", ACTION_MASK}
    assert {*space["_orig_obs"]} == {"x"}
    stacked = FrameStacking(MASKED, num_frames=2).observation_space
    assert stacked[ACTION_MASK] == MASKED[ACTION_MASK]
    assert stacked["x"].shape == (4,)


# Errors.


@pytest.mark.parametrize("number", [1, 0, 2.0, True, "3"])
def test_a_stack_has_two_frames_or_more(number):
    with pytest.raises(ConfigError, match=r"num_frames=.*want an int >= 2"):
        FrameStacking(POINT, num_frames=number)


def test_what_has_no_box_cannot_be_stacked():
    with pytest.raises(SpaceError, match="FrameStacking: .*Discrete"):
        FrameStacking(Discrete(3))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"n_prev_actions": -1}, r"n_prev_actions=.*got -1, want an int >= 0"),
        ({"n_prev_rewards": 1.0}, "n_prev_rewards"),
        ({"n_prev_actions": 0, "n_prev_rewards": 0}, "above 0"),
    ],
)
def test_numbers_of_steps_are_checked(settings, text):
    with pytest.raises(ConfigError, match=text):
        PrevActionsPrevRewards(POINT, Discrete(2), **settings)


def test_actions_that_are_no_numbers_cannot_be_remembered():
    with pytest.raises(SpaceError, match="numbers"):
        PrevActionsPrevRewards(POINT, gym.spaces.Sequence(POINT))


class Forgetful(ConnectorV2):
    pass


def test_a_piece_that_does_nothing_says_what_to_write():
    with pytest.raises(ConfigError, match=r"Forgetful: .*write __call__, or get_init"):
        Forgetful()(batch={Columns.OBS: np.zeros(1)}, shared_data={})


class Unable(ConnectorV2):
    def get_initial_memory(self):
        return np.zeros(1)


def test_a_memory_without_recall_says_what_to_write():
    runner = make_runner(Unable)
    with pytest.raises(ConfigError, match=r"Unable: .*recall\(self, x, memory, xp\)"):
        runner.sample(num_timesteps=1, random_actions=True)
    runner.stop()
