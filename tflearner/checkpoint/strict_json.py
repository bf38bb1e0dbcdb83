"""JSON with limits: what is not plainly valid is refused, at little cost."""

import collections
import json
import math
import re
from typing import Any

import numpy as np

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 64
MAX_VALUES = 1_000_000

# One without an end reaches to the end of the text: no byte is looked at twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_LEVELS, _VALUES = np.zeros(256, np.int32), np.zeros(256, bool)  # Of each byte.
_LEVELS[[*b"[{"]], _LEVELS[[*b"]}"]] = 1, -1
_VALUES[[*b"[{,"]] = True


def dumps(value: Any) -> bytes:
    """Returns ASCII without line breaks that `loads` accepts.

    Raises:
        ValueError: If the text is too long, or nested too deep.
    """
    data = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    _check_limits(data)
    return data


def loads(data: bytes) -> Any:
    """Parses JSON.

    Raises:
        ValueError: For anything but JSON in UTF-8 without duplicate keys, NaN, infinite
            numbers, more than `MAX_BYTES`, `MAX_DEPTH` or `MAX_VALUES`.
    """
    _check_limits(data)
    return json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_without_duplicates,
        parse_constant=_refuse,
        parse_float=_finite,
    )


def _check_limits(data: bytes) -> None:
    """Counts brackets and commas, so that no parser has to recurse to find out."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON, over the limit of {MAX_BYTES}")
    structure = np.frombuffer(_STRING.sub(b"", data), np.uint8)
    depth = int(np.cumsum(_LEVELS[structure]).max(initial=0))
    if depth > MAX_DEPTH:
        raise ValueError(f"JSON {depth} levels deep, over the limit of {MAX_DEPTH}")
    values = np.count_nonzero(_VALUES[structure])
    if values > MAX_VALUES:
        raise ValueError(f"{values} values in JSON, over the limit of {MAX_VALUES}")


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
