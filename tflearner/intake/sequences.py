"""Checks and completes sequences: their lengths, padding and states.

A stateful module trains on S sequences of T steps each: columns [S, T, ...], `seq_lens`
int32 [S], `loss_mask` bool [S, T] and `state_in`, a nest of arrays [S, ...]. Steps
beyond a sequence's length are padding. A loss that needs trajectories gets sequences of
stateless modules, too, without `state_in`.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.errors import BatchError
from tflearner.modules.rl_module import RLModule
from tflearner.types import Column, ColumnDict

# What has no axis of steps.
PER_SEQUENCE = (Columns.SEQ_LENS, Columns.STATE_IN)


@dataclasses.dataclass(frozen=True)
class SequenceSpec:
    """The form of a module's sequences.

    Attributes:
        initial_state: The state at the start of an episode: a nest of arrays [...];
            empty for a stateless module.
        max_seq_len: The steps that rows are padded to at least; `None` pads to the
            longest sequence.
    """

    initial_state: Mapping[str, Column]
    max_seq_len: int | None


ROWS = {"row": "N"}
SEQUENCES = {"sequence": "S"}
STEPS = SEQUENCES | {"step": "T"}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the columns of one batch are laid out.

    Attributes:
        names: What the leading axes of columns count, and their letters.
        leading: The lengths of these axes.
        reference: The column they were read from.
        seq_lens: int32 [S]; `None` for a stateless module.
    """

    names: Mapping[str, str]
    leading: tuple[int, ...]
    reference: str
    seq_lens: np.ndarray | None = None

    @functools.cached_property
    def padding(self) -> np.ndarray | None:
        """Which steps are padding: bool [S, T]; `None` if columns hold none."""
        if self.seq_lens is None or self.names is not STEPS:
            return None
        return ~valid_steps(self.seq_lens, self.leading[1])

    @property
    def per_sequence(self) -> "Layout":
        """The layout of what has no axis of steps."""
        assert self.seq_lens is not None
        return Layout(SEQUENCES, (len(self.seq_lens),), self.reference)

    def count(self, leading: tuple[int, ...]) -> str:
        """Returns the lengths of leading axes in words."""
        return " of ".join(
            f"{length} {name}s" for name, length in [*zip(self.names, leading)][::-1]
        )

    def place(self, index: tuple[int, ...]) -> str:
        """Returns the index of a number in words."""
        leading, rest = index[: len(self.names)], index[len(self.names) :]
        text = ", ".join(f"{name} {at}" for name, at in zip(self.names, leading))
        return f"{text}, index {rest}" if rest else text


def sequence_spec(module: RLModule, trajectories: bool) -> SequenceSpec | None:
    """Returns the form of a module's sequences; `None` if it trains on rows.

    Args:
        module: The module.
        trajectories: Whether the loss needs sequences of stateless modules, too.
    """
    if module.is_stateful():
        return SequenceSpec(module.get_initial_state(), module.max_seq_len)
    return SequenceSpec({}, None) if trajectories else None


def valid_steps(seq_lens: np.ndarray, num_steps: int) -> np.ndarray:
    """Returns which steps are not padding: bool [S, num_steps]."""
    return np.arange(num_steps) < seq_lens[:, None]


def read_layout(where: str, arrays: ColumnDict, specs: Mapping[str, object]) -> Layout:
    """Returns the layout of the columns of one module.

    A stateless module trains on rows; its `seq_lens` must add up to them. A stateful
    one takes rows with `seq_lens`, or sequences, which without `seq_lens` have no
    padding.

    Args:
        where: The module, for errors.
        arrays: Its columns, at least one of them besides those per sequence.
        specs: From `column_specs`.

    Raises:
        BatchError: If lengths are missing, impossible or do not add up.
    """
    reference, leaf, names = _reference(where, arrays, specs)
    leading = leaf.shape[: len(names)]
    layout = Layout(names, leading, reference)
    seq_lens = arrays.get(Columns.SEQ_LENS)
    if seq_lens is not None:
        seq_lens = _checked_seq_lens(
            f"{where}, column {Columns.SEQ_LENS!r}", seq_lens, layout
        )
    if specs.get(Columns.SEQ_LENS) is None:
        return layout
    if seq_lens is None:
        if names is ROWS:
            raise BatchError(
                where,
                f"no column {Columns.SEQ_LENS!r} beside {layout.count(leading)} in "
                f"column {reference!r}",
                "sequences [S, T, ...], or rows [N, ...] and the lengths of the "
                "sequences they make up",
            )
        seq_lens = np.full(leading[0], leading[1], np.int32)
    return dataclasses.replace(layout, seq_lens=seq_lens)


def check_loss_mask(where: str, mask: np.ndarray, layout: Layout) -> None:
    """Raises `BatchError` if a step that is padding is to be trained on."""
    if layout.padding is None or layout.seq_lens is None:
        return
    bad = mask & layout.padding
    if bad.any():
        sequence, step = (int(i) for i in np.argwhere(bad)[0])
        raise BatchError(
            where,
            f"True at {layout.place((sequence, step))}",
            f"False from step {layout.seq_lens[sequence]} on, which is its length in "
            f"{Columns.SEQ_LENS!r}",
        )


def padded_bytes(columns: ColumnDict, layout: Layout, spec: SequenceSpec) -> int:
    """Returns the bytes that the columns have as sequences."""
    assert layout.seq_lens is not None
    num_rows = math.prod(layout.leading)
    steps = num_rows
    if layout.names is ROWS:
        steps = len(layout.seq_lens) * _num_steps(layout, spec)
    own = [values for name, values in columns.items() if name not in PER_SEQUENCE]
    return sum(leaf.nbytes for leaf in tree.flatten(own)) * steps // max(1, num_rows)


def complete(columns: ColumnDict, layout: Layout, spec: SequenceSpec) -> ColumnDict:
    """Returns the columns as sequences, with all that a stateful module trains on.

    Rows are padded with zeros, `loss_mask` is made of the lengths if there is none, and
    sequences without `state_in` begin in the initial state.

    Args:
        columns: Checked columns.
        layout: How they are laid out.
        spec: What the module's sequences look like.
    """
    assert layout.seq_lens is not None
    if layout.padding is not None:
        valid = ~layout.padding
        result = dict(columns)
    else:
        valid = valid_steps(layout.seq_lens, _num_steps(layout, spec))
        result = {
            column: values
            if column in PER_SEQUENCE
            else tree.map_structure(lambda leaf: _padded(leaf, valid), values)
            for column, values in columns.items()
        }
    result[Columns.SEQ_LENS] = layout.seq_lens
    result.setdefault(Columns.LOSS_MASK, valid)
    if Columns.STATE_IN not in result and spec.initial_state:
        num_sequences = len(layout.seq_lens)
        result[Columns.STATE_IN] = tree.map_structure(
            lambda leaf: np.repeat(leaf[None], num_sequences, axis=0),
            spec.initial_state,
        )
    return result


def _reference(
    where: str, arrays: ColumnDict, specs: Mapping[str, object]
) -> tuple[str, np.ndarray, Mapping[str, str]]:
    """The column that others are compared with, and the names of its leading axes."""
    names = [c for c in (Columns.OBS, *arrays) if c in arrays and c not in PER_SEQUENCE]
    if not names:
        raise BatchError(where, f"columns {[*arrays]}", f"at least {Columns.OBS!r}")
    first, _ = _first_leaf(arrays[names[0]])
    if specs.get(Columns.SEQ_LENS) is None:
        return names[0], first, ROWS
    for name in names:
        leaf, spec = _first_leaf(arrays[name], specs.get(name))
        for shape in getattr(spec, "shapes", None) or ():
            if leaf.ndim - len(shape) in (1, 2):
                return name, leaf, ROWS if leaf.ndim - len(shape) == 1 else STEPS
    # Only columns whose form nobody knows: lengths decide.
    seq_lens = arrays.get(Columns.SEQ_LENS)
    fits = not isinstance(seq_lens, np.ndarray) or seq_lens.shape == first.shape[:1]
    return names[0], first, STEPS if first.ndim > 1 and fits else ROWS


def _first_leaf(nest: Column, spec: Any = None) -> tuple[np.ndarray, Any]:
    while not isinstance(nest, np.ndarray):
        items = nest.items() if isinstance(nest, Mapping) else enumerate(nest)
        key, nest = next(iter(items))
        try:
            spec = spec[key]
        except (TypeError, LookupError):
            spec = None
    return nest, spec


def _checked_seq_lens(where: str, seq_lens: Column, layout: Layout) -> np.ndarray:
    if not isinstance(seq_lens, np.ndarray):
        raise BatchError(where, f"a {type(seq_lens).__name__}", "an array")
    if seq_lens.dtype.kind not in "iu":
        raise BatchError(where, f"dtype {seq_lens.dtype}", "values of kind int")
    if seq_lens.ndim != 1:
        raise BatchError(where, f"{seq_lens.dtype} {seq_lens.shape}", "(S,)")
    have, high = layout.leading[0], layout.leading[-1]
    is_in = f"in column {layout.reference!r}"
    if layout.names is STEPS and len(seq_lens) != have:
        raise BatchError(
            where, f"{len(seq_lens)} lengths", f"{have}, the sequences {is_in}"
        )
    bad = (seq_lens < 1) | (seq_lens > high)
    if bad.any():
        row = int(np.argmax(bad))
        counted = [*layout.names][-1]
        raise BatchError(
            where,
            f"length {seq_lens[row]} in row {row}",
            f"1 to {high}, the {counted}s {is_in}",
        )
    if layout.names is ROWS and seq_lens.sum(dtype=np.int64) != have:
        raise BatchError(
            where, f"a sum of {seq_lens.sum()}", f"{have}, the rows {is_in}"
        )
    return seq_lens.astype(np.int32)


def _num_steps(layout: Layout, spec: SequenceSpec) -> int:
    assert layout.seq_lens is not None
    return max(int(layout.seq_lens.max(initial=1)), spec.max_seq_len or 0)


def _padded(rows: np.ndarray, valid: np.ndarray) -> np.ndarray:
    result = np.zeros((*valid.shape, *rows.shape[1:]), rows.dtype)
    result[valid] = rows
    return result
