"""Joins the episodes' arrays into one batch per module."""

import numpy as np
import tree

from tflearner.connectors.connector import ConnectorV2
from tflearner.constants import DEFAULT_MODULE_ID


class BatchIndividualItems(ConnectorV2):
    """Joins every column's arrays, one per episode, into one array per module.

    Reads:  every column, [T, ...] per episode.
    Writes: {module_id: {column: [N, ...]}}, episodes in their order.
    """

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        by_module: dict[str, list[int]] = {}
        for index, episode in enumerate(episodes):
            module_id = module_id_of(episode, rl_module)
            by_module.setdefault(module_id, []).append(index)
        return {
            module_id: {
                column: _joined([arrays[i] for i in indices])
                for column, arrays in batch.items()
            }
            for module_id, indices in by_module.items()
        }


def module_id_of(episode, rl_module) -> str:
    """Returns the id of the module that acts in `episode`."""
    if episode.module_id is not None:
        return episode.module_id
    if len(rl_module) == 1:
        return next(iter(rl_module.keys()))
    return DEFAULT_MODULE_ID


def _joined(arrays):
    if isinstance(arrays[0], np.ndarray):
        return np.concatenate(arrays)
    return tree.map_structure(lambda *parts: np.concatenate(parts), *arrays)
