"""Predicates of numbers: each answers one question about a value of any type.

A bool is never a number here: `num_epochs=True` is a mistake, not a 1.
"""

import math
import numbers
from typing import Any

from tflearner.constants import FLOAT32_MAX


def is_int(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Returns whether a value is an integer, of Python or NumPy, within bounds.

    >>> is_int(3, 1), is_int(0, 1), is_int(3.0), is_int(True)
    (True, False, False, False)
    """
    is_number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_number and least <= int(value) <= most


def is_real(value: Any) -> bool:
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
