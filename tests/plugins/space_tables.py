"""The tables of spaces: every station on the way of data is held to all their rows.

A test that asks for `action_space` or `observation_space` runs once for each row. The
first row has the most in it; `deep_but_first` leaves it alone in the plain run. A
Discrete or a Box by itself is what all other tests have.
"""

import copy

import gymnasium as gym
import numpy as np
import pytest

from tflearner.spaces.mask_spaces import ACTION_MASK

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
Dict, Tuple = gym.spaces.Dict, gym.spaces.Tuple
MultiBinary, MultiDiscrete = gym.spaces.MultiBinary, gym.spaces.MultiDiscrete

ACTION_SPACES = {
    # Every kind of leaf, in both kinds of nests, with keys out of order.
    "nest": Dict(
        [
            ("z", Tuple([Discrete(3, start=5), Box(0, 9, (2, 1), np.float64)])),
            ("a", Dict(n=MultiDiscrete([2, 3], start=[1, 0]), b=MultiBinary(2))),
        ]
    ),
    "dict": Dict([("z", Discrete(2, start=3)), ("a", Box(0, 255, (2,), np.uint8))]),
    # Counted from 0, and in the bounds of modules.
    "tuple": Tuple(
        [Discrete(3), Tuple([Box(-1, 1, (1,)), MultiDiscrete([2, 3])]), MultiBinary(2)]
    ),
    "deep": Dict({"x": Dict({"y": Tuple([MultiBinary(2)])}), "w": Box(0, 1, (2, 2))}),
    "numbers": MultiDiscrete([2, 4, 1], start=[1, 0, -1]),
    "equal-numbers": MultiDiscrete([3, 3]),
    "matrix": MultiDiscrete([[2, 3], [1, 2]], start=[[0, 5], [-1, 1]]),
    "bits": MultiBinary(3),
    "bit-matrix": MultiBinary([2, 2]),
}

# Masks are of the actions in Discrete(4).
VECTOR, IMAGE = Box(-1, 1, (3,), np.float32), Box(0, 255, (6, 5, 2), np.uint8)
MASK = MultiBinary(4)
OBSERVATION_SPACES = {
    "masked-nest": Dict(
        [
            ("z", Tuple([VECTOR, Dict(b=MultiBinary(2), a=MultiDiscrete([2, 3]))])),
            ("a", Discrete(3, start=1)),
            (ACTION_MASK, MASK),
        ]
    ),
    "masked-image": Dict({"goal": Discrete(3), "camera": IMAGE, ACTION_MASK: MASK}),
    "masked": Dict({"observations": VECTOR, ACTION_MASK: MASK}),
    "float-mask": Dict({"o": Discrete(2), ACTION_MASK: Box(0, 1, (4,))}),
    "dict": Dict([("z", VECTOR), ("a", Discrete(3, start=1))]),
    "tuple": Tuple([VECTOR, Dict({"b": MultiBinary(2), "a": MultiDiscrete([2, 3])})]),
    "bits": MultiBinary(4),
}


@pytest.fixture
def action_spaces():
    """All spaces of actions: {name: space}."""
    return copy.deepcopy(ACTION_SPACES)


@pytest.fixture
def observation_spaces():
    """All spaces of observations: {name: space}."""
    return copy.deepcopy(OBSERVATION_SPACES)


@pytest.fixture(params=ACTION_SPACES)
def action_space(request, action_spaces):
    """Each space of actions in turn."""
    return action_spaces[request.param]


@pytest.fixture(params=OBSERVATION_SPACES)
def observation_space(request, observation_spaces):
    """Each space of observations in turn."""
    return observation_spaces[request.param]
