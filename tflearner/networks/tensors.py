"""From NumPy arrays to tensors and back, without needless copies."""

from typing import Any

import numpy as np
import tensorflow as tf

from tflearner.data import arrays
from tflearner.networks import tensorflow_settings

# What is smaller is not worth a look at its memory.
LARGE = 2**16


def from_numpy(array: np.ndarray) -> tf.Tensor:
    """Returns a tensor of the array's numbers, for the length of one call.

    Large arrays that are aligned (`arrays.empty`) share their memory with the tensor;
    it must not outlive a change of the array. Others are copied once, where
    `tf.constant` makes two copies and keeps both.

    Args:
        array: Numbers or flags.
    """
    can_share = array.dtype.kind in "biufc" and array.dtype.isnative  # Not bfloat16.
    if array.nbytes < LARGE or not can_share:
        return tf.constant(array)
    flags = array.flags
    if not (flags.c_contiguous and flags.writeable and arrays.is_aligned(array)):
        copy = arrays.empty(array.shape, array.dtype)
        copy[...] = array
        array = copy
    # Flat in between, for strides of axes of length 1 may be anything.
    flat = array.reshape(-1).reshape(array.shape)
    return tf.experimental.dlpack.from_dlpack(flat.__dlpack__())


def to_numpy(variable: Any) -> np.ndarray:
    """Returns the value of a variable; an array is returned as it is."""
    tensorflow_settings.check()
    return variable if isinstance(variable, np.ndarray) else variable.numpy()
