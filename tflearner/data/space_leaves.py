"""Splits columns of nested observations or actions into one array per leaf."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tflearner.data import lookback_buffer
from tflearner.errors import BatchError, SpaceError

KINDS = {"b": "bools", "i": "integers", "u": "integers", "f": "floats"}


class Leaf(NamedTuple):
    """One array in every item of a space.

    Attributes:
        number: The position among the leaves.
        path: The path in an item, such as "['camera'][0]"; "" for the item itself.
        shape: The shape in one item.
        dtype: The dtype.
    """

    number: int
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype


class SpaceLeaves:
    """The leaves of a space in a fixed order, and the way back to nested items.

    Args:
        space: The gymnasium space.
        name: The name of the space in errors.

    Raises:
        SpaceError: If a part of the space is not an array of numbers with a fixed shape.
    """

    def __init__(self, space: Any, name: str):
        self.leaves: list[Leaf] = []
        self._name = name
        self._template = lookback_buffer.map_leaves(self._add, space)
        if not self.leaves:
            raise SpaceError(name, f"{space!r}", "a space with at least one part")

    def _add(self, space: Any, path: str) -> Leaf:
        shape, dtype = getattr(space, "shape", None), getattr(space, "dtype", None)
        if shape is None or dtype is None or np.dtype(dtype).kind not in KINDS:
            raise SpaceError(
                f"{self._name}{path}",
                f"{space!r}",
                "a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of "
                "these",
            )
        leaf = Leaf(len(self.leaves), path, tuple(shape), np.dtype(dtype))
        self.leaves.append(leaf)
        return leaf

    def nest(self, leaves: list[np.ndarray]) -> Any:
        """Nests arrays, one per leaf, in the structure of the space."""
        return _nested(self._template, leaves)

    def arrays(self, where: str, column: Any, num: int) -> list[np.ndarray]:
        """Returns a column's arrays [num, *shape of the leaf] with the leaves' dtypes.

        Arrays that fit are returned as they are.

        Args:
            where: The name of the column in errors.
            column: A list with one item per row, or (nested) arrays.
            num: The number of rows that it should have.

        Raises:
            BatchError: If structure, shape or dtype do not fit.
        """
        if isinstance(column, list):
            try:
                column = lookback_buffer.stacked(column)
            except BatchError as error:
                raise BatchError(where, error.got, error.want) from error
            except (KeyError, TypeError, ValueError) as error:
                got = f"items of unequal structure ({error})"
                raise BatchError(where, got, "items of one structure") from error
        found: list[np.ndarray] = []
        self._collect(where, column, self._template, num, found)
        return found

    def _collect(self, where, column, template, num, found) -> None:
        if isinstance(template, Leaf):
            found.append(_fitting(where + template.path, column, template, num))
            return
        keys = [*template] if isinstance(template, dict) else [*range(len(template))]
        kind = Mapping if isinstance(template, dict) else tuple
        theirs = _keys(column)
        if not isinstance(column, kind) or {*theirs} != {*keys}:
            raise BatchError(
                where,
                f"a {type(column).__name__} with {theirs}",
                f"a {type(template).__name__} with {keys}",
            )
        for key in keys:
            self._collect(where, column[key], template[key], num, found)


def _keys(column: Any) -> list:
    if isinstance(column, Mapping):
        return [*column]
    return [*range(len(column))] if isinstance(column, tuple) else []


def _nested(template: Any, leaves: list[np.ndarray]) -> Any:
    if isinstance(template, Leaf):
        return leaves[template.number]
    if isinstance(template, dict):
        return {key: _nested(part, leaves) for key, part in template.items()}
    return tuple(_nested(part, leaves) for part in template)


def _fitting(where: str, array: Any, leaf: Leaf, num: int) -> np.ndarray:
    """Casts an array to a leaf's dtype; refuses a cast that would lose numbers."""
    is_array = isinstance(array, np.ndarray)
    if is_array and array.shape == (num, *leaf.shape):
        if array.dtype == leaf.dtype:
            return array
        if leaf.dtype.kind == "f" and array.dtype.kind in KINDS:
            with np.errstate(over="ignore"):  # As the learner's float32 would be.
                return array.astype(leaf.dtype)
        if array.dtype.kind in "biu":
            cast = array.astype(leaf.dtype)
            if np.array_equal(cast, array):
                return cast
    raise BatchError(
        where,
        f"{array.dtype} {array.shape}" if is_array else f"a {type(array).__name__}",
        f"{leaf.dtype} {(num, *leaf.shape)}",
        "episodes hold the module's observations and actions: pass the module's "
        "observation_space and action_space",
    )
