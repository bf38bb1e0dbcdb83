"""Masks of actions: the observations that hold one, and its effect, in NumPy.

Knows no TensorFlow: processes that do nothing but step an environment import it.

Shapes: `B` is any number of leading dimensions, `n` the number of actions or, of a
MultiDiscrete, the sum of its components' numbers: its mask is those of the components,
one behind the other.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from tflearner.errors import SpaceError

ACTION_MASK = "action_mask"

# What a forbidden action's output becomes. In float32 exp(FORBIDDEN - x) underflows to
# exactly 0 for every x of a network, so that it is never drawn; 0 * FORBIDDEN is 0, where
# -inf would make entropies and KL divergences NaN; and sums of squares stay finite, as
# those of the smallest float32 would not.
FORBIDDEN = -1e9


def has_action_mask(observation_space: Any, action_space: Any) -> bool:
    """Returns whether observations come with a mask of the actions.

    Args:
        observation_space: Of single observations. A Dict with the key "action_mask", a
            Box or a MultiBinary of n numbers, has one.
        action_space: Of single actions.

    Raises:
        SpaceError: If there is a mask but it does not fit the actions.
    """
    if not isinstance(observation_space, gym.spaces.Dict):
        return False
    mask = observation_space.spaces.get(ACTION_MASK)
    if mask is None:
        return False
    where = f"observation space, key {ACTION_MASK!r}"
    if not can_be_masked(action_space):
        raise SpaceError(
            where,
            f"a mask of actions in {action_space}",
            "Discrete or MultiDiscrete actions",
            "call the entry something else if it is none",
        )
    size = sum(numbers_of_actions(action_space))
    is_numbers = isinstance(mask, gym.spaces.Box | gym.spaces.MultiBinary)
    if not is_numbers or mask.shape != (size,):
        raise SpaceError(
            where,
            str(mask),
            f"a MultiBinary, or a Box, of shape ({size},)",
            f"one number for each action of {action_space}",
        )
    return True


def can_be_masked(action_space: Any) -> bool:
    """Returns whether actions are choices, which a mask can forbid one by one."""
    return isinstance(action_space, gym.spaces.Discrete | gym.spaces.MultiDiscrete)


def numbers_of_actions(action_space: Any) -> list[int]:
    """Returns how many actions each component of an action chooses from."""
    if isinstance(action_space, gym.spaces.Discrete):
        return [int(action_space.n)]
    return [int(n) for n in np.ravel(action_space.nvec)]


def is_masked(observation_space: Any, action_space: Any) -> bool:
    """Returns whether observations contain a valid mask of the actions.

    Unlike `has_action_mask`, it does not raise if the entry has another shape: a custom
    module may use that key for something else.
    """
    try:
        return has_action_mask(observation_space, action_space)
    except SpaceError:
        return False


def masked_np(outputs: np.ndarray, observations: dict[str, Any]) -> np.ndarray:
    """Does what `action_masks.masked` does, in NumPy."""
    allowed = np.asarray(observations[ACTION_MASK]).astype(bool)
    allowed |= ~allowed.any(-1, keepdims=True)
    return np.where(allowed, outputs, np.float32(FORBIDDEN))


def allows_nothing(masks: np.ndarray, action_space: Any) -> np.ndarray:
    """Returns which masks forbid every action, or all of one component. bool [B]."""
    if isinstance(action_space, gym.spaces.Discrete):  # A fifth of the time.
        return np.logical_not(masks.any(-1))
    starts = _starts(action_space)
    allowed = np.logical_or.reduceat(masks != 0, starts, axis=-1)
    return np.logical_not(allowed.all(-1))


def forbids(masks: np.ndarray, actions: np.ndarray, action_space: Any) -> np.ndarray:
    """Returns which actions are forbidden. bool [B].

    Args:
        masks: [B, n].
        actions: Counted from 0. int [B, ...].
        action_space: Of single actions.
    """
    places = places_of(actions, action_space, masks.shape[:-1])
    return (np.take_along_axis(masks, places, -1) == 0).any(-1)


def places_of(actions: np.ndarray, action_space: Any, leading: Any) -> np.ndarray:
    """Returns where in masks the actions are. int [B, number of components].

    Args:
        actions: Counted from 0. int [B, ...].
        action_space: Of single actions.
        leading: The shape of `B`.
    """
    components = np.reshape(actions, (*leading, -1)).astype(np.intp)
    return components + _starts(action_space)


def random_actions(
    masks: np.ndarray, action_space: Any, rng: np.random.Generator
) -> np.ndarray:
    """Returns actions that are allowed, each equally likely; in the space. [N, ...].

    Args:
        masks: [N, n]. What forbids everything is as if it forbade nothing.
        action_space: Of single actions.
        rng: Where the random numbers come from.
    """
    draws = rng.random(masks.shape) + (masks != 0)
    parts = np.split(draws, _starts(action_space)[1:], axis=-1)
    actions = np.stack([part.argmax(-1) for part in parts], axis=-1)
    actions = actions.reshape(len(masks), *action_space.shape) + action_space.start
    return actions.astype(action_space.dtype)


def _starts(action_space: Any) -> np.ndarray:
    return np.cumsum([0, *numbers_of_actions(action_space)[:-1]])
