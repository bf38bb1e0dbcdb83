"""Sorts the episodes' arrays by module and joins them into one batch per module."""

from typing import Any

import numpy as np
import tree

from tflearner.connectors.connector import ConnectorV2
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.data import arrays
from tflearner.errors import BatchError

# In `shared_data`: the arrays that `BatchIndividualItems` has made, and owns alone.
OWN_ARRAYS = "own_arrays"


class AgentToModuleMapping(ConnectorV2):
    """Groups the columns of episodes by module.

    A column that none of a module's episodes has is omitted for that module.

    Reads:  every column, an array or `None` per episode.
    Writes: {module_id: {column: [array [T, ...] or [S, L, ...] per episode]}}, episodes
    in their order.

    Raises:
        BatchError: If a column has not one entry per episode, or some of a module's
            episodes have a column and others lack it.
    """

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        check_one_entry_per_episode(batch, episodes)
        by_module: dict[str, list[int]] = {}
        for index, episode in enumerate(episodes):
            module_id = module_id_of(episode, rl_module)
            by_module.setdefault(module_id, []).append(index)
        sorted_batch: dict[str, dict[str, list]] = {}
        for module_id, indices in by_module.items():
            columns = sorted_batch[module_id] = {}
            for column, entries in batch.items():
                own = [entries[i] for i in indices]
                lacking = [i for i in indices if entries[i] is None]
                if not lacking:
                    columns[column] = own
                elif len(lacking) < len(own):
                    raise BatchError(
                        f"module {module_id!r}, column {column!r}, "
                        f"{name_of(episodes[lacking[0]], lacking[0])}",
                        "no such column",
                        "one as in other episodes of the module",
                        "do not mix episodes with unlike model outputs in one update",
                    )
        return sorted_batch


class BatchIndividualItems(ConnectorV2):
    """Joins every column's arrays, one per episode, into one array.

    Later pieces may write into the arrays that it makes.

    Reads:  {module_id: {column: [array per episode]}} of `AgentToModuleMapping`.
    Writes: {module_id: {column: [N, ...]}}, [S, L, ...] for sequences.

    Raises:
        BatchError: If the columns of a module have unequal numbers of rows, or are not
            sorted by module.
    """

    def __call__(self, *, batch, shared_data=None, **kwargs):
        joined: dict[str, dict[str, Any]] = {}
        for module_id, columns in batch.items():
            if not isinstance(columns, dict):
                raise BatchError(
                    f"column {module_id!r}",
                    "arrays that belong to no module",
                    "columns by module id",
                    "put AgentToModuleMapping in front of BatchIndividualItems",
                )
            own = {column: _joined(entries) for column, entries in columns.items()}
            numbers: dict[int, str] = {}
            for column, nest in own.items():
                for leaf in tree.flatten(nest):
                    numbers.setdefault(len(leaf), column)
            if len(numbers) > 1:
                (want, reference), (got, column), *_ = numbers.items()
                raise BatchError(
                    f"module {module_id!r}, column {column!r}",
                    f"{got} rows",
                    f"{want}, as column {reference!r}",
                    "shared_data['bootstrap_rows'] says if every episode has one row "
                    "more than it has steps",
                )
            joined[module_id] = own
        if shared_data is not None:
            shared_data[OWN_ARRAYS] = tree.flatten(joined)
        return joined


def module_id_of(episode, rl_module) -> str:
    """Returns the id of the module that acts in `episode`."""
    if episode.module_id is not None:
        return episode.module_id
    if len(rl_module) == 1:
        return next(iter(rl_module.keys()))
    return DEFAULT_MODULE_ID


def name_of(episode, index: int) -> str:
    """Returns the name of an episode in errors."""
    return f"episodes[{index}] ({episode.id_!r})"


def check_one_entry_per_episode(batch, episodes) -> None:
    """Raises `BatchError` unless every column has one entry per episode."""
    for column, entries in batch.items():
        if len(entries) != len(episodes):
            raise BatchError(
                f"column {column!r}",
                f"{len(entries)} entries",
                f"{len(episodes)}, an array or None for each episode",
            )


def _joined(entries):
    if isinstance(entries[0], np.ndarray):
        return arrays.joined(entries)
    return tree.map_structure(lambda *parts: arrays.joined(parts), *entries)
