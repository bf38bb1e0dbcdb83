"""Tests for `tflearner.spaces.mask_spaces`."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

from tflearner.errors import SpaceError
from tflearner.spaces import mask_spaces
from tflearner.spaces.mask_spaces import ACTION_MASK

Box, Dict, Discrete = gym.spaces.Box, gym.spaces.Dict, gym.spaces.Discrete
MultiBinary, MultiDiscrete = gym.spaces.MultiBinary, gym.spaces.MultiDiscrete
OBS = Box(-1, 1, (2,))


def space(mask):
    return Dict({"observations": OBS, ACTION_MASK: mask})


@pytest.mark.parametrize(
    ("mask", "actions"),
    [
        (Box(0, 1, (3,), np.int8), Discrete(3, start=1)),
        (Box(0, 1, (3,), np.float32), Discrete(3)),
        (MultiBinary(3), Discrete(3)),
        (MultiBinary(7), MultiDiscrete([[3, 2], [1, 1]])),
    ],
    ids=str,
)
def test_masks_of_any_kind_are_seen(mask, actions):
    assert mask_spaces.has_action_mask(space(mask), actions)


@pytest.mark.parametrize(
    "observations",
    [
        None,
        OBS,
        Dict({"a": OBS}),
        gym.spaces.Tuple([space(MultiBinary(3))]),
        Dict({"a": space(MultiBinary(3))}),
    ],
    ids=str,
)
def test_no_mask_without_the_key_at_the_top(observations):
    assert not mask_spaces.has_action_mask(observations, Discrete(3))


@pytest.mark.parametrize(
    ("mask", "actions", "match"),
    [
        (MultiBinary(4), Discrete(3), r"MultiBinary\(4\), want .* shape \(3,\)"),
        (
            MultiBinary(2),
            MultiDiscrete([2, 3]),
            r"MultiBinary\(2\), want .* shape \(5,\)",
        ),
        (Box(0, 1, (1, 3)), Discrete(3), r"Box.* shape \(3,\)"),
        (Discrete(3), Discrete(3), r"Discrete\(3\), want"),
        (MultiBinary(2), Box(-1, 1, (2,)), r"a mask of actions in Box.*want Discrete"),
    ],
    ids=str,
)
def test_mask_that_does_not_fit_is_refused(mask, actions, match):
    with pytest.raises(SpaceError, match=r"key 'action_mask': got " + match):
        mask_spaces.has_action_mask(space(mask), actions)
    assert not mask_spaces.is_masked(space(mask), actions)


ACTION_SPACES = [
    Discrete(3, start=4),
    MultiDiscrete([2, 1, 3]),
    MultiDiscrete([[2, 2], [1, 3]], start=[[0, 5], [1, 0]]),
]


def all_masks(space):
    size = sum(mask_spaces.numbers_of_actions(space))
    return np.array(list(itertools.product([0, 1], repeat=size)), np.int8)


def components(mask, space):
    """The masks of each component, one by one."""
    parts, rest = [], list(mask)
    for num in mask_spaces.numbers_of_actions(space):
        parts.append(rest[:num])
        rest = rest[num:]
    return parts


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_masks_that_allow_nothing(space):
    masks = all_masks(space)
    want = [any(not any(part) for part in components(m, space)) for m in masks]
    got = mask_spaces.allows_nothing(masks, space)
    assert got.tolist() == want and 0 < sum(want) < len(want)
    got = mask_spaces.allows_nothing(masks.reshape(2, -1, masks.shape[1]), space)
    assert got.ravel().tolist() == want


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_actions_that_are_forbidden(space):
    masks = all_masks(space)
    rng = np.random.default_rng(0)
    sizes = mask_spaces.numbers_of_actions(space)
    flat = rng.integers(sizes, size=(len(masks), len(sizes)))
    want = [
        any(not part[a] for part, a in zip(components(mask, space), action))
        for mask, action in zip(masks, flat)
    ]
    actions = flat.reshape(len(masks), *space.shape)
    assert mask_spaces.forbids(masks, actions, space).tolist() == want
    assert 0 < sum(want) < len(want)


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_random_actions_are_allowed_ones(space):
    masks = np.repeat(all_masks(space), 20, axis=0)
    actions = mask_spaces.random_actions(masks, space, np.random.default_rng(0))
    assert all(space.contains(action) for action in actions)
    forbidden = mask_spaces.forbids(masks, actions - space.start, space)
    assert not (forbidden & ~mask_spaces.allows_nothing(masks, space)).any()
    assert len(np.unique(actions.reshape(len(actions), -1), axis=0)) > 2
