"""Names for the types that travel through the library."""

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, TypeAlias

import numpy as np

ModuleID = str
AgentID = Hashable
EpisodeID = str

Tensor = Any  # A `tf.Tensor`; named so that NumPy-only files need no TensorFlow.
Param = Any  # A `tf.Variable` or a `keras.Variable`.
ParamRef = Hashable  # `variable.ref()`.
ParamDict = dict[ParamRef, Tensor]  # Flat: gradients or values by parameter.
Optimizer = Any  # A `keras.optimizers.Optimizer`.

# An array or tensor [N, ...], or nested dicts and tuples of such.
Column: TypeAlias = "np.ndarray | Tensor | Mapping[str, Column] | tuple[Column, ...]"
ColumnDict = dict[str, Column]  # The columns of one module, by name.
ColumnsByModule = dict[ModuleID, ColumnDict]  # A batch, or a minibatch of it.
Timesteps = dict[str, int]  # What was counted so far, such as environment steps.

LearningRateOrSchedule = float | list[list[float]] | list[tuple[float, float]]
ShouldModuleBeUpdatedFn = Collection[ModuleID] | Callable[..., bool] | None

ResultDict = dict[str, Any]  # Nested; leaves are Python numbers or `Stats`.
StateDict = dict[str, Any]  # Nested; leaves are NumPy arrays and plain Python.
