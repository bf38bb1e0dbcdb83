"""How many gradient steps in a row each module had to leave out."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tflearner import constants
from tflearner.errors import NonFiniteUpdateError
from tflearner.types import ModuleID


class SickRun(NamedTuple):
    """Gradient steps in a row that a module left out: something was not finite.

    Attributes:
        module_id: The module, or `ALL_MODULES` for optimizers under that name.
        num_steps: How many they are, those of earlier batches included.
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
            first_bad: The name of the first tensor that was not finite.
            overflowed: Whether new weights were not finite, and not a loss or
                gradients.
        """
        what = "new weights" if overflowed else "a loss or gradients"
        began = "that began in an earlier batch"
        if self.first is not None:
            began = f"from minibatch {self.first} of {self.num_minibatches} on"
        steps = "gradient step" if self.num_steps == 1 else "gradient steps in a row"
        return NonFiniteUpdateError(
            f"module {self.module_id!r}",
            f"{what} that are not finite in {self.num_steps} {steps}, "
            f"{began}; first bad tensor: {first_bad}",
            hint="its weights were left as they were in those steps, while those of "
            "other modules were updated; follow that tensor back, lower lr or set "
            "grad_clip",
            unchanged=False,
            module_id=self.module_id,
            num_steps=self.num_steps,
            minibatch=self.first,
            first_bad=first_bad,
        )


class SickSteps:
    """Counts the gradient steps in a row that modules left out, up to now.

    A step that is taken sets its module's count back to 0; a module that takes no part
    in an update keeps it.

    Attributes:
        in_a_row: The counts above 0, by module.
    """

    def __init__(self) -> None:
        self.in_a_row: dict[ModuleID, int] = {}

    def add(
        self, values: Mapping[tuple[str, ...], np.ndarray], limit: int | None
    ) -> SickRun | None:
        """Counts the minibatches of one batch.

        Args:
            values: What its gradient steps logged, by key. [num_minibatches]
            limit: How many in a row are too many; `None` allows any number.

        Returns:
            The first run of the first module that had too many; `None` if none had.
        """
        found = []
        for key, flags in values.items():
            if key[1:] == (constants.NUM_NON_FINITE_UPDATES_LIFETIME,):
                runs = self._add_to(key[0], flags > 0)
                found += [r for r in runs if limit is not None and r.num_steps >= limit]
        return found[0] if found else None

    def _add_to(self, module_id: ModuleID, is_sick: np.ndarray) -> list[SickRun]:
        """Counts the minibatches of one module; returns its runs. bool [N]"""
        before = self.in_a_row.pop(module_id, 0)
        if not is_sick.any():
            return []
        bounds = np.flatnonzero(np.diff(is_sick, prepend=False, append=False))
        runs = []
        for start, end in bounds.reshape(-1, 2).tolist():
            goes_on = start == 0 and before > 0
            runs.append(
                SickRun(
                    module_id,
                    num_steps=end - start + before * goes_on,
                    first=None if goes_on else start,
                    last=end - 1,
                    num_minibatches=len(is_sick),
                )
            )
        if is_sick[-1]:
            self.in_a_row[module_id] = runs[-1].num_steps
        return runs
