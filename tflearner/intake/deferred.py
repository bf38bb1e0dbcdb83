"""Fetches deferred data: behind functions, or behind object references of Ray."""

import collections
import copy
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from tflearner.errors import BatchError, LostDataError, NoTrainingDataError
from tflearner.intake.items import DEEPEST, is_reference, unwrapped

LOST = object()
LATE = "late"  # The kind of loss of a reference that missed the deadline.
# Ray's errors for an error in the code that a task ran.
_OF_CODE = ("UnserializableException", "UserCodeException")


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

    def resolve(self, data: object) -> object:
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

    def resolve_all(self, items: object) -> object:
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

    def resolve_item(self, item: object) -> object:
        """Returns the batch of an iterator's item; `LOST` if it is lost.

        Args:
            item: A batch or a promise of one. RLlib wraps either in {"batch": array of
                one batch}, which is unwrapped.
        """
        found = self.resolve(item)
        return found if found is LOST else self.resolve(unwrapped(found))

    def check(self, found: object) -> None:
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

    def _resolve(self, data: object, deadline: float, depth: int) -> object:
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

    def _with_values(self, data: dict, deadline: float, depth: int) -> object:
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

    def _flat(self, items: Iterable, deadline: float, depth: int) -> Iterator[object]:
        """Yields the data in nested lists, except lost data."""
        _check_depth(depth)
        for item in items:
            found = self._resolve(item, deadline, depth)
            if isinstance(found, list | tuple):
                yield from self._flat(found, deadline, depth + 1)
            elif found is not LOST:
                yield found


def _bring(data: object, deadline: float) -> Callable[[], object] | None:
    if is_reference(data):
        get = sys.modules["ray"].get
        return lambda: get(data, timeout=max(deadline - time.monotonic(), 0.0))
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
