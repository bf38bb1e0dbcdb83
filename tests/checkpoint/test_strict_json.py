"""Tests for `tflearner.checkpoint.strict_json`."""

import json
import sys
import time

import pytest

from tflearner.checkpoint import strict_json


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2.5, True, None, 'é\n"\\[,{'], "": {}},
        2**128,
        [[[]]],
        "[" * 100,
        '\\"[' * 100,
        {"\\": "[" * 100, "[[": '"'},
    ],
)
def test_round_trip(value):
    data = strict_json.dumps(value)
    assert data.isascii() and b"\n" not in data
    assert strict_json.loads(data) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": 1, "b": 2, "a": 3}', "duplicate key 'a'"),
        (b"[NaN]", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"[1e999]", "too large"),
        (b"[1", "delimiter"),
        (b"\xff", "utf-8"),
        (b"", "Expecting value"),
        (b"[" * 65 + b"]" * 65, "65 levels deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "65 levels deep"),
        (b'["\\"", ' + b"[" * 100_000, "100001 levels deep"),
        (b'["\\\\", ' + b"[" * 100_000, "100001 levels deep"),
        (b"[" + b"0," * 500_000 + b"0]", "brackets and commas"),
        (b" " * (strict_json.MAX_BYTES + 1), "bytes of JSON"),
    ],
)
def test_what_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        strict_json.loads(text)


def test_64_levels_are_fine():
    text = b"[" * 64 + b"]" * 64
    assert strict_json.dumps(strict_json.loads(text)) == text


@pytest.mark.parametrize("text", [b'"' * 10**7, b"\\" * 10**7, b'\\"' * 10**7])
def test_unfinished_strings_are_refused_in_no_time(text):
    start = time.process_time()
    with pytest.raises(ValueError):
        strict_json.loads(text[: strict_json.MAX_BYTES])
    assert time.process_time() - start < 1


def test_depth_is_found_without_recursion():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)  # The parser of the standard library would crash.
    try:
        with pytest.raises(ValueError, match="levels deep"):
            strict_json.loads(b"[" * 10**5)
    finally:
        sys.setrecursionlimit(limit)


def test_what_is_written_is_within_the_limits():
    for value in (
        [0] * 500_001,
        "a" * strict_json.MAX_BYTES,
        json.loads("[" * 65 + "]" * 65),
    ):
        with pytest.raises(ValueError, match="limit"):
            strict_json.dumps(value)
