"""The scale of losses whose gradients are computed in float16."""

import math
from collections.abc import Iterable

import tensorflow as tf

from tflearner.engine import optimizers
from tflearner.engine.gradients import multiplied
from tflearner.engine.optimizers import OptimizerRecord
from tflearner.types import ModuleID, ParamDict, Tensor


class LossScale:
    """The factor of all losses of one gradient step.

    It is the smallest factor that any optimizer of the step asks for, and at least 1.
    One factor serves all losses, because a variable may appear in several. It is at
    least 1, because a module that keeps overflowing must not cost others precision.

    Args:
        records: The optimizers of the step. If none of them asks for a factor, losses
            and gradients stay as they are.
    """

    def __init__(self, records: Iterable[OptimizerRecord]):
        scales = [optimizers.loss_scale(record.optimizer) for record in records]
        wanted = [tf.convert_to_tensor(scale) for scale in scales if scale is not None]
        self._scale = tf.maximum(tf.reduce_min(wanted), 1.0) if wanted else None

    def scaled(self, losses: dict[ModuleID, Tensor]) -> dict[ModuleID, Tensor]:
        """Returns the losses times the factor."""
        scale = self._scale
        if scale is None:
            return losses
        return {mid: loss * tf.cast(scale, loss.dtype) for mid, loss in losses.items()}

    def unscaled(self, gradients: ParamDict) -> ParamDict:
        """Returns gradients of scaled losses divided by the factor.

        An overflow becomes NaN. Clipping by value would make a number of an infinite
        gradient and so hide it from the optimizer, which would not lower the factor.
        """
        if self._scale is None:
            return gradients
        return {
            ref: None if g is None else tf.where(tf.math.is_finite(g), g, math.nan)
            for ref, g in multiplied(gradients, 1.0 / self._scale).items()
        }
