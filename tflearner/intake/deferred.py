"""Data for updates: batches, episodes and iterators, or promises that return them."""

import collections
import copy
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tflearner.errors import BatchError, LostDataError, NoTrainingDataError, UsageError

LOST = object()
LATE = "late"  # The kind of loss of a reference that missed the deadline.
DEEPEST = 32  # The deepest nesting of promises and lists.
# Ray's errors for an error in the code that a task ran.
_OF_CODE = ("UnserializableException", "UserCodeException")
INFINITE_CARDINALITY = -1  # Of a `tf.data.Dataset` that never ends.


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
    """Fetches deferred data, and counts lost data by kind.

    Args:
        timeout_s: Seconds that `resolve` or `resolve_all` waits for references. A
            function has to limit its own waiting, and raises `LostDataError`.
    """

    def __init__(self, timeout_s: float):
        self.by_kind: collections.Counter[str] = collections.Counter()
        self._timeout_s = timeout_s
        self._last: Exception | None = None

    def resolve(self, data: Any) -> Any:
        """Returns the data behind a promise; data that are no promise are returned.

        A promise may return another promise, and a dict may hold promises as values.

        Args:
            data: Data; or a function without arguments that returns them; or, with Ray
                in use, an object reference.

        Returns:
            The data; `LOST` if they are lost, which is counted. A dict is lost if one
            of its values is.

        Raises:
            BatchError: If promises are nested more than `DEEPEST` deep.
        """
        return self._resolve(data, self._deadline(), 0)

    def resolve_all(self, items: Any) -> Any:
        """Returns a list of the data behind all items; nested lists are joined.

        Args:
            items: A list of data and promises, or a promise that returns one.

        Raises:
            BatchError: If promises and lists are nested more than `DEEPEST` deep.
        """
        deadline = self._deadline()
        items = self._resolve(items, deadline, 0)
        if not isinstance(items, list | tuple):
            return [] if items is LOST else items
        return [*self._flat(items, deadline, 0)]

    def resolve_each(self, items: Iterable) -> Iterator[Any]:
        """Yields the batches of an iterator, except lost ones.

        Args:
            items: Batches and promises of batches. RLlib wraps either in {"batch":
                array of one batch}, which is unwrapped.
        """
        for item in items:
            found = self.resolve(item)
            if found is not LOST:
                found = self.resolve(_unwrapped(found))
            if found is not LOST:
                yield found

    def check(self, found: Any) -> None:
        """Raises `NoTrainingDataError` if something is lost and nothing is found."""
        if self.by_kind and (found is LOST or found == []):
            raise NoTrainingDataError(
                "deferred data",
                f"all of it lost: {dict(self.by_kind)}",
                "at least one reference that can be resolved",
                f"references had {self._timeout_s:g} s; wait longer: "
                ".learners(deferred_data_timeout_s=...)"
                if LATE in self.by_kind
                else None,
            ) from self._last

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_s

    def _resolve(self, data: Any, deadline: float, depth: int) -> Any:
        _check_depth(depth)
        bring = _bring(data, deadline)
        if bring is not None:
            try:
                brought = bring()
            except Exception as error:
                kind = _kind_of_loss(error)
                if kind is None:
                    raise
                self.by_kind[kind] += 1
                self._last = error
                return LOST
            return self._resolve(brought, deadline, depth + 1)
        if isinstance(data, dict):
            return self._with_values(data, deadline, depth)
        return data

    def _with_values(self, data: dict, deadline: float, depth: int) -> Any:
        """Returns a dict with its values resolved; the dict itself without promises."""
        found = {
            key: self._resolve(value, deadline, depth + 1)
            for key, value in data.items()
        }
        if any(value is LOST for value in found.values()):
            return LOST
        if all(value is data[key] for key, value in found.items()):
            return data
        resolved = copy.copy(data)  # Keeps its class and other attributes.
        resolved.update(found)
        return resolved

    def _flat(self, items: Iterable, deadline: float, depth: int) -> Iterator[Any]:
        """Yields the data in nested lists, except lost data."""
        _check_depth(depth)
        for item in items:
            found = self._resolve(item, deadline, depth)
            if isinstance(found, list | tuple):
                yield from self._flat(found, deadline, depth + 1)
            elif found is not LOST:
                yield found


def items_of(data_iterator: Any, num_iters: int | None) -> Iterator[Any]:
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


def _passes(start: Callable, num_iters: int | None) -> Iterator[Any]:
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


def _bring(data: Any, deadline: float) -> Callable[[], Any] | None:
    ray = sys.modules.get("ray")  # Code that has a reference has imported Ray.
    if ray is not None and isinstance(data, getattr(ray, "ObjectRef", ())):
        return lambda: ray.get(data, timeout=max(deadline - time.monotonic(), 0.0))
    return data if callable(data) else None


def _check_depth(depth: int) -> None:
    if depth > DEEPEST:
        raise BatchError(
            "deferred data",
            f"more than {DEEPEST} references, functions or lists in one another",
            "data behind at most that many",
        )


def _kind_of_loss(error: Exception | None) -> str | None:
    """Returns the kind of a loss; `None` for an error in the code that makes the data.

    An error of a Ray task is judged by its innermost cause, because a task also fails
    if one of its arguments is lost.
    """
    while isinstance(error, _errors_of_ray("RayTaskError")):
        error = getattr(error, "cause", None)
    if isinstance(error, LostDataError):
        return type(error).__name__
    if not isinstance(error, _errors_of_ray("RayError")):
        return None
    if isinstance(error, _errors_of_ray(*_OF_CODE)):
        return None
    return LATE if isinstance(error, TimeoutError) else type(error).__name__


def _errors_of_ray(*names: str) -> tuple[type, ...]:
    errors = getattr(sys.modules.get("ray"), "exceptions", None)
    return tuple(getattr(errors, name) for name in names if hasattr(errors, name))
