"""JSON with limits: invalid or oversized text is refused at little cost."""

import collections
import json
import math
from typing import Any

import numpy as np

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 64
MAX_MARKS = 500_000  # Brackets and commas; about half a second.
MAX_NAMES = 200_000  # Names in objects; each takes about 200 bytes of memory.

_OPENING, _CLOSING, _QUOTE, _COLON = b"[{", b"]}", b'"', b":"
_MARKS = _OPENING + _CLOSING + _QUOTE + b"," + _COLON
_NO_MARKS = bytes(byte for byte in range(256) if byte not in _MARKS)
_LEVELS = np.zeros(256, np.int8)  # Of each byte.
_LEVELS[[*_OPENING]], _LEVELS[[*_CLOSING]] = 1, -1


def dumps(value: Any, max_names: int = MAX_NAMES) -> bytes:
    """Returns a value as JSON that `loads` accepts: ASCII without line breaks.

    Args:
        value: The value.
        max_names: The largest number of names in objects.

    Raises:
        ValueError: If the text is too long, or nested too deep.
    """
    data = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    _check_limits(data, max_names)
    return data


def loads(data: bytes, max_names: int = MAX_NAMES) -> Any:
    """Parses JSON.

    Args:
        data: The text.
        max_names: The largest number of names in objects.

    Raises:
        ValueError: For anything but JSON in UTF-8, and for duplicate keys, NaN,
            infinite numbers, or text above one of the limits.
    """
    _check_limits(data, max_names)
    return json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_without_duplicates,
        parse_constant=_refuse,
        parse_float=_finite,
    )


def _check_limits(data: bytes, max_names: int) -> None:
    """Checks the limits by counting marks, before a parser recurses or takes memory."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON, over the limit of {MAX_BYTES}")
    unescaped = data.replace(rb"\\", b"").replace(rb"\"", b"")
    marks = np.frombuffer(unescaped.translate(None, _NO_MARKS), np.uint8)
    is_quote = marks == _QUOTE[0]
    in_string = np.cumsum(is_quote, dtype=np.uint8) % 2 == 1
    marks = marks[~(is_quote | in_string)]
    is_colon = marks == _COLON[0]
    marks, num_names = marks[~is_colon], int(np.count_nonzero(is_colon))
    if num_names > max_names:
        limit = f"over the limit of {max_names}"
        raise ValueError(f"{num_names} names in JSON, {limit}")
    if marks.size > MAX_MARKS:
        limit = f"over the limit of {MAX_MARKS}"
        raise ValueError(f"{marks.size} brackets and commas in JSON, {limit}")
    depth = np.cumsum(_LEVELS[marks], dtype=np.int32).max(initial=0)
    if depth > MAX_DEPTH:
        raise ValueError(f"JSON {depth} levels deep, over the limit of {MAX_DEPTH}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        twice, _ = counts.most_common(1)[0]
        raise ValueError(f"duplicate key {twice[:80]!r}")
    return result


def _refuse(literal: str) -> Any:
    raise ValueError(f"{literal} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:80]} is too large")
    return number
