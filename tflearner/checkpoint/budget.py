"""A memory budget for objects that a file describes: about the size of the file.

A short description in a file can ask for networks and spaces of any size. While an
object is rebuilt, code that is about to use much memory asks the budget first:

    with budget.limited(num_bytes=size_of_the_file, num_arrays=its_tensors):
        build(description)  # Calls budget.spend(...), which raises above the budget.

Outside of `limited`, memory is not counted.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tflearner.errors import BuilderError

SPARE_BYTES = 32 * 2**20  # For memory that does not grow with a file's tensors.
SPARE_ARRAYS = 100
_OF_AN_OBJECT = 4096  # Bytes counted for any object that is built.


@dataclasses.dataclass
class Budget:
    """The memory and the variables that a description may still use.

    Attributes:
        num_bytes: The remaining bytes.
        num_arrays: The remaining variables.
        counts_variables: Whether `counted_variables` is counting already.
    """

    num_bytes: int
    num_arrays: int
    counts_variables: bool = False


_current: contextvars.ContextVar[Budget | None] = contextvars.ContextVar(
    "budget", default=None
)


@contextlib.contextmanager
def limited(*, num_bytes: int, num_arrays: int) -> Iterator[None]:
    """Limits the memory of objects that are built inside the block.

    Args:
        num_bytes: The size of the file that describes the objects.
        num_arrays: The number of arrays in that file.
    """
    budget = Budget(num_bytes + SPARE_BYTES, 2 * num_arrays + SPARE_ARRAYS)
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Budget | None:
    """Returns the current budget; `None` outside of `limited`."""
    return _current.get()


def spend(what: str, num_bytes: int = _OF_AN_OBJECT, num_arrays: int = 0) -> None:
    """Takes memory from the budget, before an object is made.

    Args:
        what: The object in words, such as "a Box of shape (3, 4)".
        num_bytes: The memory of the object.
        num_arrays: The number of variables of the object.

    Raises:
        BuilderError: If the budget is too small.
    """
    budget = current()
    if budget is None:
        return
    if num_arrays > budget.num_arrays:
        raise BuilderError(f"description of {what}", "more variables than the file has")
    if num_bytes > budget.num_bytes:
        got = f"{num_bytes:,} bytes, far more than the file has"
        raise BuilderError(f"description of {what}", got)
    budget.num_bytes -= max(num_bytes, 0)
    budget.num_arrays -= num_arrays


def refusing_above(
    most: Mapping[str, int],
) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """Returns a `refuse` function for `register_builder` that limits settings.

    Args:
        most: The largest value that a file may give to a setting, by its name.
    """

    def refuse(settings: Mapping[str, Any]) -> dict[str, str]:
        return {
            name: f"a number above {limit}, as only you can ask for"
            for name, limit in most.items()
            if isinstance(settings.get(name), int | float) and settings[name] > limit
        }

    return refuse
