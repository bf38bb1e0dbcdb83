"""Detects attributes that a loss changes while it is traced: that happens only once."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

MOST_LOOKED_AT = 100  # Of a container; one with more is taken to stay as it is.
_VALUES = (bool, int, float, str, bytes, type(None))
_PARTS = (*_VALUES, tuple)


@contextlib.contextmanager
def watched(learner: object, modules: Any) -> Iterator[None]:
    """Warns if attributes of a learner or its modules change while a step is traced.

    Numbers and texts are compared by value, containers by what they hold, everything
    else by identity.

    Args:
        learner: The learner.
        modules: Its modules by id.
    """
    before = {path: _seen(value) for path, value in _attributes(learner, modules)}
    yield
    for path, value in _attributes(learner, modules):
        if before.get(path) != _seen(value):
            break
    else:
        return
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
        f"{type(learner).__name__}: the update {what[0]} {path} while it was traced, "
        f"{what[1]}. Hint: {remedy}.",
        stacklevel=2,
    )


def _attributes(learner: object, modules: Any) -> Iterator[tuple[str, object]]:
    for name, value in vars(learner).items():
        yield f"self.{name}", value
    for module_id, module in modules.items():
        for name, value in vars(module.unwrapped()).items():
            if not name.startswith("_"):  # Those are Keras' own.
                yield f"self.module[{module_id!r}].{name}", value


def _seen(value: object) -> object:
    if isinstance(value, _VALUES):
        return value
    if isinstance(value, dict):
        value = [*value.items()]
    if isinstance(value, list | tuple | set) and len(value) < MOST_LOOKED_AT:
        return [_seen(each) if isinstance(each, _PARTS) else id(each) for each in value]
    return id(value)
