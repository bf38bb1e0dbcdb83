"""Checks of numbers: each answers one question about a value of any type.

A bool is never a number here: `num_epochs=True` is a mistake, not a 1. The functions
named `check_...` raise `UsageError`, for the arguments of public methods.
"""

import math
import numbers
from typing import Any, TypeGuard

from tflearner.constants import FLOAT32_MAX
from tflearner.errors import UsageError


def is_int(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Returns whether a value is an integer, of Python or NumPy, within bounds.

    >>> is_int(3, 1), is_int(0, 1), is_int(3.0), is_int(True)
    (True, False, False, False)
    """
    is_number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_number and least <= int(value) <= most


def is_real(value: Any) -> TypeGuard[float]:
    """Returns whether a value is a real number; it may be infinite or NaN."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_float32(value: Any) -> bool:
    """Returns whether a value is a number that stays finite in float32.

    >>> is_float32(1e38), is_float32(1e39), is_float32(10**400), is_float32(math.nan)
    (True, False, False, False)
    """
    return is_real(value) and bool(abs(value) <= FLOAT32_MAX)


def is_fraction(value: Any) -> bool:
    """Returns whether a value is a number from 0 to 1.

    >>> is_fraction(0.5), is_fraction(1), is_fraction(1.5), is_fraction(math.nan)
    (True, True, False, False)
    """
    return is_real(value) and bool(0.0 <= value <= 1.0)


def check_count(name: str, value: Any, at_least: int = 1) -> int:
    """Returns an integer as an int; raises `UsageError` for all else, and if too small.

    Args:
        name: What the value is called in the error.
        value: The value.
        at_least: The smallest integer allowed.
    """
    if not is_int(value, at_least):
        raise UsageError(name, repr(value), f"int >= {at_least}")
    return int(value)


def check_fraction(name: str, value: Any) -> float:
    """Returns a number from 0 to 1 as a float; raises `UsageError` for all else."""
    if not is_fraction(value):
        raise UsageError(name, repr(value), "a number from 0 to 1")
    return float(value)


def check_range(name: str, value: Any) -> tuple[int, int]:
    """Returns the ends of a range of counts: those of a pair, or twice an int.

    Raises:
        UsageError: If the value is neither, or the larger end comes first.
    """
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2:
        raise UsageError(name, repr(value), "an int, or a pair of such")
    low, high = (check_count(name, end) for end in pair)
    if low > high:
        raise UsageError(name, repr(value), "the smaller number first")
    return low, high
