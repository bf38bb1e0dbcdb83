"""What an update has done so far: the batches of an iterator come one by one."""

import dataclasses
from typing import Any

from tflearner import constants
from tflearner.constants import ALL_MODULES
from tflearner.errors import NumericError
from tflearner.learner.update_plan import UpdatePlan
from tflearner.metrics import MetricsLogger
from tflearner.types import ModuleID


@dataclasses.dataclass
class UpdateProgress:
    """Counts the batches of an update; keeps none of them.

    Attributes:
        num_trained: Batches that were trained on.
        num_skipped: Batches without data.
        module_ids: The modules that were updated, in order.
        not_finite: The first loss or gradients that were not finite.
    """

    num_trained: int = 0
    num_skipped: int = 0
    module_ids: dict[ModuleID, None] = dataclasses.field(default_factory=dict)
    not_finite: NumericError | None = None

    def add(self, plan: UpdatePlan, outputs: Any) -> None:
        """Notes that a batch was trained on."""
        self.num_trained += 1
        self.module_ids |= dict.fromkeys(plan.columns)
        for key, sick in outputs.values.items():
            counts = key[1:] == (constants.NUM_NON_FINITE_UPDATES_LIFETIME,)
            if counts and sick.any() and self.not_finite is None:
                self.not_finite = NumericError(
                    f"module {key[0]!r}",
                    f"a loss or gradients that are not finite in {int(sick.sum())} "
                    f"of {len(sick)} minibatches, the first in number "
                    f"{int(sick.argmax())}",
                    hint="its weights were left as they were in those minibatches",
                    unchanged=False,
                )

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
