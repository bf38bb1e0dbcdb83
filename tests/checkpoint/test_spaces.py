"""Spaces in files: described as JSON data, and equal when they come back."""

import collections

import gymnasium as gym
import numpy as np
import pytest

from tflearner.checkpoint import spaces as space_builders
from tflearner.checkpoint import state_tree, strict_json
from tflearner.checkpoint.builders import Rebuilder, Undescribable, describe
from tflearner.errors import BuilderError

space_builders.register_builders()
Box, Dict, Discrete = gym.spaces.Box, gym.spaces.Dict, gym.spaces.Discrete
INF = np.inf

SPACES = {
    "box": Box(-1.0, 1.0, (3,), np.float32),
    "box without axes": Box(0.0, 1.0, (), np.float32),
    "box of nothing": Box(0.0, 1.0, (0, 3), np.float32),
    "box of doubles": Box(-0.1, 1e300, (2,), np.float64),
    "box of halves": Box(-1.0, 1.0, (2,), np.float16),
    "box without bounds": Box(-INF, INF, (2, 2), np.float32),
    "box with half a bound": Box(
        np.array([-INF, 0.1], np.float32), np.array([INF, INF], np.float32)
    ),
    "box of its own bounds": Box(
        np.array([[-1.0, 0.1], [1e-30, -5.0]]),
        np.array([[1.0, 0.2], [2e-30, 5.0]]),
        dtype=np.float64,
    ),
    "image": Box(0, 255, (84, 84, 4), np.uint8),
    "box of long integers": Box(-(2**63), 2**63 - 1, (2,), np.int64),
    "box of unsigned integers": Box(0, 2**64 - 1, (2,), np.uint64),
    "box of bools": Box(0, 1, (2,), np.bool_),
    "discrete": Discrete(5),
    "discrete from below": Discrete(5, start=-2),
    "discrete int32": Discrete(5, dtype=np.int32),
    "multi-discrete": gym.spaces.MultiDiscrete([2, 3, 4]),
    "multi-discrete, rest": gym.spaces.MultiDiscrete(
        np.array([[2, 3], [4, 5]]), dtype=np.int32, start=np.array([[0, -1], [7, 1]])
    ),
    "multi-binary": gym.spaces.MultiBinary(4),
    "multi-binary with axes": gym.spaces.MultiBinary([2, 3]),
    "dict in order": Dict(collections.OrderedDict(b=Discrete(2), a=Discrete(3))),
    "dict of odd keys": Dict(
        {"$tuple": Discrete(2), "": Discrete(3), "a/b": Discrete(4)}
    ),
}


def text_of(value):
    """Returns what a file holds of a value."""
    written = state_tree.to_json(describe(value), ("about",), None)
    return strict_json.dumps(written)


def again(value):
    """Returns what a file makes of a value."""
    return Rebuilder().build(
        state_tree.from_json(strict_json.loads(text_of(value)), None)
    )


def assert_comes_back(space):
    """Holds what comes out of a file to all that a space is, and draws."""
    rebuilt = again(space)
    assert type(rebuilt) is type(space) and rebuilt == space
    assert rebuilt.dtype == space.dtype and rebuilt.shape == space.shape
    assert repr(rebuilt) == repr(space)
    for one in (space, rebuilt):
        one.seed(5)
    drawn, wanted = rebuilt.sample(), space.sample()
    flatten = gym.spaces.flatten  # In the order of the parts.
    if 0 not in (space.shape or ()):
        np.testing.assert_array_equal(flatten(rebuilt, drawn), flatten(space, wanted))
    if isinstance(space, Dict):
        assert [*rebuilt.spaces] == [*space.spaces]


@pytest.mark.parametrize("name", SPACES)
def test_spaces_come_back(name):
    assert_comes_back(SPACES[name])


def test_spaces_of_actions_come_back(action_space):
    assert_comes_back(action_space)


def test_spaces_of_observations_come_back(observation_space):
    assert_comes_back(observation_space)


@pytest.mark.parametrize("name", ["image", "box without bounds", "box of bools"])
def test_equal_bounds_are_written_once(name):
    assert len(text_of(SPACES[name])) < 250


def test_a_space_in_settings_and_nests_of_them(action_spaces):
    spaces = {"p0": (SPACES["image"], action_spaces["nest"])}
    assert again(spaces) == spaces


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Text(5),
        gym.spaces.Sequence(Discrete(2)),
        gym.spaces.OneOf([Discrete(2), Discrete(3)]),
        Dict({"a": gym.spaces.Text(5)}),
    ],
    ids=lambda space: type(space).__name__,
)
def test_other_spaces_have_to_be_given_again(space):
    with pytest.raises(Undescribable, match="gymnasium.spaces"):
        describe(space)


class Angles(Box):
    """A Box with a constructor of its own."""

    def __init__(self, num_angles):
        super().__init__(-np.pi, np.pi, (num_angles,), np.float32)


def test_a_subclass_is_not_taken_for_its_base_class():
    with pytest.raises(BuilderError, match=r"test_spaces\.Angles"):
        again(Angles(3))
