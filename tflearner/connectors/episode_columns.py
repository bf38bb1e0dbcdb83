"""Reads the columns of a train batch from episodes, one array per episode each."""

import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.connectors.connector import ConnectorV2
from tflearner.errors import BatchError

# Set by `AddOneTsToEpisodesAndTruncate` for the pieces behind it.
BOOTSTRAP_ROWS = "bootstrap_rows"


class AddOneTsToEpisodesAndTruncate(ConnectorV2):
    """Gives every episode one artificial last row, for the value that closes it.

    The row holds the episode's last observation; `LOSS_MASK` is False there. The
    episodes themselves stay as they are.

    Writes: LOSS_MASK. bool [T + 1] per episode.
    """

    def __call__(self, *, batch, episodes, shared_data, **kwargs):
        shared_data[BOOTSTRAP_ROWS] = True
        batch[Columns.LOSS_MASK] = [
            np.arange(len(episode) + 1) < len(episode) for episode in episodes
        ]
        return batch


class AddObservationsFromEpisodesToBatch(ConnectorV2):
    """Adds the observations in which the episodes' actions were taken.

    Writes: OBS. [T, ...] per episode; [T + 1, ...] with artificial last rows.
    """

    def __call__(self, *, batch, episodes, shared_data, **kwargs):
        extra = 1 if shared_data.get(BOOTSTRAP_ROWS) else 0
        batch[Columns.OBS] = [
            _stacked(episode.get_observations(slice(0, len(episode) + extra)))
            for episode in episodes
        ]
        return batch


class AddColumnsFromEpisodesToTrainBatch(ConnectorV2):
    """Adds actions, rewards, both done flags and all outputs of the acting module.

    Columns that are in the batch already are left alone. Artificial last rows repeat
    the row before, with a reward of 0 and neither flag set.

    Writes: ACTIONS, REWARDS, TERMINATEDS, TRUNCATEDS and what the module put out.
    [T, ...] or [T + 1, ...] per episode.
    """

    def __call__(self, *, batch, episodes, shared_data, **kwargs):
        extra = 1 if shared_data.get(BOOTSTRAP_ROWS) else 0

        def repeat_last(column):
            return np.concatenate([column, column[-1:]]) if extra else column

        def columns():
            yield (
                Columns.ACTIONS,
                lambda e: _by_leaf(repeat_last, _stacked(e.get_actions())),
            )
            yield Columns.REWARDS, lambda e: _with_zero(e.get_rewards(), extra)
            yield (
                Columns.TERMINATEDS,
                lambda e: _flag_at_end(len(e), extra, e.is_terminated),
            )
            yield (
                Columns.TRUNCATEDS,
                lambda e: _flag_at_end(len(e), extra, e.is_truncated),
            )
            for name in _common_outputs(episodes):
                yield (
                    name,
                    lambda e, name=name: _by_leaf(
                        repeat_last, _stacked(e.get_extra_model_outputs(name))
                    ),
                )

        for column, read in columns():
            if column not in batch:
                batch[column] = [read(episode) for episode in episodes]
        return batch


def _stacked(items):
    """One array (or one nest of arrays) from what an episode returns."""
    if isinstance(items, list):
        return tree.map_structure(lambda *leaves: np.stack(leaves), *items)
    return items


def _by_leaf(function, column):
    # A plain array saves the 5 us of a walk through a structure, 300 times a batch.
    if isinstance(column, np.ndarray):
        return function(column)
    return tree.map_structure(function, column)


def _with_zero(rewards, extra: int) -> np.ndarray:
    column = np.zeros(len(rewards) + extra, np.float32)
    column[: len(rewards)] = rewards
    return column


def _flag_at_end(length: int, extra: int, flag: bool) -> np.ndarray:
    column = np.zeros(length + extra, bool)
    column[length - 1] = flag
    return column


def _common_outputs(episodes) -> list[str]:
    first = list(episodes[0].extra_model_outputs) if episodes else []
    for index, episode in enumerate(episodes):
        if set(episode.extra_model_outputs) != set(first):
            raise BatchError(
                f"episodes[{index}]",
                f"model outputs {sorted(episode.extra_model_outputs)}",
                f"those of the first episode, {sorted(first)}",
                "do not mix episodes of different modules in one update",
            )
    return first
