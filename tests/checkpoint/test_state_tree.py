"""Tests for `tflearner.checkpoint.state_tree`."""

import collections
import enum
import gc
import math
import re
import struct
import time

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest

from tflearner.checkpoint import state_tree, strict_json
from tflearner.errors import CheckpointError


def round_trip(value):
    arrays = []

    def put(path, array):
        arrays.append(array)
        return len(arrays) - 1

    text = strict_json.dumps([state_tree.to_json(value, (), put)])
    (node,) = strict_json.loads(text)
    return state_tree.from_json(node, arrays.__getitem__)


def assert_same(one, other):
    """Equal in type, order and bits."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert len(one) == len(other)
        for a, b in zip(one.items(), other.items(), strict=True):
            assert_same(a, b)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, float) and not isinstance(one, np.generic):
        assert struct.pack("d", one) == struct.pack("d", other)
    elif isinstance(one, np.generic):
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes()
    elif isinstance(one, set | frozenset):
        assert one == other
        assert {type(item) for item in one} == {type(item) for item in other}
    else:
        assert one is other if isinstance(one, np.ndarray) else one == other


TEXTS = st.text(st.characters(codec=None, exclude_categories=()))
KEYS = st.recursive(TEXTS | st.integers(), lambda keys: st.tuples(keys, keys))
HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.tuples(inner) | st.tuples(inner, inner) | st.frozensets(inner),
    max_leaves=5,
)
VALUES = st.recursive(
    HASHABLE | st.floats() | st.integers(-(2**9000), 2**9000),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS | st.just("$array") | st.just("$"), inner)
        | st.sets(HASHABLE)
    ),
    max_leaves=20,
)


@hypothesis.given(VALUES)
@hypothesis.settings(max_examples=100, deadline=None)
def test_round_trip(value):
    assert_same(round_trip(value), value)


@pytest.mark.parametrize(
    "value",
    [
        *(np.float32(1.5), np.float64("nan"), np.bool_(True), np.int8(-1)),
        *(np.uint64(2**64 - 1), np.complex128(1 - 2j), ml_dtypes.bfloat16(0.1)),
        *({np.float32(2), (np.int64(3), 3.5)}, {"a": np.zeros(2)}, [np.array(1)]),
        struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf8\x7f")[
            0
        ],  # A NaN with payload.
        {"$": 1},
        {"$tuple": [1, 2]},
        {0: {"": {(1, ("a", -5)): {}}}},
        "\ud83d\ude00",  # Two lone surrogates that look like a pair.
        {"\ud83d\ude00": 1},
    ],
    ids=repr,
)
def test_rarer_values(value):
    assert_same(round_trip(value), value)


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "builtins.object"),
        (b"bytes", "builtins.bytes"),
        (1j, "builtins.complex"),
        (len, "builtin"),
        (Number.ONE, "Number"),
        (collections.OrderedDict(), "collections.OrderedDict"),
        (collections.namedtuple("Point", "x")(1), "Point"),
        (np.str_("a"), "<U1"),
        (np.datetime64(0, "s"), "datetime64"),
        (np.array([None]), "object"),
        (np.array(["a"]), "<U1"),
        (np.zeros(1, [("a", "f4")]), "dtype"),
        (np.ma.zeros(3), "numpy.ma"),
        (np.zeros((1,) * 64), "64 axes"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_what_cannot_be_stored_is_named_by_its_path(value, kind):
    state = {"learner": {"rl_module": {"p0": [0, {"x": value}]}}}
    where = r"state 'learner/rl_module/p0/1/x': got .*" + re.escape(kind)
    with pytest.raises(CheckpointError, match=where):
        round_trip(state)


@pytest.mark.parametrize("key", [1.5, None, True, np.int64(1), (1.5,), b"a"])
def test_other_keys_are_refused(key):
    with pytest.raises(CheckpointError, match="state .*a/.*: got a key that is a"):
        round_trip({"a": {key: 1}})


def test_what_holds_itself_is_refused():
    value: list = []
    value.append([value, value])
    with pytest.raises(CheckpointError, match="levels of nesting.*hold itself"):
        round_trip(value)


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {1: v}])
def test_all_depths_come_back_or_are_refused_with_their_path(wrap):
    value: object = math.inf
    for _ in range(70):
        value = wrap(value)
        try:
            assert_same(round_trip(value), value)
        except CheckpointError as error:
            assert "levels of nesting" in str(error)
            return
    pytest.fail("nothing was refused")


@pytest.mark.parametrize(
    "node",
    [
        {"$unknown": 1},
        {"$tuple": [1], "a": 2},
        {"$tuple": "abc"},
        {"$set": [1, 1]},
        {"$set": [[1]]},
        {"$set": [1, True]},
        {"$dict": [[1, 2], [1, 3]]},
        {"$dict": [[1, 2, 3]]},
        {"$dict": [[1.5, 2]]},
        {"$dict": [[{"$set": []}, 2]]},
        {"$float": "ff" * 9},
        {"$float": 1},
        {"$int": "x"},
        {"$str": "zz"},
        {"$numpy": ["float32", "00"]},
        {"$numpy": ["float32", "00" * 8]},
        {"$numpy": ["bool", "02"]},
        {"$numpy": ["object", "00" * 8]},
        {"$numpy": ["float32"]},
        {"$array": 99},
    ],
    ids=str,
)
def test_what_was_never_written_is_refused(node):
    with pytest.raises((ValueError, TypeError, KeyError, IndexError, OverflowError)):
        state_tree.from_json(node, [].__getitem__)


@pytest.fixture
def without_collector():
    """Leaves out the time that goes into other tests' objects: 0.2 s become 1 s."""
    gc.disable()
    yield
    gc.enable()


def test_keys_chosen_to_collide_are_refused_in_no_time(without_collector):
    modulus = 2**61 - 1  # All multiples of it have the hash 0.
    keys = [n * modulus for n in range(100_000)]
    start = time.process_time()
    for node in ({"$set": keys}, {"$dict": [[key, 0] for key in keys]}):
        with pytest.raises(ValueError, match="one hash"):
            state_tree.from_json(node, [].__getitem__)
    assert time.process_time() - start < 1


def test_grids_of_small_numbers_are_no_attack():
    grid = {(x, y, z): 0 for x in range(-9, 9) for y in range(-9, 9) for z in (-2, -1)}
    assert round_trip(grid) == grid
