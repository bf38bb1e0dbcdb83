"""Counts the consecutive non-finite gradient steps that modules skipped."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tflearner.errors import NonFiniteUpdateError
from tflearner.types import ModuleID


class SkippedRun(NamedTuple):
    """Consecutive non-finite gradient steps that a module skipped.

    Attributes:
        module_id: The module, or `ALL_MODULES` for optimizers under that name.
        num_steps: The number of steps, including those of earlier batches.
        first: The number of the minibatch it began with; `None` in an earlier batch.
        last: The number of the last of its minibatches in this batch.
        num_minibatches: How many minibatches the batch had.
    """

    module_id: ModuleID
    num_steps: int
    first: int | None
    last: int
    num_minibatches: int

    def error(
        self, first_bad: str, *, overflowed: bool = False
    ) -> NonFiniteUpdateError:
        """Returns the error to raise.

        Args:
            first_bad: The name of the first non-finite tensor.
            overflowed: Whether new weights were non-finite, instead of a loss or
                gradients.
        """
        what = "new weights" if overflowed else "loss or gradients"
        began = "that began in an earlier batch"
        if self.first is not None:
            began = f"from minibatch {self.first} of {self.num_minibatches} on"
        steps = "gradient step" if self.num_steps == 1 else "gradient steps in a row"
        return NonFiniteUpdateError(
            f"module {self.module_id!r}",
            f"non-finite {what} in {self.num_steps} {steps}, "
            f"{began}; first bad tensor: {first_bad}",
            hint="its weights were not changed in those steps, while those of "
            "other modules were updated; follow that tensor back, lower lr or set "
            "grad_clip",
            unchanged=False,
            module_id=self.module_id,
            num_steps=self.num_steps,
            minibatch=self.first,
            first_bad=first_bad,
        )


def count_runs(
    in_a_row: dict[ModuleID, int], flags: Mapping[ModuleID, np.ndarray]
) -> list[SkippedRun]:
    """Counts the minibatches of one batch; returns the runs of skipped steps.

    A step that is taken sets its module's count back to 0; a module that takes no part
    in an update keeps it.

    Args:
        in_a_row: Skipped steps in a row up to now, by module; changed in place.
        flags: Which steps each module skipped. bool [num_minibatches]
    """
    runs = []
    for module_id, is_skipped in flags.items():
        before = in_a_row.pop(module_id, 0)
        bounds = np.flatnonzero(np.diff(is_skipped, prepend=False, append=False))
        for start, end in bounds.reshape(-1, 2).tolist():
            continues = start == 0 and before > 0
            run = SkippedRun(
                module_id,
                num_steps=end - start + before * continues,
                first=None if continues else start,
                last=end - 1,
                num_minibatches=len(is_skipped),
            )
            runs.append(run)
            if end == len(is_skipped):
                in_a_row[module_id] = run.num_steps
    return runs
