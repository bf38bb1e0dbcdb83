"""The one kind of data that an update is given, and the batches of an iterator."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from tflearner.errors import BatchError, UsageError

DEEPEST = 32  # The deepest nesting of promises, dicts and lists.
INFINITE_CARDINALITY = -1  # Of a `tf.data.Dataset` that never ends.


def only_one(where: str, given: Mapping[str, object]) -> str:
    """Returns the name of the one kind of data that is given.

    Args:
        where: The method, for the error.
        given: Name -> data, or `None`.

    Raises:
        UsageError: If it is none of them, or several.
    """
    present = [name for name, data in given.items() if data is not None]
    if len(present) != 1:
        raise UsageError(
            where,
            " and ".join(present) or "no data",
            f"exactly one of {', '.join(given)}",
        )
    return present[0]


def items_of(data_iterator: object, num_iters: int | None) -> Iterator[object]:
    """Yields train batches, and promises of them.

    Args:
        data_iterator: Anything with `iter_batches`, a `tf.data.Dataset`, or anything
            that can be iterated over.
        num_iters: How many to yield, passing over the data again if they end before;
            `None` passes over them once.

    Raises:
        UsageError: If it is none of these, or never ends and `num_iters` is `None`.
    """
    start = _start_of(data_iterator)
    cardinality = getattr(data_iterator, "cardinality", None)
    never_ends = cardinality is not None and int(cardinality()) == INFINITE_CARDINALITY
    if num_iters is None and never_ends:
        raise UsageError(
            "update_from_iterator()",
            "a dataset that never ends, and no num_iters",
            hint="say how many batches to take: num_iters=...",
        )
    return _passes(start, num_iters)


def _passes(start: Callable, num_iters: int | None) -> Iterator[object]:
    num_yielded = 0
    while num_iters is None or num_yielded < num_iters:
        before = num_yielded
        for item in start():
            yield item
            num_yielded += 1
            if num_yielded == num_iters:
                return
        if num_iters is None or num_yielded == before:
            return  # One pass was wanted, or an iterator is used up.


def _start_of(data_iterator: object) -> Callable[[], Iterable]:
    for name in ("iter_batches", "as_numpy_iterator"):
        if hasattr(data_iterator, name):
            return getattr(data_iterator, name)
    is_batch = isinstance(data_iterator, Mapping | str | bytes)
    if not isinstance(data_iterator, Iterable) or is_batch:
        raise UsageError(
            "update_from_iterator()",
            repr(type(data_iterator)),
            "something with iter_batches(), a tf.data.Dataset or an iterable of batches",
        )
    return lambda: iter(data_iterator)


def unwrapped(item: object) -> object:
    """Returns the batch of an item: RLlib has {"batch": array of one batch}."""
    if isinstance(item, Mapping) and [*item] == ["batch"]:
        inside = item["batch"]
        if isinstance(inside, list | np.ndarray) and len(inside) == 1:
            return inside[0]
        raise BatchError('item["batch"]', repr(type(inside)), "a list of one batch")
    return item


def is_reference(data: object) -> bool:
    """Returns whether data are an object reference of Ray, or of a client of Ray."""
    ray = sys.modules.get("ray")  # Code that has a reference has imported Ray.
    return ray is not None and isinstance(data, getattr(ray, "ObjectRef", ()))
