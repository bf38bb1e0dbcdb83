"""Bounds of settings, declared beside the fields of a config.

A bound is metadata of a field, under "check": a function of the setting's full name and
its value. It raises `ConfigError` for a value that the setting cannot have. Values are
checked by `validate()`, not when they are set.

    minibatch_size: int | None = field(
        default=None, metadata=TRAINING | or_none(at_least(1))
    )
"""

import inspect
import math
import os
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any

from tflearner.checks import is_float32, is_int, is_real
from tflearner.constants import FLOAT32_MAX
from tflearner.errors import ConfigError, shown
from tflearner.schedule import Scheduler

Check = Callable[[str, Any], None]
Bound = dict[str, Check]

# The largest count: many indices in TensorFlow and NumPy have 32 bits.
_MOST = 2**31 - 1


def checked(check: Check) -> Bound:
    """Returns the bound of a function of your own; it raises `ConfigError`."""
    return {"check": check}


def bound(
    is_allowed: Callable[[Any], object], want: str, hint: str | None = None
) -> Bound:
    """Returns a bound that allows the values for which a function is true.

    Args:
        is_allowed: The function of a value.
        want: The values in words, for errors.
        hint: The hint of the error.
    """

    def check(where: str, value: Any) -> None:
        if not is_allowed(value):
            raise ConfigError(where, shown(value), want, hint)

    return checked(check)


def or_none(other: Bound) -> Bound:
    """Returns a bound that allows `None` besides what another one allows."""

    def check(where: str, value: Any) -> None:
        if value is not None:
            other["check"](where, value)

    return checked(check)


def at_least(least: int, most: int = _MOST) -> Bound:
    """Returns a bound that allows integers from `least` to `most`."""

    def check(where: str, value: Any) -> None:
        if not is_int(value, least, most):
            is_large = is_int(value, least)
            want = f"an int in [{least}, {most}]" if is_large else f"an int >= {least}"
            raise ConfigError(where, shown(value), want)

    return checked(check)


def number(low: float, high: float) -> Bound:
    """Returns a bound that allows numbers from `low` to `high`, which may be infinity."""
    want = f"a number in [{low:g}, {min(high, FLOAT32_MAX):.2g}]"
    if high < math.inf:
        return bound(lambda value: is_float32(value) and low <= value <= high, want)
    return bound(
        lambda value: (
            (is_float32(value) and low <= value)
            or (is_real(value) and value == math.inf)
        ),
        f"{want}, or inf",
    )


def finite(low: float = -FLOAT32_MAX) -> Bound:
    """Returns a bound that allows numbers from `low` that are finite in float32."""
    want = f"a finite number in [{low:.2g}, {FLOAT32_MAX:.2g}]"
    return bound(lambda value: is_float32(value) and low <= value, want)


def schedule(least: float) -> Bound:
    """Returns a bound that allows numbers, and schedules of numbers, from `least`."""
    want = f"a finite number in [{least:g}, {FLOAT32_MAX:.2g}], or a schedule of such"

    def check(where: str, value: Any) -> None:
        Scheduler.validate(
            fixed_value_or_schedule=value,
            setting_name=where.rpartition(".")[2],
            description="number",
        )
        is_schedule = isinstance(value, list | tuple)
        values = [point[1] for point in value] if is_schedule else [value]
        if not all(is_float32(v) and least <= v for v in values):
            raise ConfigError(where, shown(value), want)

    return checked(check)


def one_of(*choices: str | bool) -> Bound:
    """Returns a bound that allows some texts and flags."""
    want = f"one of {', '.join(map(repr, choices))}"
    return bound(lambda v: isinstance(v, str | bool) and v in choices, want)


def instance_of(kind: type | UnionType, want: str) -> Bound:
    """Returns a bound that allows objects of a type, or of a union of types."""
    return bound(lambda value: isinstance(value, kind), want)


def function(want: str, hint: str | None = None) -> Bound:
    """Returns a bound that allows functions and `None`."""
    return bound(lambda value: value is None or callable(value), want, hint)


def a_class(
    is_allowed: Callable[[type], object], want: str, want_methods: str
) -> Bound:
    """Returns a bound that allows `None`, and classes without abstract methods.

    Args:
        is_allowed: A function that is true for the classes.
        want: The classes in words, for errors.
        want_methods: A class with all of its methods, in words.
    """

    def check(where: str, value: Any) -> None:
        if not isinstance(value, type) or not is_allowed(value):
            raise ConfigError(where, shown(value), want)
        if inspect.isabstract(value):
            lacking = ", ".join(sorted(getattr(value, "__abstractmethods__", ())))
            raise ConfigError(
                where, f"{value.__name__}, which lacks {lacking}", want_methods
            )

    return or_none(checked(check))


def check_path(where: str, path: Any) -> None:
    """Raises `ConfigError` if a value cannot be the path of a directory."""
    try:
        text = os.fspath(path)
    except Exception as error:
        raise ConfigError(where, shown(path), "a directory") from error
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(where, shown(path), "a directory, a text without NUL")


A_BOOL = instance_of(bool, "a bool")
A_DICT = instance_of(Mapping, "a dict")
A_PATH = checked(check_path)
