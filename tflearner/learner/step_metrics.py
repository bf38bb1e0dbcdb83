"""The metrics that every learner reports: steps trained and parameter counts."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tflearner import constants
from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES
from tflearner.intake import train_batch
from tflearner.metrics import MetricsLogger
from tflearner.modules.rl_module import MultiRLModule
from tflearner.types import ModuleID


def log_steps_trained(
    metrics: MetricsLogger,
    columns: Mapping[ModuleID, Mapping[str, Any]],
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
        mask = own.get(Columns.LOSS_MASK)
        steps = train_batch.num_valid_rows(own)
        log((module_id, constants.MODULE_TRAIN_BATCH_SIZE_MEAN), steps)
        if Columns.WEIGHTS_SEQ_NO in own and steps:
            ages = weights_seq_no - own[Columns.WEIGHTS_SEQ_NO].astype(np.float64)
            age = ages.mean() if mask is None else ages[mask].mean()
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


def log_parameter_counts(
    metrics: MetricsLogger, modules: MultiRLModule, get_parameters: Callable
) -> None:
    """Logs trainable and other weights of every module and of all together.

    Args:
        metrics: The logger.
        modules: The modules.
        get_parameters: Returns the trainable variables of one.
    """
    counts = {}
    for module_id, module in modules.items():
        trainable = sum(_size(p) for p in get_parameters(module))
        everything = sum(_size(w) for w in getattr(module.unwrapped(), "weights", []))
        counts[module_id] = np.array([trainable, everything - trainable])
    counts[ALL_MODULES] = sum(counts.values(), np.zeros(2, int))
    for key, (trainable, frozen) in counts.items():
        name = constants.NUM_TRAINABLE_PARAMETERS
        metrics.set_value((key, name), int(trainable), window=1)
        name = constants.NUM_NON_TRAINABLE_PARAMETERS
        metrics.set_value((key, name), int(frozen), window=1)


def _size(variable: Any) -> int:
    return int(np.prod(variable.shape, dtype=int))
