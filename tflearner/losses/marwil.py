"""The MARWIL objective: cloning weighted by advantages, and value regression.

Wang et al., "Exponentially Weighted Imitation Learning for Batched Historical Data"
(2018), https://nips.cc/virtual/2018/poster/11609, algorithm 1.

Pure functions of tensors: no config, no metrics, no variables. Shapes: `B` is the
number of steps in a minibatch; [B, T] works as well. `float` is float32.
"""

from typing import NamedTuple

import tensorflow as tf

from tflearner.losses import checks, reductions
from tflearner.losses.bc import bc_loss
from tflearner.types import Tensor


class MARWILLoss(NamedTuple):
    """The MARWIL loss and its terms: scalars averaged over the unmasked steps."""

    total: Tensor
    policy: Tensor
    value: Tensor


def marwil_loss(
    *,
    logp: Tensor,
    values: Tensor,
    value_targets: Tensor,
    mask: Tensor | None = None,
    moving_average: Tensor | float,
    beta: float,
    vf_coeff: float,
) -> MARWILLoss:
    """Returns the MARWIL loss: weighted cloning and value regression.

        A      = V_target - V
        policy = -mean(exp(beta A / c) logp)
        value  =  0.5 mean(A^2)
        total  =  policy + c_v value

    No gradient flows into the exponential, which is unbounded.

    Args:
        logp: Log-probability of the taken action, current policy. float [B].
        values: V, current network. float [B].
        value_targets: The discounted return from each step on. float [B].
        mask: True where a step counts; `None` counts every step. bool [B].
        moving_average: c^2, this minibatch included, from `moved_average`. Scalar.
        beta: The preference for better actions; 0 prefers none.
        vf_coeff: Weight c_v of the value term.

    Returns:
        A `MARWILLoss`.

    Raises:
        ValueError: If the per-step tensors do not all have the same shape.
    """
    advantages = _advantages(values, value_targets, mask)
    scale = 1e-8 + tf.cast(tf.sqrt(moving_average), values.dtype)
    weights = tf.stop_gradient(tf.exp(beta * advantages / scale))
    policy = bc_loss(logp=logp, weights=weights, mask=mask)
    value = 0.5 * reductions.masked_mean(tf.square(advantages), mask)
    return MARWILLoss(total=policy + vf_coeff * value, policy=policy, value=value)


def mean_squared_advantage(
    *, values: Tensor, value_targets: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Returns mean(A^2) of a minibatch, for `moved_average`. float scalar.

    Args:
        values: V, current network. float [B].
        value_targets: The discounted return from each step on. float [B].
        mask: True where a step counts; `None` counts every step. bool [B].
    """
    squares = tf.square(_advantages(values, value_targets, mask))
    return tf.stop_gradient(reductions.masked_mean(squares, mask))


def moved_average(average: Tensor, mean_square: Tensor, rate: float) -> Tensor:
    """Returns c^2 + rate (mean(A^2) - c^2), in the dtype of the average.

    In float64 an average of 100 still moves at a rate of 1e-8; in float32 it does not.

    Args:
        average: c^2 before a minibatch. Scalar.
        mean_square: mean(A^2) of the minibatch. Scalar.
        rate: The rate of the moving average, from 0 to 1.
    """
    average = tf.convert_to_tensor(average)
    return average + rate * (tf.cast(mean_square, average.dtype) - average)


def _advantages(values: Tensor, value_targets: Tensor, mask: Tensor | None) -> Tensor:
    given = {"values": values, "value_targets": value_targets, "mask": mask}
    checks.same_shape(**{name: x for name, x in given.items() if x is not None})
    advantages = value_targets - values
    return advantages if mask is None else reductions.zero_masked(advantages, mask)
