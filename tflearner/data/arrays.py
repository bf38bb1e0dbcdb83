"""Arrays aligned for TensorFlow, which uses them without a copy.

TensorFlow computes on memory that begins at a multiple of 64 bytes, and copies other
memory. NumPy's own large arrays begin 16 bytes after such an address.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

ALIGNMENT = 64


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Returns an aligned, uninitialised array [*shape]."""
    dtype = np.dtype(dtype)
    if dtype.hasobject:
        return np.empty(shape, dtype)
    num_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(num_bytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + num_bytes].view(dtype).reshape(shape)


def is_aligned(array: np.ndarray) -> bool:
    """Returns whether an array begins at a multiple of 64 bytes."""
    return array.ctypes.data % ALIGNMENT == 0


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenates arrays along the first axis into one aligned array.

    Raises:
        ValueError: If the arrays differ in shape or dtype.
    """
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    return np.concatenate(parts, out=empty(shape, np.result_type(*parts)))


def pack(array: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Moves rows to the front of an array, in place.

    >>> pack(np.arange(8), np.array([0, 1, 4, 5, 6]))
    array([0, 1, 4, 5, 6])

    Args:
        array: The array to change; contiguous.
        kept: Indices of the rows to keep. int [M], ascending.

    Returns:
        The rows kept: a view of the first M.
    """
    # NumPy moves overlapping runs of a flat array in place; other arrays it copies.
    flat, width = array.reshape(-1), math.prod(array.shape[1:])
    starts = np.flatnonzero(np.diff(kept, prepend=-2) != 1).tolist()
    for start, stop in zip(starts, [*starts[1:], len(kept)]):
        first, num = int(kept[start]), stop - start
        if first != start:
            flat[start * width : stop * width] = flat[
                first * width : (first + num) * width
            ]
    return array[: len(kept)]
