"""From a module's outputs to the actions an environment gets."""

from typing import Any

import gymnasium as gym
import numpy as np
from keras import ops

from tflearner.columns import Columns
from tflearner.connectors.connector import ConnectorV2


class GetActions(ConnectorV2):
    """Draws actions from the module's action distribution, or takes the likeliest.

    Leaves a batch alone in which the module put out actions itself.

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
    at the one bound they have. Discrete actions are shifted to the space's start.

    Reads:  ACTIONS.
    Writes: ACTIONS_FOR_ENV for a Box, in its shape and dtype, and for a Discrete that
    does not start at 0; otherwise ACTIONS are what the environment gets.

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
        space = input_action_space
        if isinstance(space, gym.spaces.Box):
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            # The numbers alone do not tell: an unbounded int32 ends at 2,147,483,647.
            bounded = space.bounded_below & space.bounded_above
            stretched = bounded & normalize_actions
            half = np.where(stretched, (high - low) / 2.0, 1.0)
            self._scale = half.astype(np.float32)
            self._shift = np.where(stretched, low + half, 0.0).astype(np.float32)
            self._low, self._high = -_float32_below(-low), _float32_below(high)

    def __call__(self, *, batch, **kwargs):
        space, actions = self.input_action_space, batch[Columns.ACTIONS]
        if isinstance(space, gym.spaces.Discrete) and space.start != 0:
            batch[Columns.ACTIONS_FOR_ENV] = actions + int(space.start)
        elif isinstance(space, gym.spaces.Box):
            actions = np.reshape(actions, (len(actions), *space.shape))
            actions = actions * self._scale + self._shift
            if self.normalize_actions or self.clip_actions:
                actions = np.clip(actions, self._low, self._high)
            if np.issubdtype(space.dtype, np.integer):
                actions = np.rint(actions)
            batch[Columns.ACTIONS_FOR_ENV] = actions.astype(space.dtype)
        return batch

    def to_tensors(self, x: Any) -> Any:
        """Returns the environment's actions for a module's actions. [B, ...]."""
        space = self.input_action_space
        if isinstance(space, gym.spaces.Discrete) and space.start != 0:
            return x + int(space.start)
        if isinstance(space, gym.spaces.Box):
            x = ops.reshape(x, (-1, *space.shape)) * self._scale + self._shift
            if self.normalize_actions or self.clip_actions:
                x = ops.minimum(ops.maximum(x, self._low), self._high)
            if np.issubdtype(space.dtype, np.integer):
                x = ops.round(x)
            return ops.cast(x, space.dtype.name)
        return x


def _float32_below(bounds: np.ndarray) -> np.ndarray:
    """Returns the largest float32 not above each bound; float32(0.1) is above 0.1."""
    rounded = bounds.astype(np.float32)
    next_below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > bounds, next_below, rounded)
