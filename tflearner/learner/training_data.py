"""What an update may be given: data or the promise of data, once or again and again."""

import collections
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tflearner.errors import (
    BatchError,
    LostDataError,
    NoTrainingDataError,
    UsageError,
)

LOST = object()
INFINITE_CARDINALITY = -1  # What a `tf.data.Dataset` that never ends says.


def only_one(where: str, given: Mapping[str, Any]) -> str:
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


class Lost:
    """Counts deferred data that could not be brought, by kind of error."""

    def __init__(self) -> None:
        self.by_kind: collections.Counter[str] = collections.Counter()

    def resolve(self, data: Any) -> Any:
        """Returns the data behind a promise, or data as they are.

        Args:
            data: Data; or a function without arguments that returns them; or, with Ray
                in use, an object reference.

        Returns:
            The data; `LOST` for data that are lost, which are counted.
        """
        bring = _bring(data)
        if bring is None:
            return data
        try:
            return bring()
        except Exception as error:
            if not _is_loss(error):
                raise
            self.by_kind[type(error).__name__] += 1
            return LOST

    def resolve_all(self, items: Any) -> Any:
        """Returns a list of what stands behind each item; lists among it are joined.

        Args:
            items: A list of data and promises of data, or the promise of such a list.
        """
        items = self.resolve(items)
        if not isinstance(items, list | tuple):
            return [] if items is LOST else items
        found: list[Any] = []
        for item in items:
            brought = self.resolve(item)
            found += brought if isinstance(brought, list | tuple) else [brought]
        return [item for item in found if item is not LOST]

    def check(self, found: Any) -> None:
        """Raises `NoTrainingDataError` if something is lost and nothing is found."""
        if self.by_kind and (found is LOST or found == []):
            raise NoTrainingDataError(
                "deferred data",
                f"all of it lost: {dict(self.by_kind)}",
                "at least one reference that can be resolved",
            )


def items_of(data_iterator: Any, num_iters: int | None) -> Iterator[Any]:
    """Yields train batches.

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


def _passes(start: Callable, num_iters: int | None) -> Iterator[Any]:
    num_yielded = 0
    while num_iters is None or num_yielded < num_iters:
        before = num_yielded
        for item in start():
            yield _unwrapped(item)
            num_yielded += 1
            if num_yielded == num_iters:
                return
        if num_iters is None or num_yielded == before:
            return  # One pass was wanted, or an iterator is used up.


def _start_of(data_iterator: Any) -> Callable[[], Iterable]:
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


def _unwrapped(item: Any) -> Any:
    """Returns the batch out of RLlib's {"batch": array of one batch}."""
    if isinstance(item, Mapping) and [*item] == ["batch"]:
        inside = item["batch"]
        if isinstance(inside, list | np.ndarray) and len(inside) == 1:
            return inside[0]
        raise BatchError('item["batch"]', repr(type(inside)), "a list of one batch")
    return item


def _bring(data: Any) -> Callable[[], Any] | None:
    ray = sys.modules.get("ray")  # Whoever has a reference has imported Ray.
    if ray is not None and isinstance(data, ray.ObjectRef):
        return lambda: ray.get(data)
    return data if callable(data) else None


def _is_loss(error: Exception) -> bool:
    """Whether data are gone; an error of the code that makes them is another matter."""
    ray = sys.modules.get("ray")
    if ray is None:
        return isinstance(error, LostDataError)
    family, of_the_task = ray.exceptions.RayError, ray.exceptions.RayTaskError
    is_of_ray = isinstance(error, family) and not isinstance(error, of_the_task)
    return is_of_ray or isinstance(error, LostDataError)
