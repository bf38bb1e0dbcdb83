"""How values of actions become a policy that explores."""

import numpy as np
import tensorflow as tf

from tflearner.modules.action_masks import FORBIDDEN
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


def epsilon_greedy_logits_np(q_values: np.ndarray, epsilon: float) -> np.ndarray:
    """Does what `epsilon_greedy_logits` does, in NumPy."""
    allowed = q_values > 0.5 * FORBIDDEN
    number = np.maximum(allowed.sum(-1, keepdims=True), 1)
    probs = (allowed * (epsilon / number)).astype(np.float32)
    best = q_values.argmax(-1)[..., None]
    greedy = np.take_along_axis(probs, best, -1) + np.float32(1.0 - epsilon)
    np.put_along_axis(probs, best, greedy, -1)
    possible = probs > 0.0
    logits = np.log(np.where(possible, probs, np.float32(1.0)))
    return np.where(possible, logits, np.float32(FORBIDDEN))
