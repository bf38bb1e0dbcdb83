"""What a module can do beyond acting: the interfaces that learners ask for."""

import abc
from typing import Any

from tflearner.types import Tensor


class ValueFunctionAPI(abc.ABC):
    """A module that predicts returns."""

    @abc.abstractmethod
    def compute_values(
        self, batch: dict[str, Any], embeddings: Tensor | None = None
    ) -> Tensor:
        """Returns value predictions.

        Args:
            batch: The columns of one module, at least `Columns.OBS`.
            embeddings: What `forward_train` put out under `Columns.EMBEDDINGS`, if it
                did; saves computing it again.

        Returns:
            float [B], or [B, T] for sequences.
        """
