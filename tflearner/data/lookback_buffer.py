"""A column of an episode whose first items are only history.

A column has two forms: a list with one item per step, which can grow, or arrays with
one row per step (a dict or tuple of arrays for Dict and Tuple spaces). Arrays are never
written to. A change makes new ones, so columns may share arrays with each other and the
caller.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import tree

from tflearner.errors import BatchError, UsageError

Indices = int | slice | Sequence[int] | np.ndarray | None


class LookbackBuffer:
    """A column whose first `lookback` items are history: reachable, but not counted.

    Indices from 0 upwards count from the first item after the history. Negative ones
    count from the end, as in a list, and may reach into the history. With
    `neg_index_as_lookback` they count from the end of the history: -1 is its last item.

    Args:
        data: The items, history included: a list, or arrays with a leading axis.
        lookback: The number of items that are history.
        space: The gymnasium space of one item, which gives missing items their form.
    """

    __slots__ = ("data", "lookback", "space")

    def __init__(self, data: Any, lookback: int = 0, space: Any = None):
        self.data = data
        self.lookback = lookback
        self.space = space

    def __len__(self) -> int:
        return num_rows(self.data) - self.lookback

    def __iter__(self) -> Iterator[Any]:
        return iter(unstacked(self.get()))

    def __getitem__(self, indices: Indices) -> Any:
        return self.get(indices)

    def __repr__(self) -> str:
        return f"LookbackBuffer({self.data!r}, lookback={self.lookback})"

    def get(
        self,
        indices: Indices = None,
        neg_index_as_lookback: bool = False,
        fill: Any = None,
    ) -> Any:
        """Returns one item for an int index, otherwise a column in this buffer's form.

        Args:
            indices: The indices of the items; `None` selects all except the history.
            neg_index_as_lookback: Whether -1 is the last item of the history.
            fill: A number that fills items out of range (a dict is used as it is).
                Without it, a slice returns the existing items, and an int out of range
                raises.

        Raises:
            IndexError: If an int is out of range and there is no `fill`.
        """
        if indices is None:
            return rows(self.data, slice(self.lookback, None))
        where, total = self._where(indices, neg_index_as_lookback), num_rows(self.data)
        if isinstance(where, range):
            if fill is None and where.step == 1:
                return rows(self.data, slice(max(where.start, 0), max(where.stop, 0)))
            where = np.arange(where.start, where.stop, where.step)
            if fill is None:
                where = where[(where >= 0) & (where < total)]
        elif isinstance(where, int):
            if 0 <= where < total:
                return rows(self.data, where)
            if fill is None:
                raise self._index_error(indices)
            return rows(self._filled(np.array([where]), fill), 0)
        if np.all((where >= 0) & (where < total)):
            return rows(self.data, where)
        if fill is None:
            raise self._index_error(indices)
        return self._filled(where, fill)

    def set(
        self,
        new_data: Any,
        at_indices: Indices = None,
        neg_index_as_lookback: bool = False,
    ) -> None:
        """Replaces items; all except the history if `at_indices` is `None`.

        Args:
            new_data: One item for an int, otherwise a column in either form.
            at_indices: As in `get`, but all of them must exist.
            neg_index_as_lookback: As in `get`.

        Raises:
            BatchError: If number, shape or kind of the new items do not fit.
            IndexError: If an index is out of range.
        """
        if at_indices is None:
            self._check_count(new_data, len(self))
            self.data = joined(rows(self.data, slice(0, self.lookback)), new_data)
            return
        where = self._where(at_indices, neg_index_as_lookback)
        if isinstance(where, range):
            where = np.arange(where.start, where.stop, where.step)
        if np.any((where < 0) | (where >= num_rows(self.data))):
            raise self._index_error(at_indices)
        if not isinstance(where, int):
            self._check_count(new_data, len(where))
        if not isinstance(self.data, list):
            new = stacked(new_data) if isinstance(new_data, list) else new_data
            self.data = tree.map_structure(
                lambda leaf, value: _replaced(leaf, where, value),
                self.data,
                new,
                check_types=False,  # Any kind of dict is accepted.
            )
        elif isinstance(where, int):
            self.data[where] = new_data
        else:
            for position, item in zip(where, unstacked(new_data), strict=True):
                self.data[position] = item

    def as_arrays(self) -> Any:
        """Returns `data` in the form of arrays; the buffer stays as it is."""
        if not isinstance(self.data, list):
            return self.data
        return stacked(self.data) if self.data else zeros(self.space, 0)

    def _where(self, indices: Any, neg_index_as_lookback: bool) -> Any:
        """Converts indices to positions in `data`, maybe out of range."""
        total = num_rows(self.data)
        from_end = self.lookback if neg_index_as_lookback else total
        if isinstance(indices, slice):
            start, stop, step = indices.start, indices.stop, indices.step or 1
            first, last = self.lookback, total
            if step < 0:
                first, last = total - 1, self.lookback - 1
            if start is not None:
                first = start + (self.lookback if start >= 0 else from_end)
            if stop is not None:
                last = stop + (self.lookback if stop >= 0 else from_end)
            return range(first, last, step)
        if isinstance(indices, Integral):
            return int(indices) + (self.lookback if int(indices) >= 0 else from_end)
        index = np.asarray(indices, dtype=np.intp)
        return index + np.where(index >= 0, self.lookback, from_end)

    def _filled(self, where: np.ndarray, fill: Any) -> Any:
        """Returns the items at some positions, and `fill` where there is no item."""
        exists = (where >= 0) & (where < num_rows(self.data))
        if isinstance(self.data, list):
            blank = self._blank(fill)
            return [
                self.data[position] if ok else blank
                for position, ok in zip(where, exists, strict=True)
            ]

        def gather(leaf):
            out = np.full((len(where), *leaf.shape[1:]), fill, leaf.dtype)
            out[exists] = leaf[where[exists]]
            return out

        return tree.map_structure(gather, self.data)

    def _blank(self, fill: Any) -> Any:
        """Returns the stand-in for an item that is missing from the list."""
        if isinstance(fill, dict) or (self.space is None and not self.data):
            return fill
        like = self.data[0] if self.space is None else rows(zeros(self.space, 1), 0)
        return tree.map_structure(lambda leaf: np.full_like(leaf, fill)[()], like)

    def _index_error(self, indices: Indices) -> IndexError:
        return IndexError(
            f"index {indices} is outside of {len(self)} items after {self.lookback} "
            "items of lookback. Nothing was changed. Hint: `fill` of a `get_*` method "
            "stands in for missing items."
        )

    def _check_count(self, new_data: Any, want: int) -> None:
        if num_rows(new_data) != want:
            raise BatchError(
                "new data of an episode column",
                f"{num_rows(new_data)} items",
                f"{want} items",
            )


def num_rows(data: Any) -> int:
    """Returns the number of items of a column in either form."""
    if type(data) is list or (type(data) is np.ndarray and data.ndim):
        return len(data)
    lengths = {np.shape(leaf)[:1] for leaf in tree.flatten(data)}
    if len(lengths) != 1 or () in lengths:
        raise BatchError(
            "a column of nested arrays",
            f"leading axes {sorted(lengths)}",
            "arrays that all have one row per step",
        )
    return lengths.pop()[0]


def rows(data: Any, index: Any) -> Any:
    """Returns items by position, slice (a view of arrays) or index array."""
    if isinstance(data, np.ndarray):
        return data[index]
    if not isinstance(data, list):
        return tree.map_structure(lambda leaf: leaf[index], data)
    if isinstance(index, np.ndarray) and index.ndim:
        return [data[i] for i in index]
    return data[index]


def stacked(items: list) -> Any:
    """Returns arrays with one row per item; the items may be dicts or tuples."""
    first = items[0] if items else None
    if isinstance(first, Mapping):
        return {key: stacked([item[key] for item in items]) for key in first}
    if isinstance(first, tuple):
        return tuple(stacked(list(leaf)) for leaf in zip(*items, strict=True))
    try:
        return np.asarray(items)
    except ValueError as error:
        raise BatchError(
            "an episode column",
            f"items of unequal shapes {sorted({np.shape(item) for item in items})}",
            "items of one shape",
        ) from error


def unstacked(data: Any) -> list:
    """Returns a column as a list with one item per row."""
    if isinstance(data, (list, np.ndarray)):
        return list(data)
    return [rows(data, i) for i in range(num_rows(data))]


def joined(front: Any, back: Any) -> Any:
    """Concatenates two columns in the form of the first.

    An array without rows takes the shape and dtype of the other.
    """
    if isinstance(front, list):
        return front + unstacked(back)
    back = stacked(back) if isinstance(back, list) and back else back
    if num_rows(front) == 0 or num_rows(back) == 0:
        return front if num_rows(back) == 0 else back
    try:
        return tree.map_structure(_concatenated, front, back, check_types=False)
    except (TypeError, ValueError) as error:
        raise BatchError(
            "two parts of an episode", f"unequal arrays ({error})"
        ) from error


def _concatenated(front: np.ndarray, back: Any) -> np.ndarray:
    return np.concatenate([front, back], dtype=front.dtype, casting="same_kind")


def _replaced(leaf: np.ndarray, position: Any, value: Any) -> np.ndarray:
    value = np.asarray(value)
    shape = leaf[position].shape
    if value.shape != shape or not np.can_cast(value.dtype, leaf.dtype, "same_kind"):
        raise BatchError(
            "new data of an episode column",
            f"{value.dtype} {value.shape}",
            f"{leaf.dtype} {shape}",
        )
    leaf = leaf.copy()
    leaf[position] = value
    return leaf


def zeros(space: Any, num: int) -> Any:
    """Returns a column of `num` zero items for a space."""

    def zeros_of(leaf: Any, path: str) -> np.ndarray:
        shape = getattr(leaf, "shape", None) or ()
        return np.zeros((num, *shape), getattr(leaf, "dtype", None))

    return map_leaves(zeros_of, space)


def map_leaves(function: Callable[[Any, str], Any], space: Any, path: str = "") -> Any:
    """Applies a function to each leaf of a space; the results are nested like items.

    Duck-typed, so that data need no environment library: a part with `spaces` is a dict
    or a tuple of parts, and any other part is a leaf.

    Args:
        function: The function of a leaf and its path, such as "['camera'][0]".
        space: The gymnasium space.
        path: The path of the space itself.
    """
    parts = getattr(space, "spaces", None)
    if parts is None:
        return function(space, path)
    keys = [*parts] if isinstance(parts, Mapping) else range(len(parts))
    found = {k: map_leaves(function, parts[k], f"{path}[{k!r}]") for k in keys}
    return found if isinstance(parts, Mapping) else tuple(found.values())


def check_slice(where: str, slice_: Any) -> None:
    """Raises `UsageError` unless an index is a slice without a step."""
    if not isinstance(slice_, slice) or slice_.step not in (None, 1):
        raise UsageError(where, f"index {slice_!r}", "a slice without a step")
