"""Adds advantages and value targets to a train batch."""

import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.connectors.batching import OWN_ARRAYS
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.episode_columns import BOOTSTRAP_ROWS
from tflearner.data import arrays
from tflearner.errors import BatchError, ModuleError
from tflearner.losses import returns
from tflearner.modules import inference
from tflearner.modules.apis import ValueFunctionAPI

LARGE = 2**20  # Below that, packing costs more time than it saves memory.


class GeneralAdvantageEstimation(ConnectorV2):
    """Estimates advantages with GAE(lambda), one episode at a time.

    It needs the artificial rows of `AddOneTsToEpisodesAndTruncate` to bootstrap, and
    removes them from the batch. Sequences keep theirs, masked by LOSS_MASK, but a
    sequence with nothing else is removed. Modules without a value function are skipped.

    Reads:  OBS, REWARDS, TERMINATEDS, LOSS_MASK; of sequences, STATE_IN and SEQ_LENS.
    Writes: ADVANTAGES, VALUE_TARGETS. float32 [N]; of sequences [S, L], 0 where
    LOSS_MASK is False.

    Args:
        gamma: Discount per step.
        lambda_: 0 gives one-step TD errors, 1 gives Monte Carlo advantages.
    """

    def __init__(self, *, gamma: float, lambda_: float, **kwargs):
        super().__init__(**kwargs)
        self.gamma = gamma
        self.lambda_ = lambda_

    def __call__(self, *, rl_module, batch, episodes, shared_data, **kwargs):
        for module_id, columns in batch.items():
            module = rl_module[module_id].unwrapped()
            if isinstance(module, ValueFunctionAPI):
                if not shared_data.get(BOOTSTRAP_ROWS):
                    raise BatchError(
                        f"module {module_id!r}",
                        "episodes without artificial last rows",
                        "such rows, whose values close an episode",
                        "put AddOneTsToEpisodesAndTruncate in front of the pipeline",
                    )
                own = shared_data.get(OWN_ARRAYS, ())
                batch[module_id] = self._with_advantages(
                    module_id, module, columns, own
                )
        return batch

    def _with_advantages(self, module_id, module, columns, own):
        inputs = {Columns.OBS: columns[Columns.OBS]}
        if Columns.STATE_IN in columns:
            inputs[Columns.STATE_IN] = columns[Columns.STATE_IN]
        values = inference.value_function_of(module)(inputs)
        mask = columns[Columns.LOSS_MASK]
        if values.shape != mask.shape:
            raise ModuleError(
                f"module {module_id!r}, compute_values()",
                f"shape {values.shape}",
                f"{mask.shape}, one value per row",
            )
        if Columns.SEQ_LENS in columns:
            return self._of_sequences(columns, values, own)
        real, estimates = self._estimates(columns, values)
        columns = dict(columns)
        del columns[Columns.LOSS_MASK]
        return _kept(columns, real, own) | estimates

    def _of_sequences(self, columns, values, own):
        mask = columns[Columns.LOSS_MASK]  # [S, L], as all that follow.
        is_row = np.arange(mask.shape[1]) < columns[Columns.SEQ_LENS][:, None]
        read = (Columns.REWARDS, Columns.TERMINATEDS, Columns.LOSS_MASK)
        rows = {column: columns[column][is_row] for column in read}
        _, estimates = self._estimates(rows, values[is_row])
        columns = dict(columns)
        for column, estimate in estimates.items():
            columns[column] = np.zeros(mask.shape, np.float32)
            columns[column][mask] = estimate
        return _kept(columns, np.flatnonzero(mask.any(axis=1)), own)

    def _estimates(self, columns, values):
        """Returns where the real rows are, and the new columns of these. All [N]."""
        mask = columns[Columns.LOSS_MASK]
        real = np.flatnonzero(mask)
        advantages = returns.generalized_advantages(
            rewards=columns[Columns.REWARDS][real],
            values=values[real],
            next_values=values[real + 1],
            terminateds=columns[Columns.TERMINATEDS][real],
            ends=~mask[real + 1],
            gamma=self.gamma,
            lambda_=self.lambda_,
        )
        return real, {
            Columns.ADVANTAGES: advantages,
            Columns.VALUE_TARGETS: advantages + values[real],
        }


def _kept(columns, rows, own):
    """Returns columns that have only the given rows, or sequences.

    Large arrays of the batch's own are packed in place. A second array of pixels would
    make the largest moment of an update half as large again.
    """
    leaves = tree.flatten(columns)

    def kept(column):
        if len(rows) == len(column):
            return column
        is_own = column.nbytes >= LARGE and any(column is x for x in own)
        if is_own and sum(np.may_share_memory(column, x) for x in leaves) == 1:
            return arrays.pack(column, rows)
        # An index would take 47 us for 2,048 rows of 4 numbers, this takes 3.
        return column.take(rows, axis=0)

    return tree.map_structure(kept, columns)


class StandardizeAdvantages(ConnectorV2):
    """Standardises advantages per module, over the rows that count.

        A = (A - mean(A)) / max(1e-4, std(A))

    RLlib takes the artificial rows into mean and deviation as well.

    Reads:  LOSS_MASK, if there is one; rows that it masks stay as they are.
    Writes: ADVANTAGES. float32 [N], or [S, L] for sequences.
    """

    def __call__(self, *, batch, **kwargs):
        for columns in batch.values():
            if Columns.ADVANTAGES in columns:
                advantages = columns[Columns.ADVANTAGES]
                mask = columns.get(Columns.LOSS_MASK)
                counted = advantages if mask is None else advantages[mask]
                if counted.size:
                    scale = max(1e-4, counted.std())
                    standardized = (advantages - counted.mean()) / scale
                    if mask is not None:
                        standardized = np.where(mask, standardized, advantages)
                    columns[Columns.ADVANTAGES] = standardized
        return batch
