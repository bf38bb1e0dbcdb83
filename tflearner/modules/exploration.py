"""Policies that explore, from values of actions."""

import tensorflow as tf

from tflearner.spaces.mask_spaces import FORBIDDEN
from tflearner.types import Tensor


def epsilon_greedy_logits(q_values: Tensor, epsilon: Tensor | float) -> Tensor:
    """Returns the epsilon-greedy policy as logits, so that it is drawn like any other.

        p(a) = (1 - epsilon) [a = argmax Q] + epsilon / number of allowed actions

    Args:
        q_values: Values of the actions; `FORBIDDEN` for those that must not be taken.
            float [B, n].
        epsilon: Probability of an action drawn at random.

    Returns:
        log p, and `FORBIDDEN` where p is 0. float32 [B, n].
    """
    allowed = tf.cast(q_values > 0.5 * FORBIDDEN, tf.float32)
    best = tf.one_hot(tf.argmax(q_values, -1), q_values.shape[-1])
    number = tf.reduce_sum(allowed, -1, keepdims=True)
    probs = (1.0 - epsilon) * best + epsilon * allowed / tf.maximum(number, 1.0)
    possible = probs > 0.0
    return tf.where(possible, tf.math.log(tf.where(possible, probs, 1.0)), FORBIDDEN)
