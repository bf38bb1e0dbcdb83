"""Counts the variables of objects that a file describes, before they are made."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tflearner.checkpoint import budget


@contextlib.contextmanager
def counted_variables() -> Iterator[None]:
    """Takes the memory of variables that the block makes from the `budget`."""
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
    if callable(value):  # A value that is an array takes no further memory.
        with tf.Graph().as_default():  # In a graph, an initializer computes nothing.
            value = value()
        num_bytes = math.prod(value.shape) * value.dtype.size
        budget.spend("weights", num_bytes, num_arrays=1)
    return make(**arguments)
