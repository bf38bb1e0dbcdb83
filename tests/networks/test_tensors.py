"""Tests for `tflearner.networks.tensors`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.data import arrays
from tflearner.networks.tensors import LARGE, from_numpy

DTYPES = [
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
]


def numbers(shape, dtype="float32", seed=0):
    made = arrays.empty(shape if isinstance(shape, tuple) else (shape,), dtype)
    made[...] = np.random.default_rng(seed).integers(2, size=shape)
    return made


def frozen(array):
    array.flags.writeable = False
    return array


def odd_arrays():
    """Large arrays that cannot be shared as they are."""
    base = numbers((LARGE, 6))
    return {
        "misaligned": numbers(LARGE + 1, "uint8")[1:],
        "read-only": frozen(numbers(LARGE)),
        "strided": base[::2],
        "columns": base[:, 1:4],
        "transposed": base.T,
        "backwards": base[::-1],
        "broadcast": np.broadcast_to(np.float32(3), (LARGE,)),
        "an axis of one row": numbers((2, LARGE))[::2],
        "an inner axis of one": numbers((LARGE, 1, 3))[:, ::2],
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (5,), (LARGE, 3)], ids=str)
def test_tensors_hold_the_numbers(shape, dtype):
    array = numbers(shape, dtype)
    tensor = from_numpy(array)
    assert tensor.dtype == dtype and tensor.device.endswith("CPU:0")
    np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("kind", odd_arrays())
def test_odd_arrays(kind):
    array = odd_arrays()[kind]
    np.testing.assert_array_equal(from_numpy(array).numpy(), array)
    # TensorFlow ends the process when it computes on memory that is not aligned.
    total = tf.reduce_sum(tf.cast(from_numpy(array), tf.float64)).numpy()
    assert total == array.sum(dtype=np.float64)


def test_large_aligned_arrays_are_shared():
    array = numbers((LARGE, 2))
    tensor = from_numpy(array)
    array[-1, -1] = 7.0
    assert tensor[-1, -1] == 7.0


def test_other_arrays_are_copied():
    for array in (numbers(3), numbers(LARGE + 1)[1:]):
        tensor = from_numpy(array)
        array[-1] = 7.0
        assert tensor[-1] != 7.0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_tensorflow_leaves_shared_memory_alone(jit_compile):
    array = numbers((LARGE, 2))
    before = array.copy()
    # What it owns it overwrites, where a result has the shape of an input.
    function = tf.function(lambda x: tf.exp(x + 1.0) * 2.0, jit_compile=jit_compile)
    function(from_numpy(array))
    tf.exp(from_numpy(array))
    np.testing.assert_array_equal(array, before)
