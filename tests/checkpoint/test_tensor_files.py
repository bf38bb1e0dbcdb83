"""Tests for `tflearner.checkpoint.tensor_files`."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tflearner.checkpoint import tensor_files


def contents(arrays) -> np.ndarray:
    """The bytes of a file. uint8 [N]."""
    return np.frombuffer(b"".join(tensor_files.pieces(arrays)), np.uint8).copy()


def file_with(header, data=b"", *, length=None) -> np.ndarray:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return np.frombuffer(length.to_bytes(8, "little") + text + data, np.uint8).copy()


def tensor(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": [*shape], "data_offsets": [*offsets], **more}


def random_array(dtype, shape):
    rng = np.random.default_rng(0)
    if dtype == bool:
        return rng.integers(0, 2, shape).astype(bool)
    raw = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return raw.reshape(-1).view(dtype).reshape(shape)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4), (1,) * 63])
@pytest.mark.parametrize("dtype", tensor_files.DTYPES.values(), ids=str)
def test_round_trip_of_every_dtype(dtype, shape):
    array = random_array(dtype, shape)
    stored = tensor_files.parse(contents({"a": array}))["a"]
    again = tensor_files.with_dtype(stored, tensor_files.name_of_unnamed(dtype))
    assert again.dtype == dtype and again.shape == shape
    assert again.tobytes() == array.tobytes()
    assert again.flags.writeable and again.flags.aligned


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[::-2, 1:],
        lambda a: a[0, ::-2],
        lambda a: a[0, ::2].astype(np.int8)[::2],
        lambda a: np.asfortranarray(a),
        lambda a: np.broadcast_to(a[0], (5, 6)),
    ],
)
def test_memory_layout_does_not_matter(view):
    array = view(np.arange(24.0).reshape(4, 6))
    np.testing.assert_array_equal(
        tensor_files.parse(contents({"a": array}))["a"], array
    )


def test_the_library_reads_our_files():
    arrays = {
        'é/"\\': np.float32([[1, 2, 3]]),
        "flag": np.bool_([True]),
        "none": np.zeros((0, 2), np.int64),
        "scalar": np.array(2.5),
    }
    data = contents(arrays)
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    assert start % 8 == 0
    read = safetensors.numpy.load(data.tobytes())
    assert read.keys() == arrays.keys()
    for key, array in arrays.items():
        assert read[key].dtype == array.dtype
        np.testing.assert_array_equal(read[key], array, strict=True)


def test_we_read_files_of_the_library():
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.uint8([7]),
        "c": np.array(True),
    }
    data = np.frombuffer(safetensors.numpy.save(arrays), np.uint8)
    for key, array in tensor_files.parse(data).items():
        np.testing.assert_array_equal(array, arrays[key], strict=True)


def test_tensors_are_written_without_a_copy():
    array = np.zeros(1000)
    _, piece = tensor_files.pieces({"a": array})
    assert np.shares_memory(np.asarray(piece), array)


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ({"a": tensor(offsets=(0, 8)), "b": tensor(offsets=(4, 12))}, 12, "overlaps"),
        ({"a": tensor(), "b": tensor()}, 8, "overlaps"),
        ({"a": tensor(), "b": tensor(offsets=(12, 20))}, 20, "hole"),
        ({"a": tensor(offsets=(4, 12))}, 12, "hole"),
        ({"a": tensor()}, 7, "behind the end"),
        ({"a": tensor()}, 9, "1 bytes that belong to no tensor"),
        ({}, 1, "belong to no tensor"),
        ({"a": tensor(shape=(-1, -2))}, 8, "negative"),
        ({"a": tensor(offsets=(-8, 0))}, 8, "negative"),
        ({"a": tensor(shape=(2**62, 2**62))}, 8, "overflows"),
        ({"a": tensor(shape=(0, 2**62), offsets=(0, 0))}, 0, "overflows"),
        ({"a": tensor(shape=(3,))}, 8, "not as many bytes"),
        ({"a": tensor(shape=(1,) * 65)}, 8, "too many axes"),
        ({"a": tensor(offsets=(0, 8, 8))}, 8, "not two offsets"),
        ({"a": tensor(shape=(True, 2))}, 8, "no integers"),
        ({"a": tensor(shape=(2.0,))}, 8, "no integers"),
        ({"a": tensor("object")}, 8, "unknown dtype 'object'"),
        ({"a": tensor("<f4")}, 8, "unknown dtype"),
        ({"a": tensor(["F32"])}, 8, "unknown dtype"),
        ({"a": tensor(more=1)}, 8, "not exactly"),
        ({"a": []}, 8, "not exactly"),
        ({"a": tensor() | {"shape": 2}}, 8, "no list"),
        ({"__metadata__": {"a": "b"}}, 0, "not exactly"),
        (b'{"a": 1, "a": 1}', 0, "duplicate key"),
        (b"[]", 0, "not a safetensors file"),
        (b"{" * 100, 0, "levels deep"),
    ],
)
def test_headers_that_are_refused(header, data, reason):
    with pytest.raises(ValueError, match=reason):
        tensor_files.parse(file_with(header, bytes(data)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\x80\x05K\x01.\x00\x00\x00\x00\x00",  # A pickle.
        b"\x93NUMPY\x01\x00v\x00{'descr'",
        b"\x89HDF\r\n\x1a\n\x00\x00\x00",
        b"PK\x03\x04\x14\x00\x00\x00\x00\x00",
        (2**63).to_bytes(8, "little") + b"{}",
        (3).to_bytes(8, "little") + b"{}",
    ],
)
def test_other_files_are_refused_by_name(data):
    with pytest.raises(ValueError, match="never unpickles"):
        tensor_files.parse(np.frombuffer(data, np.uint8))


def test_bools_are_0_or_1():
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        tensor_files.parse(file_with({"a": tensor("BOOL", (2,), (0, 2))}, b"\x01\x02"))


def test_unaligned_tensors_are_aligned_when_read():
    header = {"a": tensor("U8", (1,), (0, 1)), "b": tensor("F64", (1,), (1, 9))}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    array = tensor_files.parse(file_with(text, b"\x01" + np.float64(2.5).tobytes()))[
        "b"
    ]
    assert not array.flags.aligned
    again = tensor_files.with_dtype(array)
    assert again.flags.aligned and again[0] == 2.5


def test_our_files_are_aligned():
    arrays = {"a": np.ones(3, np.int8), "b": np.ones(3, np.int16), "c": np.ones(3)}
    parsed = tensor_files.parse(contents(arrays))
    assert all(array.flags.aligned for array in parsed.values())


def test_stored_bytes_have_to_fit_the_dtype():
    for stored in (np.zeros((2, 8), np.uint8), np.zeros((2, 16), np.int8), np.uint8(1)):
        with pytest.raises(ValueError, match="does not hold complex128"):
            tensor_files.with_dtype(np.asarray(stored), "complex128")


def test_bfloat16_has_a_name_of_its_own():
    data = contents({"a": np.ones(2, ml_dtypes.bfloat16)}).tobytes()
    assert b'"BF16"' in data
