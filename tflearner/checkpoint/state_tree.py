"""Converts nested Python values to JSON and back, exact in type and bits.

Values that JSON has are written as they are. Any other value is an object with one key
that begins with `$`:

    {"$tuple": [1, 2]}    {"$set": [..]}    {"$frozenset": [..]}
    {"$dict": [[key, value], ..]}    keys that are no strings, or begin with "$"
    {"$float": "7ff8000000000000"}    not finite: IEEE 754 bits, big-endian
    {"$int": "0x.."}    hundreds of digits
    {"$str": "eda080"}    with lone surrogates: UTF-8 bytes
    {"$numpy": ["float32", "0000c03f"]}    a NumPy scalar's dtype and bytes
    {"$array": [..]}    where an array is to be found
"""

import functools
import math
import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tflearner.checkpoint import strict_json, tensor_files
from tflearner.errors import CheckpointError

Path = tuple[str, ...]

_WANT = (
    "arrays and scalars of NumPy, int, float, str, bool, None, list, tuple, set, dict"
)
_KEYS = "a str, an int, or a tuple of such"
_LONG_INT = 2**2000  # Python reads no more than 640 decimal digits for certain.
_MAX_LEVEL = strict_json.MAX_DEPTH - 2  # Leaves room for a tag and its list.
_MAX_EQUAL_HASHES = 64  # -1 and -2 have one hash, so tuples of n of them have 2^n.


def to_json(value: Any, path: Path, put: Callable[[Path, np.ndarray], Any]) -> Any:
    """Converts nested values to JSON, for `from_json`.

    Args:
        value: The nested values, which will stand one level deep in a file.
        path: Their path, for error messages.
        put: Takes an array and returns JSON that says where it went.

    Raises:
        CheckpointError: If a value cannot be stored; names its path.
    """
    return _Writer(put).write(value, path, depth=2)


def from_json(node: Any, take: Callable[[Any], np.ndarray]) -> Any:
    """Converts JSON back to nested values.

    Args:
        node: The result of `to_json`.
        take: Takes a result of `put` and returns the array.

    Raises:
        ValueError, TypeError, KeyError: If `to_json` never made `node`.
    """
    if isinstance(node, list):
        return [from_json(item, take) for item in node]
    if not isinstance(node, dict):
        return node
    tag = next((key for key in node if key.startswith("$")), None)
    if tag is None:
        return {key: from_json(item, take) for key, item in node.items()}
    if len(node) > 1:
        raise ValueError(f"tag {tag[:80]!r} is not alone")
    content = node[tag]
    if tag == "$array":
        return take(content)
    if tag in _COLLECTIONS:
        if not isinstance(content, list):
            raise ValueError(f"{tag} without a list")
        return _COLLECTIONS[tag]([from_json(item, take) for item in content])
    if tag not in _SCALARS:
        raise ValueError(f"unknown tag {tag[:80]!r}")
    return _SCALARS[tag](content)


class _Writer:
    """Walks through nested values; the walk's path is what errors name."""

    def __init__(self, put: Callable[[Path, np.ndarray], Any]):
        self._put = put

    def write(self, value: Any, path: Path, depth: int) -> Any:
        if depth > _MAX_LEVEL:
            deep = f"more than {_MAX_LEVEL} levels of nesting"
            raise CheckpointError(_where(path[:8]), deep, hint="does it hold itself?")
        if value is None or type(value) is bool:
            return value
        if type(value) is int:
            return value if abs(value) < _LONG_INT else {"$int": hex(value)}
        if type(value) is float:
            finite = math.isfinite(value)
            return value if finite else {"$float": struct.pack(">d", value).hex()}
        if type(value) is str:
            return value if _is_unicode(value) else {"$str": _utf8(value).hex()}
        if type(value) is dict:
            return self._write_dict(value, path, depth)
        if type(value) is list:
            return self._write_items(value, path, depth)
        if type(value) is tuple:
            return {"$tuple": self._write_items(value, path, depth + 1)}
        if type(value) in (set, frozenset):
            items = self._write_items(value, path, depth + 1)
            return {f"${type(value).__name__}": sorted(items, key=repr)}
        return self._write_numpy(value, path)

    def _write_items(self, items: Iterable, path: Path, depth: int) -> list:
        return [
            self.write(item, (*path, str(index)), depth + 1)
            for index, item in enumerate(items)
        ]

    def _write_dict(self, value: dict, path: Path, depth: int) -> dict:
        plain = all(
            type(key) is str and not key.startswith("$") and _is_unicode(key)
            for key in value
        )
        if plain:
            return {k: self.write(v, (*path, k), depth + 1) for k, v in value.items()}
        pairs = []
        for key, item in value.items():
            below = (*path, str(key))
            if not _is_key(key):
                raise CheckpointError(
                    _where(below), f"a key that is a {type(key).__name__}", _KEYS
                )
            written = self.write(key, below, depth + 3)
            pairs.append([written, self.write(item, below, depth + 3)])
        return {"$dict": pairs}

    def _write_numpy(self, value: Any, path: Path) -> Any:
        if type(value) is np.ndarray or isinstance(value, np.generic):
            name = tensor_files.DTYPE_NAMES.get(value.dtype)
            if name is None or value.ndim > tensor_files.MAX_AXES:
                got = f"an array of dtype {value.dtype} and {value.ndim} axes"
                want = f"numbers or bools, at most {tensor_files.MAX_AXES} axes"
                raise CheckpointError(_where(path), got, want)
            if isinstance(value, np.ndarray):
                return {"$array": self._put(path, value)}
            return {"$numpy": [name, value.tobytes().hex()]}
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise CheckpointError(_where(path), f"a {kind}", _WANT)


def _where(path: Path) -> str:
    return f"state {'/'.join(path)!r}"


def _is_key(key: Any) -> bool:
    return type(key) in (str, int) or (type(key) is tuple and all(map(_is_key, key)))


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _read_numpy(content: list[str]) -> np.generic:
    name, digits = content
    array = np.frombuffer(bytes.fromhex(digits), tensor_files.DTYPES[name])
    if array.size != 1 or (array.dtype == bool and array.view(np.uint8)[0] > 1):
        raise ValueError(f"{digits[:80]!r} is no {name}")
    return array[0]


def _read_set(kind: Callable, items: list) -> Any:
    _check_hashes(items)
    made = kind(items)
    if len(made) < len(items):
        raise ValueError("equal items in a set")
    return made


def _read_dict(pairs: list) -> dict:
    keys = [key for key, _ in pairs]
    if not all(map(_is_key, keys)):
        raise ValueError(f"a dict with keys other than {_KEYS}")
    _check_hashes(keys)
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("equal keys in a dict")
    return made


def _check_hashes(items: list) -> None:
    """Refuses ints with equal hashes, of which a dict or set would take hours."""
    hashes = np.fromiter(map(hash, items), np.int64, len(items))
    _, counts = np.unique(hashes, return_counts=True)
    if counts.max(initial=0) > _MAX_EQUAL_HASHES:
        raise ValueError("too many items with one hash in a dict or set")


_COLLECTIONS: dict[str, Callable[[list], Any]] = {
    "$tuple": tuple,
    "$set": functools.partial(_read_set, set),
    "$frozenset": functools.partial(_read_set, frozenset),
    "$dict": _read_dict,
}
_SCALARS: dict[str, Callable[[Any], Any]] = {
    "$float": lambda digits: struct.unpack(">d", int(digits, 16).to_bytes(8))[0],
    "$int": lambda digits: int(digits, 16),
    "$str": lambda digits: bytes.fromhex(digits).decode("utf-8", "surrogatepass"),
    "$numpy": _read_numpy,
}
