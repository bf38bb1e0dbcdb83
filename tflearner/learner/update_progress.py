"""What an update has done so far: the batches of an iterator come one by one."""

import dataclasses

from tflearner import constants
from tflearner.constants import ALL_MODULES
from tflearner.errors import NonFiniteUpdateError
from tflearner.intake.update_plan import UpdatePlan
from tflearner.metrics import MetricsLogger
from tflearner.types import ModuleID


@dataclasses.dataclass
class UpdateProgress:
    """Counts the batches of an update; keeps none of them.

    Attributes:
        num_trained: Batches that were trained on.
        num_skipped: Batches without data.
        module_ids: The modules that were updated, in order.
        not_finite: What to raise in the end, if a module left too many steps out.
    """

    num_trained: int = 0
    num_skipped: int = 0
    module_ids: dict[ModuleID, None] = dataclasses.field(default_factory=dict)
    not_finite: NonFiniteUpdateError | None = None

    def add(self, plan: UpdatePlan) -> None:
        """Notes that a batch was trained on."""
        self.num_trained += 1
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
