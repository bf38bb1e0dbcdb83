"""Means and extremes over unmasked steps."""

import tensorflow as tf

from tflearner.types import Tensor


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the mean of `values` over the steps where `mask` is True.

    Args:
        values: float [...].
        mask: bool, of the same shape; `None` counts every step.

    Returns:
        float scalar; 0 where no step counts, so that an empty minibatch is harmless.
    """
    if mask is None:
        weights = tf.ones_like(values)
    else:
        weights = tf.cast(mask, values.dtype)
        values = zero_masked(values, mask)
    count = tf.maximum(tf.reduce_sum(weights), 1.0)
    # A dot product is one kernel under XLA on CPU; a mean is three.
    flat = tf.reshape(values, [-1]), tf.reshape(weights / count, [-1])
    return tf.tensordot(*flat, 1)


def masked_max(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the largest of `values` over the steps where `mask` is True.

    Args:
        values: float [...].
        mask: bool, of the same shape; `None` counts every step.

    Returns:
        float scalar; 0 where no step counts.
    """
    if mask is None:
        return tf.reduce_max(values)
    mask = tf.cast(mask, tf.bool)
    largest = tf.reduce_max(tf.where(mask, values, values.dtype.min))
    return tf.where(tf.reduce_any(mask), largest, tf.zeros_like(largest))


def masked_min(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the smallest of `values` over the steps where `mask` is True.

    Args:
        values: float [...].
        mask: bool, of the same shape; `None` counts every step.

    Returns:
        float scalar; 0 where no step counts.
    """
    return -masked_max(-values, mask)


def zero_masked(values: Tensor, mask: Tensor) -> Tensor:
    """Returns `values` with 0 where `mask` is False, even in place of NaN.

    A masked step may hold anything, NaN included, and 0 * NaN is NaN.

    Args:
        values: Of any dtype. [...].
        mask: bool, of the same shape or one that broadcasts to it.
    """
    return tf.where(tf.cast(mask, tf.bool), values, tf.zeros_like(values))


def explained_variance(targets: Tensor, predictions: Tensor, mask=None) -> Tensor:
    """Returns the share of the targets' variance that the predictions explain.

        max(-1, 1 - Var[targets - predictions] / Var[targets])

    Args:
        targets: float [B].
        predictions: float [B].
        mask: bool [B]; `None` counts every step.

    Returns:
        float scalar between -1 and 1; 1 is a perfect prediction up to a constant, 0 no
        better than the mean. Where the targets do not vary it is 1 if the predictions
        do not either, otherwise -1.
    """

    def variance(x):
        return masked_mean(tf.square(x - masked_mean(x, mask)), mask)

    total = variance(targets)
    return tf.maximum(-1.0, 1.0 - variance(targets - predictions) / (total + 1e-9))
