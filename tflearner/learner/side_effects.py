"""Finds what a loss does to its learner besides computing: that happens while tracing."""

import warnings
from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def snapshot(owner: Any) -> dict[str, Any]:
    """Returns what an object's attributes are now, as far as a change can be seen.

    Numbers and texts by value, containers by length, everything else by identity.
    """
    return {name: _seen(value) for name, value in vars(owner).items()}


def warn_of_changes(owner: Any, before: Mapping[str, Any]) -> None:
    """Warns if attributes changed since `snapshot`, while an update was traced."""
    after = snapshot(owner)
    changed = [name for name, seen in after.items() if before.get(name) != seen]
    if not changed:
        return
    name = changed[0]
    value = getattr(owner, name)
    if any(tf.is_tensor(leaf) for leaf in tf.nest.flatten(value)):
        what = "put a tensor into", "which has a value only there"
        remedy = "report it with self.metrics.log_value(key, tensor)"
    else:
        what = "changed", "which happens once, not in every step"
        remedy = (
            "keep numbers in self._get_tensor_variable(value) and assign those, report "
            "with self.metrics.log_value(key, tensor), or run_eagerly=True"
        )
    warnings.warn(
        f"{type(owner).__name__}: the update {what[0]} self.{name} while it was "
        f"traced, {what[1]}. Hint: {remedy}.",
        stacklevel=2,
    )


def _seen(value: Any) -> Any:
    if isinstance(value, bool | int | float | str | bytes | type(None)):
        return value
    if isinstance(value, list | dict | set | tuple):
        return id(value), len(value)
    return id(value)
