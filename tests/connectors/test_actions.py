"""Tests for `tflearner.connectors.actions`."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions, NormalizeAndClipActions
from tflearner.modules.rl_module import action_dist_class
from tflearner.networks.distributions import Categorical, DiagGaussian
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
INF = np.inf


class FakeModule:
    """Explores with one distribution, and is greedy with another."""

    def get_exploration_action_dist_cls(self):
        return DiagGaussian

    def get_inference_action_dist_cls(self):
        return Categorical


def get_actions(batch, explore, seed=0):
    shared_data = {"rng": np.random.default_rng(seed)}
    return GetActions()(
        rl_module=FakeModule(), batch=batch, explore=explore, shared_data=shared_data
    )


INPUTS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def test_exploring_draws_actions_and_their_logp():
    batch = get_actions({Columns.ACTION_DIST_INPUTS: INPUTS}, explore=True)
    assert set(batch) == {"action_dist_inputs", "actions", "action_logp"}
    want = DiagGaussian.sample_np(INPUTS, np.random.default_rng(0))
    np.testing.assert_array_equal(batch[Columns.ACTIONS], want)
    logp = DiagGaussian.logp_np(INPUTS, want)
    np.testing.assert_array_equal(batch[Columns.ACTION_LOGP], logp)


def test_exploring_goes_on_with_the_generator():
    first, again, other = (
        get_actions({Columns.ACTION_DIST_INPUTS: INPUTS}, True, seed)["actions"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_greedy_takes_the_likeliest_action():
    batch = get_actions({Columns.ACTION_DIST_INPUTS: INPUTS}, explore=False)
    assert set(batch) == {"action_dist_inputs", "actions"}
    np.testing.assert_array_equal(batch[Columns.ACTIONS], INPUTS.argmax(-1))


@pytest.mark.parametrize("explore", [True, False])
def test_actions_of_the_module_itself_are_left_alone(explore):
    batch = {Columns.ACTION_DIST_INPUTS: INPUTS, Columns.ACTIONS: np.arange(50)}
    assert get_actions(dict(batch), explore) == batch


# Into the environment's action space.

SPACES = {
    "bounded": Box(np.float32([-2, 0, 10]), np.float32([2, 1, 30])),
    "half": Box(np.float32([-INF, -1]), np.float32([0.5, INF])),
    "unbounded": Box(-INF, INF, (2,)),
    "mixed": Box(np.float32([[-3, -INF], [0, -1]]), np.float32([[3, INF], [INF, 1]])),
    "scalar": Box(-3, 5, ()),
    "matrix": Box(-3, 5, (2, 3)),
    "float64": Box(-0.1, 0.1, (4,), np.float64),
    "uint8": Box(0, 255, (3,), np.uint8),
    "int32": Box(-5, 2**31 - 1, (2,), np.int32),
    "half int32": Box(-5, INF, (2,), np.int32),
    "unbounded int64": Box(-INF, INF, (2,), np.int64),
    "discrete": Discrete(4),
    "shifted": Discrete(4, start=-2),
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
every_setting = pytest.mark.parametrize(
    ("normalize", "clip"), [(True, True), (True, False), (False, True), (False, False)]
)


def module_actions(space, num=200):
    """What a module may put out: also beyond [-1, 1] and beyond most bounds."""
    rng = np.random.default_rng(0)
    if isinstance(space, Discrete):
        return rng.integers(4, size=num).astype(np.int32)
    size = int(np.prod(space.shape))
    scales = rng.choice([0.5, 2.0, 100.0], (num, 1))
    actions = rng.normal(size=(num, size)) * scales
    if space.dtype == np.uint8:  # Unclipped, others have no such number.
        actions = np.abs(actions) % 255
    return actions.astype(np.float32)


def for_env(space, actions, **settings):
    batch = {Columns.ACTIONS: actions}
    batch = NormalizeAndClipActions(None, space, **settings)(batch=batch)
    assert batch[Columns.ACTIONS] is actions
    return batch.get(Columns.ACTIONS_FOR_ENV, actions)


@every_space
@every_setting
@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
def test_tensors_get_the_same(space, normalize, clip, traced):
    settings = {"normalize_actions": normalize, "clip_actions": clip}
    actions = module_actions(space)
    to_tensors = NormalizeAndClipActions(None, space, **settings).to_tensors
    if traced:
        signature = [tf.TensorSpec([None, *actions.shape[1:]], actions.dtype)]
        to_tensors = tf.function(to_tensors, signature)
    got, want = to_tensors(tf.constant(actions)), for_env(space, actions, **settings)
    assert got.dtype == want.dtype
    assert_close(got, want, rtol=1e-6)


@every_space
@every_setting
def test_actions_are_in_the_space(space, normalize, clip):
    settings = {"normalize_actions": normalize, "clip_actions": clip}
    actions = for_env(space, module_actions(space), **settings)
    assert actions.shape[1:] == space.shape
    if isinstance(space, Box):
        assert actions.dtype == space.dtype
    if normalize or clip:
        for index in range(len(actions)):
            assert space.contains(actions[index, ...]), actions[index]


@pytest.mark.parametrize(
    ("name", "actions", "want"),
    [
        ("bounded", [-1, -1, -1], [-2, 0, 10]),
        ("bounded", [1, 1, 1], [2, 1, 30]),
        ("bounded", [0, 0.5, -0.5], [0, 0.75, 15]),
        ("bounded", [-9, 9, 2], [-2, 1, 30]),
        ("half", [-7, 7], [-7, 7]),
        ("half", [7, -7], [0.5, -1]),
        ("unbounded", [-7, 7], [-7, 7]),
        ("mixed", [0.5, 9, -2, -2], [[1.5, 9], [0, -1]]),
        ("scalar", [0.5], 3),
        ("uint8", [-1, 0.998, 1], [0, 255, 255]),
        ("uint8", [-9, 9, 0.1], [0, 255, 140]),
        ("half int32", [1.6, -9.0], [2, -5]),
        ("unbounded int64", [1.6, -1e6], [2, -1_000_000]),
    ],
)
def test_normalized_actions(name, actions, want):
    got = for_env(SPACES[name], np.float32([actions]))
    assert_close(got[0], want)


def test_bools_are_rounded():
    space = Box(0, 1, (4,), np.bool_)
    actions = np.float32([[-1, -0.3, 0.3, 9]])
    for got in (
        for_env(space, actions),
        NormalizeAndClipActions(None, space).to_tensors(actions),
    ):
        assert np.asarray(got).tolist() == [[False, False, True, True]]


def test_clipping_alone_does_not_stretch():
    settings = {"normalize_actions": False, "clip_actions": True}
    got = for_env(SPACES["bounded"], np.float32([[-9, 0.5, 9]]), **settings)
    assert_close(got, [[-2, 0.5, 10]])


def test_neither_changes_nothing():
    settings = {"normalize_actions": False, "clip_actions": False}
    got = for_env(SPACES["bounded"], np.float32([[-9, 0.5, 9]]), **settings)
    assert_close(got, [[-9, 0.5, 9]])


def test_discrete_actions_are_shifted_to_the_start():
    actions = np.array([0, 3], np.int32)
    assert for_env(SPACES["shifted"], actions).tolist() == [-2, 1]
    assert for_env(SPACES["discrete"], actions) is actions


def test_multi_discrete_actions_are_shifted_to_the_start():
    actions = np.array([[0, 1], [1, 2]], np.int32)
    space = gym.spaces.MultiDiscrete([2, 3], start=[5, -1])
    got = for_env(space, actions)
    assert got.tolist() == [[5, 0], [6, 1]] and got.dtype == np.int32
    for unshifted in (gym.spaces.MultiDiscrete([2, 3]), gym.spaces.MultiBinary(2)):
        assert for_env(unshifted, actions) is actions


def test_each_leaf_of_nested_actions_is_treated_as_if_alone():
    leaves = {
        "box": SPACES["bounded"],
        "shifted": SPACES["shifted"],
        "plain": SPACES["discrete"],
        "bits": gym.spaces.MultiBinary(3),
    }
    actions = {
        "box": module_actions(leaves["box"]),
        "shifted": module_actions(leaves["shifted"]),
        "plain": module_actions(leaves["plain"]),
        "bits": np.ones((200, 3), np.int8),
    }
    space = gym.spaces.Tuple([gym.spaces.Dict(leaves), SPACES["matrix"]])
    matrix = module_actions(SPACES["matrix"])
    inner, last = for_env(space, (actions, matrix))
    assert set(inner) == set(leaves)
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(inner[name], for_env(leaf, actions[name]))
    np.testing.assert_array_equal(last, for_env(SPACES["matrix"], matrix))
    for row in gym.vector.utils.iterate(
        gym.vector.utils.batch_space(space, 200), (inner, last)
    ):
        assert space.contains(row)


def test_nested_actions_with_nothing_to_change_are_left_alone():
    space = gym.spaces.Dict(a=Discrete(2), b=gym.spaces.MultiBinary(2))
    actions = {"a": np.zeros(3, np.int32), "b": np.zeros((3, 2), np.int8)}
    assert for_env(space, actions) is actions


def test_nested_actions_are_drawn_and_have_one_logp():
    space = gym.spaces.Dict(a=Discrete(2), b=Box(-1, 1, (1,)))
    dist_class = action_dist_class(space)
    module = SimpleNamespace(get_exploration_action_dist_cls=lambda: dist_class)
    batch = GetActions()(
        rl_module=module,
        batch={Columns.ACTION_DIST_INPUTS: INPUTS},
        explore=True,
        shared_data={"rng": np.random.default_rng(0)},
    )
    actions = batch[Columns.ACTIONS]
    want = Categorical.logp_np(INPUTS[:, :2], actions["a"]) + DiagGaussian.logp_np(
        INPUTS[:, 2:], actions["b"]
    )
    assert_close(batch[Columns.ACTION_LOGP], want)
