"""How much memory a description in a file may ask for: about what the file has.

A few words of a file can describe networks and spaces of any size. While an object is
rebuilt, whoever makes something large says so first:

    with budget.limited(num_bytes=size_of_the_file, num_arrays=its_tensors):
        build(description)  # Calls budget.spend(...), which raises once it is too much.

Outside of `limited` nothing is counted.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tflearner.errors import BuilderError

SPARE_BYTES = 32 * 2**20  # For what the tensors of a file do not tell.
SPARE_ARRAYS = 100
_OF_AN_OBJECT = 4096  # Bytes that anything takes that is built.


@dataclasses.dataclass
class Budget:
    """What is left.

    Attributes:
        num_bytes: How many bytes may still be asked for.
        num_arrays: How many variables may still be made.
        counts_variables: Whether somebody counts variables already.
    """

    num_bytes: int
    num_arrays: int
    counts_variables: bool = False


_current: contextvars.ContextVar[Budget | None] = contextvars.ContextVar(
    "budget", default=None
)


@contextlib.contextmanager
def limited(*, num_bytes: int, num_arrays: int) -> Iterator[None]:
    """Limits what is built inside of the block.

    Args:
        num_bytes: The size of the file that describes it.
        num_arrays: How many arrays that file has.
    """
    budget = Budget(num_bytes + SPARE_BYTES, 2 * num_arrays + SPARE_ARRAYS)
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Budget | None:
    """Returns what is left; `None` if nothing is limited."""
    return _current.get()


def spend(what: str, num_bytes: int = _OF_AN_OBJECT, num_arrays: int = 0) -> None:
    """Notes that something is going to be made.

    Args:
        what: What it is, "a Box of shape (3, 4)".
        num_bytes: How much memory it takes.
        num_arrays: How many variables it is.

    Raises:
        BuilderError: If it is more than the file can be about.
    """
    budget = current()
    if budget is None:
        return
    if num_arrays > budget.num_arrays:
        raise BuilderError(f"description of {what}", "more than the file has arrays")
    if num_bytes > budget.num_bytes:
        got = f"{num_bytes:,} bytes, far more than the file has"
        raise BuilderError(f"description of {what}", got)
    budget.num_bytes -= max(num_bytes, 0)
    budget.num_arrays -= num_arrays


def refusing_above(
    most: Mapping[str, int],
) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """Returns what `register_builder` takes as `refuse`.

    Args:
        most: The largest number that a file may have in a setting, by name.
    """

    def refuse(settings: Mapping[str, Any]) -> dict[str, str]:
        return {
            name: f"a number above {limit}, as only you can ask for"
            for name, limit in most.items()
            if isinstance(settings.get(name), int | float) and settings[name] > limit
        }

    return refuse
