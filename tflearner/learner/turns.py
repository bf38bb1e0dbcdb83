"""Threads that share a learner take turns."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

_Method = TypeVar("_Method", bound=Callable)


class Turns:
    """A reentrant lock that threads which wait for it get in turn.

    With a plain lock, a thread that trains in a loop would take it again before any
    other thread wakes up.
    """

    def __init__(self) -> None:
        self._next = threading.Lock()  # Held by the thread that is next.
        self._lock = threading.Lock()
        self._holder: int | None = None

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Holds the lock for a block; waits for the other threads first."""
        own = threading.get_ident()
        if self._holder == own:
            yield
            return
        with self._next:
            self._lock.acquire()
        self._holder = own
        try:
            yield
        finally:
            self._holder = None
            self._lock.release()


def in_turn(method: _Method) -> _Method:
    """Makes threads take turns in a method of an object with the attribute `_turns`."""

    @functools.wraps(method)
    def call(self: Any, *args: object, **kwargs: object) -> object:
        with self._turns.take():
            return method(self, *args, **kwargs)

    return cast(_Method, call)
