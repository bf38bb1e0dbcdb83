"""What BC and MARWIL share: the data, and the loop that learns from them."""

import dataclasses
from dataclasses import field
from typing import ClassVar

from tflearner import setting_names
from tflearner.algorithms.algorithm import Algorithm
from tflearner.config import TRAINING, AlgorithmConfig
from tflearner.distributed.learner_group import LearnerGroup
from tflearner.setting_names import Names
from tflearner.types import LearningRateOrSchedule


@dataclasses.dataclass
class OfflineConfig(AlgorithmConfig):
    """Settings of algorithms that learn from data and never sample any."""

    renamed: ClassVar[Names] = setting_names.OFFLINE

    # --- training: optimisation ---
    lr: LearningRateOrSchedule = field(default=1e-4, metadata=TRAINING)
    """Adam's step size, or a schedule `[[timestep, value], ...]` in steps of the data."""
    train_batch_size_per_learner: int = field(default=2000, metadata=TRAINING)
    """Rows per gradient step."""

    def get_default_learner_group_class(self) -> type:
        return LearnerGroup


class OfflineAlgorithm(Algorithm):
    """Data, a learner, and the loop around them."""

    config: OfflineConfig
