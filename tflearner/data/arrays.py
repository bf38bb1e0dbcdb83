"""Arrays that need not be copied again: aligned for TensorFlow, packed in place.

TensorFlow computes on memory that begins at a multiple of 64 bytes and copies what does
not; NumPy's own large arrays begin 16 bytes behind one.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

ALIGNMENT = 64


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Returns an aligned array [*shape] of numbers that mean nothing yet."""
    dtype = np.dtype(dtype)
    if dtype.hasobject:
        return np.empty(shape, dtype)
    num_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(num_bytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + num_bytes].view(dtype).reshape(shape)


def is_aligned(array: np.ndarray) -> bool:
    """Whether an array begins at a multiple of 64 bytes."""
    return array.ctypes.data % ALIGNMENT == 0


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the rows of all arrays one after the other, in one aligned array.

    Raises:
        ValueError: If the arrays are unlike.
    """
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    return np.concatenate(parts, out=empty(shape, np.result_type(*parts)))


def pack(array: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Moves rows to the front, in place and without a second array of that size.

    >>> pack(np.arange(8), np.array([0, 1, 4, 5, 6]))
    array([0, 1, 4, 5, 6])

    Args:
        array: What is changed; contiguous.
        kept: Which rows to keep. int [M], ascending.

    Returns:
        The rows that are kept: a view of the first M.
    """
    # NumPy moves overlapping runs of a flat array as they are; of others it makes a copy.
    flat, width = array.reshape(-1), math.prod(array.shape[1:])
    starts = np.flatnonzero(np.diff(kept, prepend=-2) != 1).tolist()
    for start, stop in zip(starts, [*starts[1:], len(kept)]):
        first, num = int(kept[start]), stop - start
        if first != start:
            flat[start * width : stop * width] = flat[
                first * width : (first + num) * width
            ]
    return array[: len(kept)]
