"""Adds advantages and value targets to a train batch."""

import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.connectors.connector import ConnectorV2
from tflearner.errors import BatchError
from tflearner.losses import returns
from tflearner.modules import inference
from tflearner.modules.apis import ValueFunctionAPI


class GeneralAdvantageEstimation(ConnectorV2):
    """Estimates advantages with GAE(lambda), one episode at a time.

    Needs the artificial rows of `AddOneTsToEpisodesAndTruncate`, whose values close the
    recursion, and takes them out of the batch. Modules without a value function pass
    through untouched.

    Reads:  OBS, REWARDS, TERMINATEDS, LOSS_MASK.
    Writes: ADVANTAGES, VALUE_TARGETS. float32 [N].

    Args:
        gamma: Discount per step.
        lambda_: 0 gives one-step TD errors, 1 gives Monte Carlo advantages.
    """

    def __init__(self, *, gamma: float, lambda_: float, **kwargs):
        super().__init__(**kwargs)
        self.gamma = gamma
        self.lambda_ = lambda_

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        for module_id, columns in batch.items():
            module = rl_module[module_id].unwrapped()
            if isinstance(module, ValueFunctionAPI):
                batch[module_id] = self._with_advantages(module_id, module, columns)
        return batch

    def _with_advantages(self, module_id, module, columns):
        if Columns.LOSS_MASK not in columns:
            raise BatchError(
                f"module {module_id!r}",
                "episodes without artificial last rows",
                "LOSS_MASK to tell the rows whose values close an episode",
                "put AddOneTsToEpisodesAndTruncate in front of the pipeline",
            )
        values = inference.value_function_of(module)(
            {Columns.OBS: columns[Columns.OBS]}
        )
        mask = columns[Columns.LOSS_MASK]
        real = np.flatnonzero(mask)
        columns = tree.map_structure(
            lambda column: column[real],
            {c: v for c, v in columns.items() if c != Columns.LOSS_MASK},
        )
        advantages = returns.generalized_advantages(
            rewards=columns[Columns.REWARDS],
            values=values[real],
            next_values=values[real + 1],
            terminateds=columns[Columns.TERMINATEDS],
            ends=~mask[real + 1],
            gamma=self.gamma,
            lambda_=self.lambda_,
        )
        columns[Columns.ADVANTAGES] = advantages
        columns[Columns.VALUE_TARGETS] = advantages + values[real]
        return columns


class StandardizeAdvantages(ConnectorV2):
    """Standardises advantages per module, over the rows that count.

        A = (A - mean(A)) / max(1e-4, std(A))

    RLlib takes the artificial rows into mean and deviation as well.

    Reads:  LOSS_MASK, if there is one.
    Writes: ADVANTAGES. float32 [N].
    """

    def __call__(self, *, batch, **kwargs):
        for columns in batch.values():
            if Columns.ADVANTAGES in columns:
                advantages = columns[Columns.ADVANTAGES]
                mask = columns.get(Columns.LOSS_MASK)
                counted = advantages if mask is None else advantages[mask]
                if len(counted):
                    columns[Columns.ADVANTAGES] = (advantages - counted.mean()) / max(
                        1e-4, counted.std()
                    )
        return batch
