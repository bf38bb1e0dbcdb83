"""Masks of a module's outputs, for actions that an observation forbids.

A mask is part of the observation, as in PettingZoo and RLlib: the space is a Dict with
the key "action_mask", 1 for an action that may be taken and 0 for one that must not.
Whatever reads that observation, in acting, in training and in an export, is masked by
it, and networks read the other entries.

Shapes: `B` is any number of leading dimensions, `n` the number of actions or, of a
MultiDiscrete, the sum of its components' numbers.
"""

from typing import Any

from keras import ops

from tflearner.spaces.mask_spaces import ACTION_MASK, FORBIDDEN
from tflearner.types import Tensor


def masked(outputs: Tensor, observations: dict[str, Any]) -> Tensor:
    """Returns outputs with `FORBIDDEN` for the actions that must not be taken.

    Where a mask forbids everything the outputs stay as they are: such rows are padding,
    or belong to states in which nothing is done any more. Nothing is ever NaN.

    Args:
        outputs: Logits or values of the actions. float [B, n].
        observations: With masks [B, n] under "action_mask".

    Returns:
        float32 [B, n].
    """
    # In operations of Keras, for an export as Keras file.
    allowed = ops.cast(observations[ACTION_MASK], "bool")
    has_none = ops.logical_not(ops.any(allowed, axis=-1, keepdims=True))
    allowed = ops.logical_or(allowed, has_none)
    return ops.where(allowed, ops.cast(outputs, "float32"), FORBIDDEN)
