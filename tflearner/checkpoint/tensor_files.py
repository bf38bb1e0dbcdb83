"""Converts arrays to safetensors files and back.

A file is the length of its header (8 bytes, little-endian), the header in JSON,

    {"pi/kernel": {"dtype": "F32", "shape": [4, 64], "data_offsets": [0, 1024]}, ...}

padded with spaces to a multiple of 8, and the tensors one after the other. Nothing in it
can be executed, and every byte of it belongs to the header or to one tensor: `parse`
refuses all else before it makes an array.

An array whose dtype safetensors has no name for (`complex128`, big-endian numbers, most
8-bit floats) is stored as its bytes: dtype U8, with one axis more.
"""

import math
import operator
from typing import Any

import ml_dtypes
import numpy as np

from tflearner.checkpoint import strict_json

_SAFETENSORS = {
    "BOOL": np.dtype(bool),
    "I8": np.dtype("<i1"),
    "U8": np.dtype("<u1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}
_NAMES = {dtype: name for name, dtype in _SAFETENSORS.items()}
_SMALL = "float8_e3m4 float8_e4m3 float8_e4m3b11fnuz float8_e4m3fnuz float8_e5m2fnuz"
_SMALL += " float6_e2m3fn float6_e3m2fn float4_e2m1fn int1 uint1 int2 uint2 int4 uint4"
_WIDE = ("complex128", "float128", "complex256")  # The last two: where C has them.
_OTHER = [
    np.dtype(getattr(ml_dtypes, n)) for n in _SMALL.split() if n in dir(ml_dtypes)
]
_OTHER += [np.dtype(name) for name in _WIDE if hasattr(np, name)]
_SWAPPED = [d.newbyteorder() for d in (*_SAFETENSORS.values(), *_OTHER)]

# Every dtype a checkpoint can hold: {name: dtype}.
DTYPES = {dtype.name: dtype for dtype in (*_SAFETENSORS.values(), *_OTHER)}
DTYPES |= {dtype.str: dtype for dtype in _SWAPPED if dtype.str[0] == ">"}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

MAX_AXES = 63  # One less than NumPy has, as stored bytes take one more.
_FIELDS = {"dtype", "shape", "data_offsets"}
_LENGTH_BYTES = 8
_ALIGNMENT = 8


def name_of_unnamed(dtype: np.dtype) -> str | None:
    """Returns a dtype's name if safetensors has none for it, else `None`."""
    return None if dtype in _NAMES else DTYPE_NAMES[dtype]


def with_dtype(array: np.ndarray, name: str | None = None) -> np.ndarray:
    """Returns a stored array with its original dtype.

    Args:
        array: The array in the file.
        name: The result of `name_of_unnamed`.
    """
    if name is not None:
        dtype = DTYPES[name]
        if array.dtype != np.uint8 or array.shape[-1:] != (dtype.itemsize,):
            raise ValueError(f"{array.dtype} {array.shape} does not hold {name}")
        array = array.reshape(-1).view(dtype).reshape(array.shape[:-1])
    return array if array.flags.aligned else array.copy()


def pieces(arrays: dict[str, np.ndarray]) -> list[memoryview]:
    """Returns the contents of a file, piece by piece and mostly without a copy.

    Args:
        arrays: {key: array}, of dtypes in `DTYPES`.
    """
    header, data, end = {}, [], 0
    # Wide numbers first, so that each tensor starts at a multiple of its item size.
    for key, array in sorted(arrays.items(), key=lambda item: -_item_bytes(item[1])):
        shape = [*array.shape]
        if name_of_unnamed(array.dtype):
            shape.append(array.itemsize)
        header[key] = {
            "dtype": _NAMES.get(array.dtype, "U8"),
            "shape": shape,
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
        if array.nbytes:
            flat = np.ascontiguousarray(array).reshape(-1)
            data.append(flat.view(np.uint8).data)
    text = strict_json.dumps(header)
    text += b" " * (-len(text) % _ALIGNMENT)
    length = len(text).to_bytes(_LENGTH_BYTES, "little")
    return [memoryview(length + text), *data]


def parse(data: np.ndarray, max_tensors: int | None = None) -> dict[str, np.ndarray]:
    """Returns {key: array}; the arrays share the memory of `data`.

    Args:
        data: The contents of a file. uint8 [N].
        max_tensors: The largest number of tensors; `None` for no limit.

    Raises:
        ValueError: For anything but a safetensors file without overlaps and holes.
    """
    header, start = _header(data)
    if max_tensors is not None and len(header) > max_tensors:
        raise ValueError(f"{len(header)} tensors, {max_tensors} of them in use")
    entries = [(key, *_checked(key, entry)) for key, entry in header.items()]
    tensors, end = {}, 0
    for key, dtype, shape, offsets in sorted(entries, key=operator.itemgetter(3)):
        if offsets[0] != end:
            what = "overlaps another" if offsets[0] < end else "leaves a hole before it"
            raise ValueError(f"tensor {key[:80]!r} {what}")
        end = offsets[1]
        if end > data.size - start:
            raise ValueError(f"tensor {key[:80]!r} ends behind the end of the file")
        flat = data[start + offsets[0] : start + end]
        if dtype == bool and flat.max(initial=0) > 1:
            raise ValueError(f"tensor {key[:80]!r} has a bool that is neither 0 nor 1")
        tensors[key] = flat.view(dtype).reshape(shape)
    if start + end != data.size:
        raise ValueError(f"{data.size - start - end} bytes that belong to no tensor")
    return tensors


def _item_bytes(array: np.ndarray) -> int:
    return 1 if name_of_unnamed(array.dtype) else array.itemsize


def _header(data: np.ndarray) -> tuple[dict[str, Any], int]:
    """Returns the parsed header, and the offset of the first tensor."""
    length = int.from_bytes(data[:_LENGTH_BYTES].tobytes(), "little")
    start = _LENGTH_BYTES + length
    begin = data[_LENGTH_BYTES : _LENGTH_BYTES + 1].tobytes()
    if start > data.size or length > strict_json.MAX_BYTES or begin != b"{":
        raise ValueError("not a safetensors file; tflearner never unpickles")
    return strict_json.loads(data[_LENGTH_BYTES:start].tobytes()), start


def _checked(key: str, entry: Any) -> tuple[np.dtype, list[int], list[int]]:
    """Returns the checked dtype, shape and offsets of one tensor."""
    fault = _fault(entry)
    if fault:
        raise ValueError(f"tensor {key[:80]!r} has {fault}")
    return _SAFETENSORS[entry["dtype"]], entry["shape"], entry["data_offsets"]


def _fault(entry: Any) -> str | None:
    """Returns the fault in a tensor's header entry; `None` if it is valid."""
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        return "not exactly a dtype, a shape and data_offsets"
    name, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(name, str) or name not in _SAFETENSORS:
        return f"the unknown dtype {str(name)[:80]!r}"
    if not isinstance(shape, list) or not isinstance(offsets, list):
        return "a shape or offsets that are no list"
    if len(shape) > MAX_AXES + 1 or len(offsets) != 2:
        return "too many axes, or not two offsets"
    numbers = shape + offsets
    if set(map(type, numbers)) != {int}:
        return "a shape or offsets that are no integers"
    if min(numbers) < 0:
        return "a negative shape or offset"
    item_bytes = _SAFETENSORS[name].itemsize
    if math.prod(filter(None, shape)) * item_bytes >= 2**63:
        return "a shape whose product overflows"
    if math.prod(shape) * item_bytes != offsets[1] - offsets[0]:
        return f"the shape {shape} and not as many bytes"
    return None
