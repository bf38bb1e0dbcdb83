"""Checks of what is asked of replayed steps."""

from numbers import Real
from typing import Any

from tflearner.data.minibatches import check_count
from tflearner.errors import UsageError


def check_fraction(name: str, value: Any) -> float:
    """Returns a number from 0 to 1; raises `UsageError` for anything else."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0.0 <= float(value) <= 1.0:
        raise UsageError(name, repr(value), "a number from 0 to 1")
    return float(value)


def check_n_step(n_step: Any) -> tuple[int, int]:
    """Returns the least and the largest number of steps of an int or a pair.

    Raises:
        UsageError: If it is neither, or the larger number comes first.
    """
    pair = n_step if isinstance(n_step, tuple | list) else (n_step, n_step)
    if len(pair) != 2:
        raise UsageError("n_step", repr(n_step), "an int, or a pair of such")
    low, high = (check_count("n_step", number) for number in pair)
    if low > high:
        raise UsageError("n_step", repr(n_step), "the smaller number first")
    return low, high
