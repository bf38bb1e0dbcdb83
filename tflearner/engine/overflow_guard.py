"""Puts back modules whose variables became infinite during an update.

Finite gradients can still overflow variables: by a large learning rate, a momentum that
adds up, or the statistics that a layer keeps of its inputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from tflearner.engine.gradients import sum_of_squares
from tflearner.types import ModuleID, ParamRef, Tensor


class Group(NamedTuple):
    """Modules that share variables, and so are put back together.

    Attributes:
        module_ids: The modules, or `ALL_MODULES` for optimizers under that name.
        variables: The variables that an update may change.
    """

    module_ids: tuple[ModuleID, ...]
    variables: tuple[tf.Variable, ...]


class OverflowGuard:
    """Checks variables once per update, after all of its gradient steps.

    `save` costs no further copy. While the old values are in use, the first gradient
    step writes into new memory anyway.

    Args:
        variables: The variables that an update may change, by module: weights, and the
            variables of their optimizers.

    Attributes:
        groups: The modules, grouped by the variables that they share.
    """

    def __init__(self, variables: Mapping[ModuleID, Iterable[tf.Variable]]):
        self.groups = _groups(variables)

    def save(self) -> list[list[Tensor]]:
        """Returns the values of all variables, for `put_back`."""
        return [[tf.identity(v) for v in group.variables] for group in self.groups]

    def put_back(self, saved: Sequence[Sequence[Tensor]]) -> Tensor:
        """Puts back each group in which a finite number became infinite or NaN.

        Args:
            saved: What `save` returned before the update.

        Returns:
            For each group the position of its first such variable, or -1 if the group
            was not put back. int32 [num_groups]
        """
        found = [_put_back(*pair) for pair in zip(self.groups, saved, strict=True)]
        return tf.stack(found) if found else tf.zeros([0], tf.int32)


def _put_back(group: Group, saved: Sequence[Tensor]) -> Tensor:
    values = [tf.convert_to_tensor(variable) for variable in group.variables]

    def look_closer() -> Tensor:
        # A number that was infinite before is meant to be, like the -inf of a mask.
        lost = tf.stack(
            [
                tf.reduce_any(_is_finite(before) & ~_is_finite(now))
                for before, now in zip(saved, values)
            ]
        )
        is_lost = tf.reduce_any(lost)
        for variable, before, now in zip(group.variables, saved, values):
            variable.assign(tf.where(is_lost, before, now))
        first = tf.argmax(tf.cast(lost, tf.int32), output_type=tf.int32)
        return tf.where(is_lost, first, -1)

    # Squares can overflow where numbers do not; that only costs the closer look.
    floats = [value for value in values if value.dtype.is_floating]
    seems_finite = tf.math.is_finite(sum_of_squares(floats)) if floats else True
    return tf.cond(seems_finite, lambda: tf.constant(-1), look_closer)


def _is_finite(value: Tensor) -> Tensor:
    if value.dtype.is_floating:
        return tf.math.is_finite(value)
    return tf.ones_like(value, tf.bool)


def _groups(variables: Mapping[ModuleID, Iterable[tf.Variable]]) -> list[Group]:
    groups: list[tuple[list[ModuleID], dict[ParamRef, tf.Variable]]] = []
    for module_id, own in variables.items():
        ids, by_ref = [module_id], {variable.ref(): variable for variable in own}
        apart = []
        for other in groups:
            if by_ref.keys().isdisjoint(other[1]):
                apart.append(other)
            else:
                ids, by_ref = [*other[0], *ids], {**other[1], **by_ref}
        groups = [*apart, (ids, by_ref)]
    return [Group(tuple(ids), tuple(own.values())) for ids, own in groups if own]
