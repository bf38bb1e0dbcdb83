"""Skips the steps of modules whose loss or gradients are non-finite.

A guard takes the step: `guard.step(apply, gradients)`. There are three:

* `NoGuard` lets every optimizer step;
* `AskingGuard` makes each optimizer ask first, by `gradients.may_step`;
* `RevertingGuard` lets all of them step and undoes steps afterwards, where asking is not
  possible.

In time above that of a step without a guard, asking takes 3.5 % in the XLA loop around
small networks, 4 to 8 % in a plain loop and nothing that shows next to convolutions;
reverting takes 5 to 10, 53 and 40 %.
"""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tflearner.engine.gradients import Gradients, global_norm, sum_of_squares
from tflearner.engine.optimizers import (
    OptimizerRecord,
    tf_variable,
    variables_of_steps,
)
from tflearner.types import ModuleID, ParamDict, ParamRef, Tensor

Apply = Callable[[ParamDict], None]


class NoGuard:
    """Lets every optimizer step.

    Attributes:
        is_healthy: Empty: no module is looked at.
    """

    is_healthy: Mapping[ModuleID, Tensor] = {}

    def step(self, apply: Apply, gradients: ParamDict) -> None:
        """Lets the optimizers step.

        Args:
            apply: Lets every optimizer step that has gradients.
            gradients: The postprocessed gradients.
        """
        apply(gradients)


class AskingGuard(NoGuard):
    """Lets those optimizers step whose modules have finite losses and gradients.

    Modules whose optimizers have variables in common step together or not at all.
    Healthy modules stay bit-equal to a run without the others.

    Args:
        losses: Scalar loss by module.
        gradients: Gradients by parameter reference, before clipping.
        records: The optimizers of the step.
        is_clipped: Whether a module's gradients are clipped before they are applied.

    Attributes:
        is_healthy: Whether a module's loss and gradients are finite, bool scalar by
            module.
    """

    def __init__(
        self,
        losses: Mapping[ModuleID, Tensor],
        gradients: ParamDict,
        records: Sequence[OptimizerRecord],
        is_clipped: Callable[[ModuleID], bool],
    ):
        self.is_healthy: dict[ModuleID, Tensor] = {}
        everywhere = tf.reduce_all([tf.math.is_finite(x) for x in losses.values()])
        self._records = [
            r for r in records if any(_given(gradients, ref) for ref in r.params)
        ]
        for record in self._records:
            own = [gradients[ref] for ref in record.params if _given(gradients, ref)]
            # Optimizers square gradients, so an overflowing square is as bad as an
            # infinite gradient, unless clipping makes it small.
            bounded = is_clipped(record.module_id)
            size = global_norm(own) if bounded else sum_of_squares(own)
            loss = losses.get(record.module_id)
            finite = everywhere if loss is None else tf.math.is_finite(loss)
            healthy = finite & tf.math.is_finite(size)
            previous = self.is_healthy.get(record.module_id, True)
            self.is_healthy[record.module_id] = healthy & previous

    def step(self, apply: Apply, gradients: ParamDict) -> None:
        apply(Gradients(gradients, self.may_step))

    def may_step(self, record: OptimizerRecord) -> Tensor:
        """Returns whether an optimizer may step. bool scalar."""
        first, *others = _sharing_with(record, self._records)
        healthy = self.is_healthy[first]
        for module_id in others:
            healthy &= self.is_healthy[module_id]
        return healthy


class RevertingGuard(AskingGuard):
    """Undoes the steps of modules whose losses or gradients are non-finite.

    Args:
        *args: As for `AskingGuard`.
        assign: Assigns values to variables.
    """

    def __init__(self, *args, assign: Callable[[list, list[Tensor]], None]):
        super().__init__(*args)
        self._assign = assign

    def step(self, apply: Apply, gradients: ParamDict) -> None:
        # A loss scale is not saved. Its optimizer lowers it after a step with infinite
        # gradients; with the old value back it would always stay too high.
        saved = [
            (record, variable, tf.identity(variable))
            for record in self._records
            for variable in map(
                tf_variable,
                [*record.params.values(), *variables_of_steps(record.optimizer)],
            )
        ]
        apply(gradients)
        values = [tf.where(self.may_step(r), new, old) for r, new, old in saved]
        self._assign([variable for _, variable, _ in saved], values)


def _sharing_with(
    record: OptimizerRecord, records: Sequence[OptimizerRecord]
) -> list[ModuleID]:
    """The modules that share variables with a record's, and with those, and so on."""
    found, left = [record], [other for other in records if other is not record]
    for one in found:  # Grows while it is gone through.
        found += [r for r in left if not r.params.keys().isdisjoint(one.params)]
        left = [r for r in left if r.params.keys().isdisjoint(one.params)]
    return sorted({one.module_id for one in found})


def _given(gradients: ParamDict, ref: ParamRef) -> bool:
    return gradients.get(ref) is not None
