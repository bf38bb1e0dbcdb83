"""Tests for `tflearner.data.arrays`."""

import numpy as np
import pytest

from tflearner.data import arrays

SHAPES = [(0,), (1,), (3, 2), (5, 0), (1000, 7, 3)]


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float32, np.int64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_new_arrays_are_aligned(shape, dtype):
    array = arrays.empty(shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert not array.size or array.ctypes.data % 64 == 0
    assert array.flags.c_contiguous and array.flags.writeable


def test_alignment_is_seen():
    array = arrays.empty((100,), np.uint8)
    assert arrays.is_aligned(array) and arrays.is_aligned(array[64:])
    assert not arrays.is_aligned(array[1:])


@pytest.mark.parametrize("shape", [(), (2, 3)])
@pytest.mark.parametrize("dtypes", [("f4", "f4"), ("f4", "f8"), ("u1", "i4"), "??"])
def test_joined_arrays_are_as_numpy_joins_them(shape, dtypes):
    rng = np.random.default_rng(0)
    parts = [
        rng.integers(2, size=(rows, *shape)).astype(dtype)
        for rows, dtype in zip((3, 0, 1, 7), 2 * list(dtypes))
    ]
    got, want = arrays.joined(parts), np.concatenate(parts)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype and arrays.is_aligned(got)


def test_a_single_array_is_copied():
    (part,) = parts = [np.arange(3)]
    arrays.joined(parts)[0] = 7
    assert part[0] == 0


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 4)], [(2, 3), (2,)]])
def test_unlike_arrays_are_not_joined(shapes):
    with pytest.raises(ValueError, match=r"dimension"):
        arrays.joined([np.zeros(shape) for shape in shapes])


@pytest.mark.parametrize("shape", [(), (2, 3), (0,)])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 1.0])
def test_rows_that_are_kept_move_to_the_front(shape, share):
    rng = np.random.default_rng(0)
    array = rng.random((50, *shape))
    kept = np.flatnonzero(rng.random(50) < share)
    want = array[kept]
    got = arrays.pack(array, kept)
    np.testing.assert_array_equal(got, want)
    assert np.shares_memory(got, array) or not got.size
