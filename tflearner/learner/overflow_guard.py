"""Puts modules back whose variables an update made infinite.

A gradient step from finite gradients can overflow all the same: its learning rate is too
large, a momentum adds up, or a layer keeps statistics of what it saw.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tflearner.learner.gradients import sum_of_squares
from tflearner.types import ModuleID, Tensor


class Group(NamedTuple):
    """Modules that have variables in common, and are put back together.

    Attributes:
        module_ids: The modules, or `ALL_MODULES` for optimizers under that name.
        variables: What an update may change of them.
    """

    module_ids: tuple[ModuleID, ...]
    variables: tuple[tf.Variable, ...]


class OverflowGuard:
    """Looks at variables once for an update, when all of its gradient steps are taken.

    The copies that `save` takes are made anyway, by the first gradient step: it writes
    into new memory while the old one is in use.

    Args:
        variables: What an update may change, by module: weights, and the variables of
            their optimizers.

    Attributes:
        groups: The modules, together with those that they share variables with.
    """

    def __init__(self, variables: Mapping[ModuleID, Iterable[tf.Variable]]):
        self.groups = _groups(variables)

    def save(self) -> list[list[Tensor]]:
        """Returns the values of all variables, for `put_back`."""
        return [[tf.identity(v) for v in group.variables] for group in self.groups]

    def put_back(self, saved: Sequence[Sequence[Tensor]]) -> Tensor:
        """Puts each group back of which a number stopped being finite.

        Args:
            saved: What `save` returned before the update.

        Returns:
            The position of a group's first such variable, or -1 if the group stays as it
            is. int32 [num_groups]
        """
        found = [_put_back(*pair) for pair in zip(self.groups, saved, strict=True)]
        return tf.stack(found) if found else tf.zeros([0], tf.int32)


def _put_back(group: Group, saved: Sequence[Tensor]) -> Tensor:
    values = [tf.convert_to_tensor(variable) for variable in group.variables]

    def look_closer() -> Tensor:
        # What was not finite before is meant to be so, like the -inf of a mask.
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

    # Squares overflow before their roots do; that costs a closer look, no more.
    floats = [value for value in values if value.dtype.is_floating]
    seems_finite = tf.math.is_finite(sum_of_squares(floats)) if floats else True
    return tf.cond(seems_finite, lambda: tf.constant(-1), look_closer)


def _is_finite(value: Tensor) -> Tensor:
    if value.dtype.is_floating:
        return tf.math.is_finite(value)
    return tf.ones_like(value, tf.bool)


def _groups(variables: Mapping[ModuleID, Iterable[tf.Variable]]) -> list[Group]:
    groups: list[tuple[list[ModuleID], dict[Any, tf.Variable]]] = []
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
