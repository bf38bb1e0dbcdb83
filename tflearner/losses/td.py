"""Temporal differences: bootstrapped targets and loss functions of the errors.

Pure functions of tensors. Shapes: `B` is the number of steps in a minibatch; [B, T]
works as well. `float` is float32.
"""

from collections.abc import Callable
from typing import Literal

import tensorflow as tf

from tflearner.losses import checks
from tflearner.types import Tensor


def td_targets(
    rewards: Tensor,
    next_values: Tensor,
    terminateds: Tensor,
    n_step: Tensor,
    gamma: float,
) -> Tensor:
    """Returns n-step targets, bootstrapped with the value of the state n steps on.

        target = r + gamma^n (1 - terminated) V(s_{t+n})

    Sutton and Barto, "Reinforcement Learning" (2018),
    http://incompleteideas.net/book/the-book-2nd.html, equation (7.1). Every row has its
    own n, since the last rows of an episode have fewer steps ahead. Truncation does not
    stop the bootstrap.

    Args:
        rewards: Discounted sum of the n rewards from the step on. float [B].
        next_values: V(s_{t+n}); anything where the episode terminated, NaN included.
            float [B].
        terminateds: True where the episode ended for good within n steps. bool [B].
        n_step: Number n of rewards in `rewards`. float [B].
        gamma: Discount per step.

    Returns:
        Targets without a gradient. float [B].

    Raises:
        ValueError: If shapes differ.
    """
    checks.same_shape(
        rewards=rewards, next_values=next_values, terminateds=terminateds, n_step=n_step
    )
    # A factor of 0 would keep NaN, which critics may return for missing states.
    bootstrap = tf.where(terminateds, tf.zeros_like(next_values), next_values)
    return tf.stop_gradient(rewards + tf.pow(gamma, n_step) * bootstrap)


def huber(errors: Tensor) -> Tensor:
    """Returns the Huber loss: a square near 0, linear beyond, with gradients up to 1.

        0.5 d^2   if |d| <= 1        |d| - 0.5   otherwise

    Huber, "Robust Estimation of a Location Parameter" (1964),
    https://doi.org/10.1214/aoms/1177703732.

    Args:
        errors: Differences d from the targets. float [...].

    Returns:
        float [...].
    """
    # One expression for both branches: a branch not taken may overflow, and 0 * inf
    # would make its gradient NaN.
    size = tf.abs(errors)
    bounded = tf.minimum(size, 1.0)
    return bounded * (size - 0.5 * bounded)


LossName = Literal["huber", "mse"]
# By name in configs; "mse" is d^2 without a factor of 0.5.
LOSS_FUNCTIONS: dict[LossName, Callable[[Tensor], Tensor]] = {
    "huber": huber,
    "mse": tf.square,
}
