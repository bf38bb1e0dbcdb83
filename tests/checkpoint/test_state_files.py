"""Tests for `tflearner.checkpoint.state_files`."""

import ml_dtypes
import numpy as np
import pytest

from tflearner.checkpoint import state_files
from tflearner.errors import CheckpointError

ONE = np.ones(2, np.float32)


def saved(files) -> dict:
    """{file name: contents}. uint8 [N] each."""
    joined = {name: b"".join(own) for name, own in files.contents().items()}
    return {name: np.frombuffer(own, np.uint8) for name, own in joined.items()}


def round_trip(state, about=None):
    files = state_files.encode(state, about or {})
    return state_files.decode(saved(files), files.numbers)


def test_arrays_go_where_their_path_says():
    state = {
        "rl_module": {"p0": {"pi": {"kernel": ONE}}, "p1": {"bias": ONE}},
        "learner": {
            "optimizer": {"p1": {"opt": {"m": ONE}}, "new": {"opt": {"m": ONE}}},
            "rng": ONE,
        },
        "rl_module/p0": ONE,
    }
    files = state_files.encode(state, {})
    assert {name: [*own] for name, own in files.arrays.items()} == {
        "m0.weights.safetensors": ["pi/kernel"],
        "m1.weights.safetensors": ["bias"],
        "m1.slots.safetensors": ["opt/m"],
        "m2.slots.safetensors": ["opt/m"],
        "extra.safetensors": ["learner/rng", "rl_module/p0"],
    }
    assert files.numbers == {"p0": 0, "p1": 1, "new": 2}
    assert files.modules()["p0"]["tensors"] == 1
    assert files.modules()["new"]["tensors"] == 0


def test_without_arrays_there_is_one_file():
    assert [*saved(state_files.encode({"a": 1}, {}))] == ["state.json"]


@pytest.mark.parametrize(
    "module_id",
    ["", "..", "a/b", "a\0", "x" * 300, "optimizer", "é", "\udc80", "__metadata__"],
)
def test_ids_of_modules_stand_in_no_file_name(module_id):
    state = {
        "rl_module": {module_id: {"w": ONE}},
        "optimizer": {module_id: {"o": {"m": ONE}}},
    }
    files = state_files.encode(state, {})
    assert [*files.arrays] == ["m0.weights.safetensors", "m0.slots.safetensors"]
    again, _, _ = round_trip(state)
    np.testing.assert_array_equal(again["rl_module"][module_id]["w"], ONE, strict=True)


def test_keys_that_look_alike_stay_apart():
    state = {
        "a": {"b": np.int8(1) * ONE},
        "a/b": 2 * ONE,
        "a/b#2": 3 * ONE,
        5: 4 * ONE,
        "5": 5 * ONE,
        "__metadata__": 6 * ONE,
        "x\udc80": 7 * ONE,
        "x\\udc80": 8 * ONE,
    }
    again, _, _ = round_trip(state)
    values = [again["a"]["b"], *list(again.values())[1:]]
    assert [int(value[0]) for value in values] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [*again] == [*state]


def test_spec_is_of_keys_shapes_and_dtypes_in_any_order():
    def spec(weights):
        state = {"rl_module": {"p0": weights}}
        return state_files.encode(state, {}).modules()["p0"]["spec_sha256"]

    base = spec({"a": ONE, "b": np.zeros(3)})
    assert spec({"b": np.ones(3), "a": 5 * ONE}) == base
    assert spec({"a": ONE, "c": np.zeros(3)}) != base
    assert spec({"a": ONE, "b": np.zeros(4)}) != base
    assert spec({"a": ONE, "b": np.zeros(3, np.float32)}) != base


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.complex128, ml_dtypes.bfloat16, ">f8"]
)
def test_numbers_that_are_not_finite_are_found(bad, dtype):
    array = np.ones((2, 3), np.float32).astype(dtype)
    array[1, 1] = bad
    state = {
        "rl_module": {"p0": {"w": array}},
        "optimizer": {"p0": {"m": ONE, "v": array}},
        "x": array,
        "y": ONE,
    }
    assert [*state_files.encode(state, {}).non_finite()] == [
        "module 'p0', weights, tensor 'w': 1 of 6 numbers are NaN or infinite",
        "module 'p0', slots, tensor 'v': 1 of 6 numbers are NaN or infinite",
        "extra.safetensors, tensor 'x': 1 of 6 numbers are NaN or infinite",
    ]


def test_integers_and_plain_floats_are_no_matter_of_finiteness():
    arrays = [np.zeros(2, t) for t in (bool, np.int8, ml_dtypes.int4, ml_dtypes.uint2)]
    state = {"a": arrays, "b": float("nan"), "c": np.float32("inf")}
    assert not [*state_files.encode(state, {}).non_finite()]


@pytest.mark.parametrize(
    ("state", "about", "reason"),
    [
        ([], {}, "state: got a list, want a dict"),
        ({}, None, "about: got a NoneType, want a dict"),
        ({}, {"a": [ONE]}, "about/a/0: got an array"),
        ({}, {"a": object()}, "about/a"),
    ],
)
def test_what_is_no_state(state, about, reason):
    with pytest.raises(CheckpointError, match=reason):
        state_files.encode(state, about)


def test_too_many_plain_numbers_are_refused():
    files = state_files.encode({"a": [0] * 600_000}, {})
    with pytest.raises(CheckpointError, match="600.* commas.*put .* into arrays"):
        files.contents()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d, n: d.pop("extra.safetensors"), "no tensor 'x' left"),
        (
            lambda d, n: d.update({"m1.weights.safetensors": d["extra.safetensors"]}),
            "modul",
        ),
        (lambda d, n: n.clear(), "its modules are not those"),
        (
            lambda d, n: d.update({"m0.weights.safetensors": d["extra.safetensors"]}),
            "'w'",
        ),
    ],
)
def test_files_that_do_not_belong_together(change, reason):
    files = state_files.encode({"rl_module": {"p0": {"w": ONE}}, "x": ONE}, {})
    data, numbers = saved(files), dict(files.numbers)
    change(data, numbers)
    with pytest.raises(ValueError, match=reason):
        state_files.decode(data, numbers)


def test_tensors_are_used_once_and_all_of_them():
    files = state_files.encode({"x": ONE, "y": ONE}, {})
    data = saved(files)
    for old, new in ((b'"y"]', b'"x"]'), (b'["extra.safetensors","y"]', b'"n"')):
        text = data["state.json"].tobytes().replace(b'{"$array":%s}' % old, new)
        text = text.replace(old, new)
        bad = data | {"state.json": np.frombuffer(text, np.uint8)}
        with pytest.raises((ValueError, TypeError)):
            state_files.decode(bad, {})
