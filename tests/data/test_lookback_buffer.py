"""Tests for `tflearner.data.lookback_buffer`: indices, lookback and filling."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tflearner.data.lookback_buffer import LookbackBuffer
from tflearner.errors import BatchError

LOOKBACK, NUM = 3, 5
ITEMS = list(range(-LOOKBACK, NUM))  # The item with index i is i; history is below 0.


def buffers():
    return [LookbackBuffer(list(ITEMS), LOOKBACK), LookbackBuffer(np.array(ITEMS), 3)]


def oracle(index, neg_index_as_lookback):
    """The item at an index, by counting; `None` if there is none."""
    if index < 0 and not neg_index_as_lookback:
        index = NUM + index
    return index if index in ITEMS else None


@pytest.mark.parametrize("buffer", buffers(), ids=["list", "array"])
def test_length_and_default_leave_out_the_lookback(buffer):
    assert len(buffer) == NUM
    assert list(buffer) == list(buffer.get()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("buffer", buffers(), ids=["list", "array"])
@pytest.mark.parametrize("neg", [False, True])
def test_every_int_matches_the_oracle(buffer, neg):
    for index in range(-12, 12):
        want = oracle(index, neg)
        assert buffer.get(index, neg, fill=99) == (99 if want is None else want)
        if want is None:
            with pytest.raises(
                IndexError, match=f"index {index} is outside of 5 items"
            ):
                buffer.get(index, neg)
        else:
            assert buffer.get(index, neg) == want


@settings(deadline=None, max_examples=150)
@given(
    start=st.integers(-12, 12),
    length=st.integers(0, 12),
    step=st.integers(1, 3),
    is_list=st.booleans(),
)
def test_slices_with_lookback_match_the_oracle(start, length, step, is_list):
    buffer = buffers()[0 if is_list else 1]
    where = range(start, start + length, step)
    index = slice(where.start, where.stop, step)
    want = [oracle(i, True) for i in where]
    got = buffer.get(index, neg_index_as_lookback=True, fill=99)
    assert list(got) == [99 if item is None else item for item in want]
    cut = buffer.get(index, neg_index_as_lookback=True)
    assert list(cut) == [item for item in want if item is not None]


@pytest.mark.parametrize("buffer", buffers(), ids=["list", "array"])
@pytest.mark.parametrize(
    ("index", "want"),
    [
        (slice(-2, None), [3, 4]),
        (slice(-7, None), [-2, -1, 0, 1, 2, 3, 4]),  # Reaches into the lookback.
        (slice(None, 2), [0, 1]),
        (slice(None, None, -1), [4, 3, 2, 1, 0]),
        (slice(1, -1), [1, 2, 3]),
        ([0, -1, 2], [0, 4, 2]),
        ([], []),
    ],
)
def test_python_like_indices(buffer, index, want):
    assert list(buffer[index]) == want


def test_nested_arrays_are_read_and_filled_leaf_by_leaf():
    data = {"a": np.arange(4), "b": (np.ones((4, 2), np.float32),)}
    buffer = LookbackBuffer(data, lookback=1)
    assert len(buffer) == 3
    got = buffer.get([-2, 0], neg_index_as_lookback=True, fill=7)
    np.testing.assert_array_equal(got["a"], [7, 1])
    np.testing.assert_array_equal(got["b"][0], [[7, 7], [1, 1]])
    assert got["b"][0].dtype == np.float32
    assert [item["a"] for item in buffer] == [1, 2, 3]


def test_missing_items_of_an_empty_list_look_like_the_space():
    space = gym.spaces.Dict(
        a=gym.spaces.Discrete(3), b=gym.spaces.Tuple([gym.spaces.Box(0, 1, (2,))])
    )
    first, second = LookbackBuffer([], space=space).get(slice(-2, 0), True, fill=0.5)
    assert first["a"].dtype == np.int64
    np.testing.assert_array_equal(second["b"][0], np.float32([0.5, 0.5]))


def test_missing_items_without_a_space_look_like_the_others():
    got = LookbackBuffer([np.float32([1, 2])]).get(-1, True, fill=0)
    assert got.dtype == np.float32 and got.tolist() == [0, 0]


def test_empty_arrays_have_the_shape_of_the_space():
    space = gym.spaces.Box(0, 1, (2, 3))
    arrays = LookbackBuffer([], space=space).as_arrays()
    assert arrays.shape == (0, 2, 3) and arrays.dtype == np.float32


@pytest.mark.parametrize("buffer", buffers(), ids=["list", "array"])
def test_set_replaces_what_get_reads(buffer):
    buffer.set([10, 11, 12, 13, 14])
    assert list(buffer.get()) == [10, 11, 12, 13, 14]
    buffer.set(20, -1)
    buffer.set([21, 22], slice(0, 2))
    buffer.set(np.array([23]), [-1], neg_index_as_lookback=True)
    assert list(buffer.data) == [-3, -2, 23, 21, 22, 12, 13, 20]


def test_set_never_writes_into_the_arrays_it_was_given():
    array = np.zeros(4, np.float32)
    array.flags.writeable = False
    buffer = LookbackBuffer(array)
    buffer.set(5, 0)
    assert array.tolist() == [0, 0, 0, 0] and buffer.data.tolist() == [5, 0, 0, 0]


@pytest.mark.parametrize(
    ("new_data", "at_indices"),
    [
        (0.5, 0),  # A fraction does not fit into ints.
        ([[1, 2], [3, 4]], [0, 1]),  # Two numbers do not fit into one.
        ([1, 2, 3], [0, 1]),
        ([1], None),
    ],
)
def test_set_refuses_what_does_not_fit(new_data, at_indices):
    buffer = LookbackBuffer(np.arange(3))
    with pytest.raises(BatchError, match="Nothing was changed"):
        buffer.set(new_data, at_indices)
    assert buffer.data.tolist() == [0, 1, 2]


def test_set_out_of_range_is_an_error():
    for buffer in buffers():
        with pytest.raises(IndexError):
            buffer.set(1, NUM)


def test_a_replaced_column_may_have_another_dtype_if_there_is_no_lookback():
    buffer = LookbackBuffer(np.uint8([0, 255]))
    buffer.set(np.float32([0, 1]))
    assert buffer.data.dtype == np.float32


def test_nested_arrays_of_unequal_lengths_are_an_error():
    with pytest.raises(BatchError, match="leading axes"):
        len(LookbackBuffer({"a": np.zeros(3), "b": np.zeros(4)}))
