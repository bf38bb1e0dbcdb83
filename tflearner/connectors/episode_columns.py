"""Reads the columns of a train batch from episodes, one array per episode each."""

import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.connectors.connector import ConnectorV2

# Set by `AddOneTsToEpisodesAndTruncate` for the pieces behind it.
BOOTSTRAP_ROWS = "bootstrap_rows"


class AddOneTsToEpisodesAndTruncate(ConnectorV2):
    """Adds one artificial last row per episode, for bootstrapping with its value.

    The row holds the episode's last observation; `LOSS_MASK` is False there. As in
    RLlib, the last real row counts as truncated unless the episode was terminated. That
    includes episodes that were merely cut. The episodes are not changed.

    Writes: LOSS_MASK, TRUNCATEDS. bool [T + 1] per episode.
    """

    def __call__(self, *, batch, episodes, shared_data, **kwargs):
        shared_data[BOOTSTRAP_ROWS] = True
        batch[Columns.LOSS_MASK] = [
            ~_flag_at_end(len(episode) + 1, 0, True) for episode in episodes
        ]
        batch[Columns.TRUNCATEDS] = [
            _flag_at_end(len(e), 1, e.is_truncated or not e.is_terminated)
            for e in episodes
        ]
        return batch


class AddObservationsFromEpisodesToBatch(ConnectorV2):
    """Adds the observations in which the episodes' actions were taken to the batch.

    Writes: OBS. [T, ...] per episode; [T + 1, ...] with artificial last rows.
    """

    def __call__(self, *, batch, episodes, shared_data, **kwargs):
        extra = 1 if shared_data.get(BOOTSTRAP_ROWS) else 0
        batch[Columns.OBS] = [
            stacked(episode.get_observations(slice(0, len(episode) + extra)))
            for episode in episodes
        ]
        return batch


class AddNextObservationsFromEpisodesToTrainBatch(ConnectorV2):
    """Adds the next observations, which followed the episodes' actions, to the batch.

    Belongs right behind `AddObservationsFromEpisodesToBatch`. Artificial last rows,
    which nothing follows, repeat the last observation.

    Writes: NEXT_OBS. [T, ...] or [T + 1, ...] per episode.
    """

    def __call__(self, *, batch, episodes, shared_data, **kwargs):
        extra = 1 if shared_data.get(BOOTSTRAP_ROWS) else 0
        batch[Columns.NEXT_OBS] = [
            _rows(episode.get_observations(slice(1, len(episode) + 1)), extra)
            for episode in episodes
        ]
        return batch


class AddColumnsFromEpisodesToTrainBatch(ConnectorV2):
    """Adds the episodes' actions, rewards, done flags and module outputs to the batch.

    Existing columns are not changed. Artificial last rows repeat the row before, with a
    reward of 0 and neither flag set. Episodes without an output that others have get
    `None` in its column. Module states, which are large, are added by
    `AddStatesFromEpisodesToBatch`.

    Writes: ACTIONS, REWARDS, TERMINATEDS, TRUNCATEDS and the modules' outputs but
    for STATE_OUT. [T, ...] or [T + 1, ...] per episode.
    """

    def __call__(self, *, batch, episodes, shared_data, **kwargs):
        extra, kept = 1 if shared_data.get(BOOTSTRAP_ROWS) else 0, {*batch}
        for index, e in enumerate(episodes):
            own = {}
            if Columns.ACTIONS not in kept:
                own[Columns.ACTIONS] = _rows(e.get_actions(), extra)
            if Columns.REWARDS not in kept:
                own[Columns.REWARDS] = _with_zero(e.get_rewards(), extra)
            for name, flag in (
                (Columns.TERMINATEDS, e.is_terminated),
                (Columns.TRUNCATEDS, e.is_truncated),
            ):
                if name not in kept:
                    own[name] = _flag_at_end(len(e), extra, flag)
            for name in e.extra_model_outputs:
                if name not in kept and name not in own and name != Columns.STATE_OUT:
                    own[name] = _rows(e.get_extra_model_outputs(name), extra)
            for name, column in own.items():
                batch.setdefault(name, [None] * len(episodes))[index] = column
        return batch


class ForgetModelOutputs(ConnectorV2):
    """Removes the outputs of the modules that acted, such as log-probabilities.

    Data of several origins may have unlike outputs, which do not fit into one batch.
    Belongs right behind `AddColumnsFromEpisodesToTrainBatch`.

    Removes: every column that an episode has as a model output.
    """

    def __call__(self, *, batch, episodes, **kwargs):
        outputs = {name for e in episodes for name in e.extra_model_outputs}
        return {name: own for name, own in batch.items() if name not in outputs}


def stacked(items):
    """Returns items of an episode as one array, or as one nest of arrays."""
    if isinstance(items, list):
        return tree.map_structure(lambda *leaves: np.stack(leaves), *items)
    return items


def _rows(items, extra: int):
    """Returns items of an episode as an array whose last row is repeated `extra` times."""
    column = stacked(items)
    if not extra:
        return column
    # A plain array saves the 5 us of a walk through a structure, 300 times a batch.
    if isinstance(column, np.ndarray):
        return np.concatenate([column, column[-1:]])
    return tree.map_structure(lambda leaf: np.concatenate([leaf, leaf[-1:]]), column)


def _with_zero(rewards, extra: int) -> np.ndarray:
    column = np.zeros(len(rewards) + extra, np.float32)
    column[: len(rewards)] = rewards
    return column


def _flag_at_end(length: int, extra: int, flag: bool) -> np.ndarray:
    column = np.zeros(length + extra, bool)
    column[length - 1 : length] = flag  # An empty slice, if there are no rows.
    return column
