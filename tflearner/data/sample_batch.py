"""Train batches of one module, and of several modules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import BatchError, UnknownModuleError, UsageError, did_you_mean
from tflearner.types import ModuleID


class SampleBatch(dict):
    """A train batch of one module: a dict of columns, arrays [B, ...].

    A column may be nested (a dict or tuple of arrays) and may be a tensor; lists become
    arrays, but infos stay a list. With a column `seq_lens` [S] the batch holds sequences:
    its columns are [S, T, ...], and `seq_lens` counts the steps that are not padding.

    >>> batch = SampleBatch({"obs": [[1.0], [2.0], [3.0]], "rewards": [0.0, 0.5, 1.0]})
    >>> len(batch), batch[1:]["rewards"]
    (3, array([0.5, 1. ]))

    Args:
        *args: As for a dict.
        _zero_padded: Whether sequences are padded with zeros to [S, T, ...]. By default
            as in a given `SampleBatch`, otherwise False.
        **kwargs: As for a dict.
    """

    def __init__(self, *args: Any, _zero_padded: bool | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        given = args[0] if args else None
        if _zero_padded is None:
            _zero_padded = getattr(given, "zero_padded", False)
        self.zero_padded = _zero_padded
        self._slices_sequences = getattr(given, "_slices_sequences", False)
        for name, column in self.items():
            if isinstance(column, list) and name != Columns.INFOS:
                self[name] = np.asarray(column)

    def __len__(self) -> int:
        """Returns the number of rows, padding excluded."""
        if self.has_sequences:
            return int(np.sum(np.asarray(self[Columns.SEQ_LENS])))
        for name, column in self.items():
            for shape in _shapes(column) if _is_countable(name) else ():
                if shape:
                    return shape[0]
        return 0

    def __getitem__(self, key: Any) -> Any:
        """Returns a column by name, or a batch of rows or sequences by slice."""
        if not isinstance(key, slice):
            return super().__getitem__(key)
        if self.has_sequences and not self._slices_sequences:
            raise UsageError(
                "SampleBatch[start:stop]",
                "a slice of rows of a batch of sequences",
                "a slice of sequences",
                "call enable_slicing_by_batch_id() before",
            )
        if self._slices_sequences and not self.has_sequences:
            raise UsageError(
                "SampleBatch[start:stop]",
                "a slice of sequences of a batch of rows",
                f"a column {Columns.SEQ_LENS!r}",
                "call disable_slicing_by_batch_id() to slice rows",
            )
        return self._selected(key)

    @property
    def has_sequences(self) -> bool:
        """Whether the batch has a column `seq_lens`."""
        return self.get(Columns.SEQ_LENS) is not None

    @property
    def num_items(self) -> int:
        """The number of sequences if the batch has any, otherwise of rows.

        Raises:
            BatchError: If a column has another number of sequences or rows.
        """
        num = len(self[Columns.SEQ_LENS]) if self.has_sequences else len(self)
        for name, column in self.items():
            for shape in _shapes(column):
                if shape[:1] != (num,):
                    kind = "sequence" if self.has_sequences else "row"
                    raise BatchError(
                        f"column {name!r}", f"shape {shape}", f"{num}, one per {kind}"
                    )
        return num

    @property
    def count(self) -> int:
        """The number of rows, padding excluded; equal to `len()`."""
        return len(self)

    def env_steps(self) -> int:
        """Returns the number of rows, as `len()`."""
        return len(self)

    def agent_steps(self) -> int:
        """Returns the number of rows, as `len()`."""
        return len(self)

    def columns(self, keys: Iterable[str]) -> list:
        """Returns columns by name, as a list."""
        return [self[key] for key in keys]

    def rows(self) -> Iterator[dict]:
        """Yields each row, or each sequence, as a dict of columns."""
        for i in range(self.num_items):
            yield {name: _select(column, i) for name, column in self.items()}

    def enable_slicing_by_batch_id(self) -> None:
        """Makes slices select sequences instead of rows."""
        self._slices_sequences = True

    def disable_slicing_by_batch_id(self) -> None:
        """Makes slices select rows, which is the default."""
        self._slices_sequences = False

    def take(self, indices: np.ndarray) -> "SampleBatch":
        """Returns a new batch of selected sequences if there are any, else rows.

        Args:
            indices: int [N], in any order, repeats allowed. Tensors become arrays.
        """
        return self._selected(np.asarray(indices))

    def shuffle(self, rng: np.random.Generator | None = None) -> "SampleBatch":
        """Permutes the sequences if there are any, else the rows, in place.

        The batch gets new columns; its former arrays are not changed.

        Args:
            rng: The generator of the permutation; by default a new one.

        Returns:
            The batch itself.

        Raises:
            BatchError: If the columns have unequal lengths.
            UsageError: If there are sequences that are not padded with zeros.
        """
        if self.has_sequences and not self.zero_padded:
            raise UsageError(
                "SampleBatch.shuffle()",
                "sequences without zero padding",
                f"columns [S, T, ...] beside {Columns.SEQ_LENS!r} [S]",
                "construct the batch with _zero_padded=True",
            )
        rng = np.random.default_rng() if rng is None else rng
        self.update(self.take(rng.permutation(self.num_items)))
        return self

    def copy(self, shallow: bool = False) -> "SampleBatch":
        """Returns a copy of the batch; with `shallow` it shares the arrays."""
        copied = SampleBatch(self)
        for name, column in self.items():
            copied[name] = column if shallow else _copied(column)
        return copied

    def as_multi_agent(self, module_id: ModuleID | None = None) -> "MultiAgentBatch":
        """Returns a `MultiAgentBatch` with this batch as that of one module."""
        return MultiAgentBatch({module_id or DEFAULT_MODULE_ID: self}, len(self))

    def _selected(self, index: slice | np.ndarray) -> "SampleBatch":
        selected = SampleBatch(self)
        for name, column in self.items():
            selected[name] = _select(column, index)
        return selected


class MultiAgentBatch:
    """A train batch of several modules that are trained together.

    Args:
        policy_batches: `{module id: columns}`; plain dicts become `SampleBatch`es.
        env_steps: The number of environment steps that the rows come from.
    """

    def __init__(self, policy_batches: Mapping[ModuleID, Mapping], env_steps: int):
        self.policy_batches: dict[ModuleID, SampleBatch] = {
            module_id: batch if isinstance(batch, SampleBatch) else SampleBatch(batch)
            for module_id, batch in policy_batches.items()
        }
        self.count = int(env_steps)

    def __len__(self) -> int:
        """Returns the number of environment steps."""
        return self.count

    def __getitem__(self, module_id: ModuleID) -> SampleBatch:
        if module_id not in self.policy_batches:
            raise UnknownModuleError(
                f"module {module_id!r}",
                "an unknown id",
                f"one of {list(self.policy_batches)}",
                did_you_mean(module_id, self.policy_batches),
            )
        return self.policy_batches[module_id]

    def __contains__(self, module_id: object) -> bool:
        return module_id in self.policy_batches

    def __repr__(self) -> str:
        rows = {
            module_id: len(batch) for module_id, batch in self.policy_batches.items()
        }
        return f"MultiAgentBatch(rows={rows}, env_steps={self.count})"

    def env_steps(self) -> int:
        """Returns the number of environment steps."""
        return self.count

    def agent_steps(self) -> int:
        """Returns the number of rows of all modules."""
        return sum(len(batch) for batch in self.policy_batches.values())

    def as_multi_agent(self) -> "MultiAgentBatch":
        """Returns the batch itself."""
        return self

    def copy(self) -> "MultiAgentBatch":
        """Returns a copy of the batch, with new arrays."""
        copies = {mid: batch.copy() for mid, batch in self.policy_batches.items()}
        return MultiAgentBatch(copies, self.count)


def concat_samples(samples: Sequence[SampleBatch]) -> SampleBatch:
    """Concatenates the rows or sequences of batches; empty batches are skipped.

    Raises:
        BatchError: If the batches differ in their columns, in the columns' shapes (the
            length T of padded sequences included) or in being zero-padded.
    """
    samples = [batch for batch in samples if len(batch)]
    if not samples:
        return SampleBatch()
    first = samples[0]
    for other in samples[1:]:
        if other.keys() != first.keys() or other.zero_padded != first.zero_padded:
            raise BatchError(
                "concat_samples()",
                f"columns {sorted(other)}, zero_padded={other.zero_padded}",
                f"columns {sorted(first)}, zero_padded={first.zero_padded}",
            )
    joined = SampleBatch(first)
    for name in first:
        try:
            joined[name] = _concatenated([batch[name] for batch in samples])
        except (TypeError, ValueError) as error:
            raise BatchError(f"column {name!r}", f"unequal arrays ({error})") from error
    return joined


def concat_multi_agent_batches(batches: Sequence[MultiAgentBatch]) -> MultiAgentBatch:
    """Concatenates batches module by module.

    Raises:
        BatchError: As in `concat_samples`.
    """
    by_module: dict[ModuleID, list[SampleBatch]] = {}
    for batch in batches:
        for module_id, own in batch.policy_batches.items():
            by_module.setdefault(module_id, []).append(own)
    joined = {mid: concat_samples(own) for mid, own in by_module.items()}
    return MultiAgentBatch(joined, sum(batch.count for batch in batches))


def _is_countable(name: str) -> bool:
    """Returns whether a column has one row per step."""
    return name not in (Columns.INFOS, Columns.SEQ_LENS) and not name.startswith(
        (Columns.STATE_IN, Columns.STATE_OUT)
    )


def _shapes(column: Any) -> list[tuple]:
    if isinstance(column, list):
        return [(len(column),)]
    return [tuple(np.shape(leaf)) for leaf in tree.flatten(column) if leaf is not None]


def _select(column: Any, index: Any) -> Any:
    """Returns rows by int, slice or index array; `None` stays `None`."""
    if column is None:
        return None
    if isinstance(column, list):
        is_array = isinstance(index, np.ndarray)
        return [column[i] for i in index] if is_array else column[index]
    if isinstance(index, np.ndarray):  # A tensor cannot be indexed by an array.
        return tree.map_structure(lambda leaf: np.asarray(leaf)[index], column)
    return tree.map_structure(lambda leaf: leaf[index], column)


def _concatenated(parts: list) -> Any:
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    return tree.map_structure(lambda *leaves: np.concatenate(leaves), *parts)


def _copied(column: Any) -> Any:
    if isinstance(column, list):
        return list(column)
    return tree.map_structure(
        lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, column
    )
