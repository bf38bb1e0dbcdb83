"""Counts and metrics of one update: its batches, its rows and its steps."""

import dataclasses

import numpy as np

from tflearner import constants
from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES
from tflearner.errors import NonFiniteUpdateError
from tflearner.intake import train_batch
from tflearner.intake.update_plan import UpdatePlan
from tflearner.metrics import MetricsLogger
from tflearner.types import ColumnsByModule, ModuleID


@dataclasses.dataclass
class UpdateRun:
    """Counts the batches of an update; keeps none of them.

    Attributes:
        num_trained: Batches that were trained on.
        num_skipped: Batches without data.
        module_ids: The modules that were updated, in order.
        not_finite: The error to raise in the end, if a module skipped too many steps.
    """

    num_trained: int = 0
    num_skipped: int = 0
    module_ids: dict[ModuleID, None] = dataclasses.field(default_factory=dict)
    not_finite: NonFiniteUpdateError | None = None

    def add(self, plan: UpdatePlan) -> None:
        """Notes that a batch, or a group of them, was trained on."""
        self.num_trained += len(plan.parts) or 1
        self.module_ids |= dict.fromkeys(plan.columns)

    def log(self, metrics: MetricsLogger, *, of_iterator: bool) -> None:
        """Logs the numbers of batches; of trained ones only for an iterator's."""
        if self.num_skipped:
            name = constants.LEARNER_UPDATE_SKIPPED_EMPTY_BATCH_LIFETIME
            metrics.log_value((ALL_MODULES, name), self.num_skipped, reduce="sum")
        if of_iterator:
            for name, ends in (
                (constants.DATASET_NUM_ITERS_TRAINED, True),
                (constants.DATASET_NUM_ITERS_TRAINED_LIFETIME, False),
            ):
                metrics.log_value(
                    (ALL_MODULES, name),
                    self.num_trained,
                    reduce="sum",
                    clear_on_reduce=ends,
                )


def log_steps_trained(
    metrics: MetricsLogger,
    columns: ColumnsByModule,
    env_steps: int,
    weights_seq_no: int,
) -> None:
    """Logs the rows of one update that count, not times epochs, and their sums.

    Args:
        metrics: The logger.
        columns: The columns of the modules that were updated.
        env_steps: The environment steps that the batch stands for.
        weights_seq_no: The number that the weights have after the update. Batches whose
            rows say with which weights they were sampled are told how much older those
            were: 1 where they are the ones before this update.
    """
    log = metrics.log_value
    for module_id, own in columns.items():
        mask, sampled_by = own.get(Columns.LOSS_MASK), own.get(Columns.WEIGHTS_SEQ_NO)
        steps = train_batch.num_valid_rows(own)
        log((module_id, constants.MODULE_TRAIN_BATCH_SIZE_MEAN), steps)
        if isinstance(sampled_by, np.ndarray) and steps:
            ages = weights_seq_no - sampled_by.astype(np.float64)
            age = ages[mask].mean() if isinstance(mask, np.ndarray) else ages.mean()
            name = constants.DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY
            log((module_id, name), age, window=1)
        for key in (module_id, ALL_MODULES):
            name = constants.NUM_MODULE_STEPS_TRAINED
            log((key, name), steps, reduce="sum", clear_on_reduce=True)
            name = constants.NUM_MODULE_STEPS_TRAINED_LIFETIME
            log((key, name), steps, reduce="sum")
    name = constants.NUM_ENV_STEPS_TRAINED
    log((ALL_MODULES, name), env_steps, reduce="sum", clear_on_reduce=True)
    name = constants.NUM_ENV_STEPS_TRAINED_LIFETIME
    log((ALL_MODULES, name), env_steps, reduce="sum", with_throughput=True)
