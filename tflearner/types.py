"""Names for the types that travel through the library."""

from collections.abc import Callable, Collection, Hashable
from typing import Any

ModuleID = str
AgentID = Hashable
EpisodeID = str

Tensor = Any  # A `tf.Tensor`; named so that NumPy-only files need no TensorFlow.
Param = Any  # A `tf.Variable` or a `keras.Variable`.
ParamRef = Hashable  # `variable.ref()`.
ParamDict = dict[ParamRef, Tensor]  # Flat: gradients or values by parameter.
Optimizer = Any  # A `keras.optimizers.Optimizer`.

LearningRateOrSchedule = float | list[list[float]] | list[tuple[float, float]]
ShouldModuleBeUpdatedFn = Collection[ModuleID] | Callable[..., bool] | None

ResultDict = dict[str, Any]  # Nested; leaves are Python numbers or `Stats`.
StateDict = dict[str, Any]  # Nested; leaves are NumPy arrays and plain Python.
