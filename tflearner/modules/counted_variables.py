"""Counts the variables that a description in a file makes, before they are made."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tflearner.checkpoint import budget


@contextlib.contextmanager
def counted_variables() -> Iterator[None]:
    """Lets variables of the block be no more than the file has; see `budget`."""
    limits = budget.current()
    if limits is None or limits.counts_variables:
        yield
        return
    limits.counts_variables = True
    try:
        with tf.variable_creator_scope(_create):
            yield
    finally:
        limits.counts_variables = False


def _create(make: Callable, **arguments: Any) -> Any:
    value = arguments["initial_value"]
    if callable(value):  # What is an array already takes no more memory.
        with tf.Graph().as_default():  # There an initializer computes nothing.
            value = value()
        num_bytes = math.prod(value.shape) * value.dtype.size
        budget.spend("weights", num_bytes, num_arrays=1)
    return make(**arguments)
