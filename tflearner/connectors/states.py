"""Cuts episodes into sequences, each with the state of a stateful module before it.

Shapes: an episode has T rows, its artificial last one included. With L, the module's
`model_config.max_seq_len`, it makes S = ceil(T / L) sequences. The columns of stateless
modules stay as they are.

If the loss needs whole trajectories (`Learner.needs_trajectories`), every episode is one
sequence, of stateless modules, too: S = 1, and L is at least the longest T of the batch.
"""

from typing import Any

import numpy as np
import tree

from tflearner.checks import is_int
from tflearner.columns import Columns
from tflearner.connectors import batching
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.episode_columns import BOOTSTRAP_ROWS, stacked
from tflearner.errors import BatchError, ConfigError

# In `shared_data`: whether every episode becomes one sequence.
NEEDS_TRAJECTORIES = "needs_trajectories"


class AddTimeDimToBatchAndZeroPad(ConnectorV2):
    """Cuts the rows of stateful modules into sequences, padded with zeros.

    An existing mask is cut and padded like other columns. If an artificial last row
    does not fit into the last sequence, it gets a sequence of its own.

    Reads:  every column, [T, ...] per episode.
    Writes: every column, [S, L, ...] per episode; SEQ_LENS, int32 [S], the number of
    rows that are no padding; LOSS_MASK, bool [S, L], False in padding.

    Raises:
        ConfigError: If a stateful module has no `max_seq_len`.
        BatchError: If a column has another number of rows than its episode.
    """

    is_for_sequences = True

    def __call__(self, *, rl_module, batch, episodes, shared_data, **kwargs):
        extra = 1 if shared_data.get(BOOTSTRAP_ROWS) else 0
        if shared_data.get(NEEDS_TRAJECTORIES):
            length = _rounded_up(max(map(len, episodes)) + extra)
            lengths = dict.fromkeys(rl_module.keys(), length)
        else:
            lengths = {
                module_id: _max_seq_len(module_id, module)
                for module_id, module in rl_module.items()
                if module.is_stateful()
            }
        if not lengths:
            return batch
        batching.check_one_entry_per_episode(batch, episodes)
        batch = {column: list(entries) for column, entries in batch.items()}
        batch.setdefault(Columns.LOSS_MASK, [None] * len(episodes))
        batch[Columns.SEQ_LENS] = [None] * len(episodes)
        for index, episode in enumerate(episodes):
            module_id = batching.module_id_of(episode, rl_module)
            if module_id not in lengths:
                continue
            num_rows, length = len(episode) + extra, lengths[module_id]
            is_row = np.ones(num_rows, bool)
            if batch[Columns.LOSS_MASK][index] is None:
                batch[Columns.LOSS_MASK][index] = is_row
            for column, entries in batch.items():
                if entries[index] is None:
                    continue
                found = [len(leaf) for leaf in _leaves(entries[index])]
                if found.count(num_rows) != len(found):
                    raise BatchError(
                        f"module {module_id!r}, column {column!r}, "
                        f"{batching.name_of(episode, index)}",
                        f"{' and '.join(map(str, found))} rows",
                        f"{num_rows}, any artificial last row included",
                    )
                entries[index] = _padded(entries[index], length)
            seq_lens = _padded(is_row, length).sum(axis=1, dtype=np.int32)
            batch[Columns.SEQ_LENS][index] = seq_lens
        return batch


class AddStatesFromEpisodesToBatch(ConnectorV2):
    """Adds the module state before each sequence to the batch.

    At the start of an episode it is the module's initial state; elsewhere it is the
    module's STATE_OUT of the step before. For the first sequence of a chunk, that step
    is in the lookback.

    Reads:  SEQ_LENS; episodes without it are skipped.
    Writes: STATE_IN. A nest of [S, ...] per episode, or `None`.

    Raises:
        BatchError: If an episode lacks a state, or its states differ in form from the
            module's initial one.
    """

    is_for_sequences = True

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        if Columns.SEQ_LENS not in batch:
            return batch
        states = batch[Columns.STATE_IN] = [None] * len(episodes)
        initial = {}
        for index, episode in enumerate(episodes):
            seq_lens = batch[Columns.SEQ_LENS][index]
            if seq_lens is not None:
                module_id = batching.module_id_of(episode, rl_module)
                if module_id not in initial:
                    initial[module_id] = rl_module[module_id].get_initial_state()
                if not initial[module_id]:  # A stateless module's trajectories.
                    continue
                where = f"module {module_id!r}, {batching.name_of(episode, index)}"
                states[index] = _states(episode, seq_lens, initial[module_id], where)
        return batch


def _rounded_up(length: int) -> int:
    """Returns the next number with at most three binary digits, so there are few."""
    unit = 1 << max(0, length.bit_length() - 3)
    return -(-length // unit) * unit


def _max_seq_len(module_id: str, module: Any) -> int:
    length = module.unwrapped().max_seq_len
    if not is_int(length, 1):
        raise ConfigError(
            f"module {module_id!r}, max_seq_len of its model_config",
            repr(length),
            "an int >= 1, for the module has a state",
            "it is how many steps gradients go back in time",
        )
    return int(length)


# Plain arrays, nearly all columns, spare the 5 us of a walk through a structure.


def _leaves(column: Any) -> list[np.ndarray]:
    return [column] if isinstance(column, np.ndarray) else tree.flatten(column)


def _padded(column: Any, length: int) -> Any:
    """Returns [S, L, ...] for [T, ...]."""
    if not isinstance(column, np.ndarray):
        return tree.map_structure(lambda leaf: _padded(leaf, length), column)
    num_sequences = -(-len(column) // length)
    padded = np.zeros((num_sequences * length, *column.shape[1:]), column.dtype)
    padded[: len(column)] = column
    return padded.reshape(num_sequences, length, *column.shape[1:])


def _states(episode: Any, seq_lens: np.ndarray, initial: Any, where: str) -> Any:
    """Returns the states in front of an episode's sequences, a nest of [S, ...]."""
    # The steps before; -1 is the last one of the lookback.
    before = np.cumsum(seq_lens) - seq_lens - 1
    starts_here = episode.t_started == 0
    if starts_here:
        before = before[1:]
    if not len(before):
        return tree.map_structure(lambda leaf: np.asarray(leaf)[None], initial)
    outputs = episode.extra_model_outputs
    if Columns.STATE_OUT not in outputs:
        raise BatchError(
            where,
            f"model outputs {sorted(outputs)}",
            f"{Columns.STATE_OUT!r} among them",
            "sequences start with the state that the module had when it acted",
        )
    if not starts_here and not outputs[Columns.STATE_OUT].lookback:
        raise BatchError(
            where,
            f"a chunk from t={episode.t_started} without lookback",
            "the step before it, for the state the module was in",
            "set episode_lookback_horizon to 1 or more",
        )
    found = episode.get_extra_model_outputs(
        Columns.STATE_OUT, before, neg_index_as_lookback=True
    )

    def joined(first, later):
        rows = np.concatenate([np.asarray(first)[None], later])
        return rows if starts_here else rows[1:]

    try:
        return tree.map_structure(joined, initial, stacked(found), check_types=False)
    except (TypeError, ValueError) as error:
        raise BatchError(
            f"{where}, column {Columns.STATE_OUT!r}",
            f"other states than the module's initial one ({error})",
            "the same names and shapes",
        ) from error
