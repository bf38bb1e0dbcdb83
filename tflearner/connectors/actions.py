"""Connector pieces that turn a module's outputs into an environment's actions."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.connectors.connector import ConnectorV2
from tflearner.spaces.leaves import leaf_spaces


class GetActions(ConnectorV2):
    """Draws actions from the module's action distribution, or takes the likeliest.

    If the module has output actions itself, the batch stays as it is.

    Reads:  ACTION_DIST_INPUTS.
    Writes: ACTIONS, and ACTION_LOGP while exploring.
    """

    def __call__(self, *, rl_module, batch, explore, shared_data, **kwargs):
        if Columns.ACTIONS in batch:
            return batch
        inputs = batch[Columns.ACTION_DIST_INPUTS]
        if explore:
            dist_class = rl_module.get_exploration_action_dist_cls()
            actions = dist_class.sample_np(inputs, shared_data["rng"])
            batch[Columns.ACTION_LOGP] = dist_class.logp_np(inputs, actions)
        else:
            dist_class = rl_module.get_inference_action_dist_cls()
            actions = dist_class.deterministic_np(inputs)
        batch[Columns.ACTIONS] = actions
        return batch


class NormalizeAndClipActions(ConnectorV2):
    """Brings a module's actions into the environment's action space.

    With `normalize_actions`, a module acts in [-1, 1] and its actions are stretched to
    the bounds of a Box and clipped to them; with `clip_actions` alone they are only
    clipped. Components without both bounds are left as they are, except for clipping
    at the one bound they have. Discrete and MultiDiscrete actions are shifted to the
    space's start. All of this happens to each leaf of nested actions.

    Reads:  ACTIONS.
    Writes: ACTIONS_FOR_ENV where the space has a Box, in its shape and dtype, or a part
    that does not start at 0; otherwise ACTIONS are what the environment gets.

    Args:
        normalize_actions: Whether to stretch [-1, 1] to the bounds.
        clip_actions: Whether to clip to the bounds.
    """

    def __init__(
        self,
        input_observation_space=None,
        input_action_space: gym.Space | None = None,
        *,
        normalize_actions: bool = True,
        clip_actions: bool = False,
    ):
        super().__init__(input_observation_space, input_action_space)
        self.normalize_actions = normalize_actions
        self.clip_actions = clip_actions
        # The rule for an action, or for each leaf of one; `None` changes nothing.
        self.rule: Any = None
        if input_action_space is not None:
            rule = tree.map_structure(self._rule_of, leaf_spaces(input_action_space))
            if any(leaf is not None for leaf in tree.flatten(rule)):
                self.rule = rule

    def _rule_of(self, space: gym.Space) -> "ToBox | ToStart | None":
        if isinstance(space, gym.spaces.Box):
            return ToBox(space, self.normalize_actions, self.clip_actions)
        if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
            return ToStart(space.start) if np.any(space.start != 0) else None
        return None

    def __call__(self, *, batch, **kwargs):
        if self.rule is not None:
            batch[Columns.ACTIONS_FOR_ENV] = _for_each_leaf(
                self.rule, batch[Columns.ACTIONS], lambda rule, own: rule(own)
            )
        return batch


def _for_each_leaf(rules: Any, actions: Any, function: Callable) -> Any:
    """Applies a function to the actions of each leaf that has a rule."""
    if not isinstance(rules, dict | tuple):  # Spares the 10 us of walking through it.
        return function(rules, actions)
    return tree.map_structure(
        lambda rule, own: own if rule is None else function(rule, own), rules, actions
    )


class ToBox:
    """Converts actions to the bounds, the shape and the dtype of a Box."""

    def __init__(self, space: gym.spaces.Box, normalize: bool, clip: bool):
        self.shape, self.dtype = space.shape, space.dtype
        self.is_clipped = normalize or clip
        self.is_whole = space.dtype.kind in "iub"
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        # Bounds alone do not show it: those of an unbounded int32 are finite.
        is_stretched = space.bounded_below & space.bounded_above & normalize
        half = np.where(is_stretched, (high - low) / 2.0, 1.0)
        self.scale = half.astype(np.float32)
        self.shift = np.where(is_stretched, low + half, 0.0).astype(np.float32)
        self.low, self.high = -_float32_below(-low), _float32_below(high)

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        actions = np.reshape(actions, (len(actions), *self.shape))
        actions = actions * self.scale + self.shift
        if self.is_clipped:
            actions = np.clip(actions, self.low, self.high)
        if self.is_whole:
            actions = np.rint(actions)
        return actions.astype(self.dtype)


class ToStart:
    """Shifts actions counted from 0 to the start of their space."""

    def __init__(self, start: Any):
        self.start = np.asarray(start)

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        return actions + self.start.astype(actions.dtype)


def _float32_below(bounds: np.ndarray) -> np.ndarray:
    """Returns the largest float32 not above each bound; float32(0.1) is above 0.1."""
    rounded = bounds.astype(np.float32)
    next_below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > bounds, next_below, rounded)
