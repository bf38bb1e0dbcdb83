"""Predicates of numbers, on values of any type."""

import math

import numpy as np
import pytest

from tflearner.checks import is_float32, is_fraction, is_int, is_real

NO_NUMBERS = [None, True, np.bool_(True), "1", b"1", 1j, [], np.array([1.0]), object()]


@pytest.mark.parametrize("check", [is_int, is_real, is_float32, is_fraction])
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_bools_texts_and_containers_are_no_numbers(check, value):
    assert check(value) is False


@pytest.mark.parametrize(
    ("value", "is_a"),
    [
        (1, (True, True, True, True)),
        (0, (False, True, True, True)),
        (5, (False, True, True, False)),
        (2, (True, True, True, False)),
        (np.int64(1), (True, True, True, True)),
        (np.float32(0.5), (False, True, True, True)),
        (-0.5, (False, True, True, False)),
        (1e39, (False, True, False, False)),
        (10**400, (False, True, False, False)),
        (math.inf, (False, True, False, False)),
        (math.nan, (False, True, False, False)),
    ],
    ids=str,
)
def test_numbers_are_told_apart(value, is_a):
    assert is_a == (
        is_int(value, 1, 4),
        is_real(value),
        is_float32(value),
        is_fraction(value),
    )
