"""Concrete functions of modules, for acting and for values.

Each function returns all of its results in one call, because a Python-to-TensorFlow
call costs 0.25 to 0.7 ms whatever it computes.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tflearner import forks
from tflearner.columns import Columns
from tflearner.modules.acting import with_time_axis, without_time_axis
from tflearner.networks import tensorflow_settings
from tflearner.networks.half_precision import HALF_DTYPES
from tflearner.networks.tensors import from_numpy
from tflearner.types import Tensor

# The most bytes of observations for which values are predicted in one call.
BYTES_AT_ONCE = 2**21


class TracedActor:
    """Acts through one concrete function per mode (exploring, greedy).

    Args:
        module: A `TfRLModule`.
        draws: Whether to draw actions, besides computing `ACTION_DIST_INPUTS`.
    """

    def __init__(self, module: Any, *, draws: bool = True):
        self._module = module
        self._draws = draws
        half = " and ".join(sorted(module.compute_dtypes() & HALF_DTYPES))
        self.description = "one TensorFlow function" + (half and f", in {half}")
        self._functions: dict[bool, Any] = {}

    def refresh(self) -> None:
        """Checks TensorFlow's settings; the functions read the module's variables."""
        tensorflow_settings.check()

    def __call__(self, batch, *, explore: bool, rng: np.random.Generator):
        forks.check("sample()")
        if explore not in self._functions:
            self._functions[explore] = self._trace(batch, explore)
        seed = rng.integers(2**31, size=2, dtype=np.int32)
        columns = tf.nest.map_structure(tf.constant, dict(batch))
        outputs = self._functions[explore](columns, tf.constant(seed))
        return tf.nest.map_structure(lambda x: x.numpy(), outputs)

    def _trace(self, batch, explore: bool):
        def act(columns, seed):
            if Columns.STATE_IN not in columns:
                return outputs_of(columns, seed)
            return without_time_axis(outputs_of(with_time_axis(columns), seed))

        def outputs_of(columns, seed):
            if not explore:
                return self._module.forward_inference(columns)
            outputs = dict(self._module.forward_exploration(columns))
            is_open = Columns.ACTIONS not in outputs and self._draws
            if is_open and Columns.ACTION_DIST_INPUTS in outputs:
                dist_class = self._module.get_exploration_action_dist_cls()
                dist = dist_class.from_logits(outputs[Columns.ACTION_DIST_INPUTS])
                outputs[Columns.ACTIONS] = dist.sample(seed=seed)
                outputs[Columns.ACTION_LOGP] = dist.logp(outputs[Columns.ACTIONS])
            return outputs

        signature = tf.nest.map_structure(_any_rows, dict(batch))
        traced = tf.function(act, autograph=False)
        return traced.get_concrete_function(signature, tf.TensorSpec([2], tf.int32))


class ValueFunction:
    """Predicts values of NumPy columns through one concrete function per layout.

    Many rows go through it in pieces: what convolutions make of pixels on their way
    takes ten times the pixels' memory.
    """

    def __init__(self, module: Any):
        self._function = tf.function(
            lambda columns: module.compute_values(columns), autograph=False
        )
        self._concrete: dict[Any, Any] = {}

    def __call__(self, batch: dict[str, Any]) -> np.ndarray:
        """Returns float32 [N], or [N, T] for sequences."""
        leaves = tf.nest.flatten(batch)
        key = (tuple(batch), tuple((x.shape[1:], x.dtype) for x in leaves))
        if key not in self._concrete:
            signature = tf.nest.map_structure(_any_rows, batch)
            self._concrete[key] = self._function.get_concrete_function(signature)
        function = self._concrete[key]
        num_rows, num_bytes = len(leaves[0]), sum(x.nbytes for x in leaves)
        if num_bytes <= BYTES_AT_ONCE:
            return function(tf.nest.map_structure(from_numpy, batch)).numpy()
        size = max(1, num_rows * BYTES_AT_ONCE // num_bytes)
        pieces = []
        for start in range(0, num_rows, size):
            rows = slice(start, start + size)
            piece = tf.nest.map_structure(lambda x, at=rows: from_numpy(x[at]), batch)
            pieces.append(np.atleast_1d(function(piece).numpy()))
        return np.concatenate(pieces)


def value_function_of(module: Any) -> ValueFunction:
    """Returns the module's value function, made once and kept with the module."""
    if "_value_function" not in module.__dict__:
        module.__dict__["_value_function"] = ValueFunction(module)
    return module.__dict__["_value_function"]


def _any_rows(column: np.ndarray | Tensor) -> tf.TensorSpec:
    column = np.asarray(column)
    return tf.TensorSpec([None, *column.shape[1:]], column.dtype)
