"""Acting fast: what an environment runner calls once per vector step.

A Python-to-TensorFlow call costs 0.25 to 0.7 ms whatever it computes, so default modules
without convolutions act through a NumPy copy and every other TensorFlow module through
one concrete function that returns actions, log-probabilities and distribution inputs
together.

A module that computes in half precision acts through a function, too: log-probabilities
are then those of its forward pass in training, to the bit unless XLA compiles that. A
float32 copy's differ, with two layers of 64 units by 0.0006 to 0.013 on average in
bfloat16 and 0.00005 to 0.001 in float16. (XLA on CPUs rounds bfloat16 less often, so
that its log-probabilities differ as much from both, those in float16 by 1e-7.)

A module with a state sees sequences of one step, [N, 1, ...]; actors add the time axis
to all columns but STATE_IN, and take it away from all outputs but STATE_OUT.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.modules.half_precision import HALF_DTYPES
from tflearner.modules.rl_module import RLModule
from tflearner.modules.tensors import from_numpy
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.types import Tensor

# The most bytes of observations that values are predicted of in one call.
BYTES_AT_ONCE = 2**21


def make_actor(module: RLModule, *, draws: bool = True):
    """Returns the fastest way to act with `module`.

    The result is called as `actor(batch, explore=..., rng=...)` with NumPy columns and
    returns NumPy columns; `refresh()` makes it use the module's present weights.

    Args:
        module: What acts.
        draws: Whether actions may be drawn along with what they are drawn from; not if
            somebody changes `ACTION_DIST_INPUTS` first.
    """
    if not isinstance(module, TfRLModule):
        return ModuleActor(module)
    numpy_policy = getattr(module, "numpy_policy", None)
    if numpy_policy is not None and numpy_policy() is not None:
        return NumpyActor(module)
    return TracedActor(module, draws=draws)


class ModuleActor:
    """Acts by calling the module itself: for scripted modules without TensorFlow."""

    description = "the module itself"

    def __init__(self, module: RLModule):
        self._module = module

    def refresh(self) -> None:
        """Does nothing: the module is called directly."""

    def __call__(self, batch, *, explore: bool, rng: np.random.Generator):
        if Columns.STATE_IN not in batch:
            return self._forward(batch, explore)
        return _without_time_axis(self._forward(_with_time_axis(batch), explore))

    def _forward(self, batch, explore: bool):
        if explore:
            return self._module.forward_exploration(batch)
        return self._module.forward_inference(batch)


class NumpyActor:
    """Acts with a NumPy copy of a policy."""

    description = "NumPy copy of the policy"

    def __init__(self, module: Any):
        self._module = module
        self.refresh()

    def refresh(self) -> None:
        """Makes the next calls copy the module's weights."""
        self._policies: dict[bool, Any] = {}

    def __call__(self, batch, *, explore: bool, rng: np.random.Generator):
        if explore not in self._policies:
            self._policies[explore] = self._module.numpy_policy(explore)
        policy = self._policies[explore]
        if Columns.STATE_IN not in batch:
            return {Columns.ACTION_DIST_INPUTS: policy(batch[Columns.OBS])}
        inputs, state = policy(batch[Columns.OBS], batch[Columns.STATE_IN])
        return {Columns.ACTION_DIST_INPUTS: inputs, Columns.STATE_OUT: state}


class TracedActor:
    """Acts through one concrete function per mode (exploring, greedy)."""

    def __init__(self, module: TfRLModule, *, draws: bool = True):
        self._module = module
        self._draws = draws
        half = " and ".join(sorted(module.compute_dtypes() & HALF_DTYPES))
        self.description = "one TensorFlow function" + (half and f", in {half}")
        self._functions: dict[bool, Any] = {}

    def refresh(self) -> None:
        """Does nothing: the functions read the module's variables."""

    def __call__(self, batch, *, explore: bool, rng: np.random.Generator):
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
            return _without_time_axis(outputs_of(_with_time_axis(columns), seed))

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


def _with_time_axis(columns: dict[str, Any]) -> dict[str, Any]:
    """Turns [N, ...] into sequences of one step, [N, 1, ...], all but STATE_IN."""
    return {
        name: column
        if name == Columns.STATE_IN
        else tf.nest.map_structure(lambda x: x[:, None], column)
        for name, column in columns.items()
    }


def _without_time_axis(outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: output
        if name == Columns.STATE_OUT
        else tf.nest.map_structure(lambda x: x[:, 0], output)
        for name, output in outputs.items()
    }


def _any_rows(column: np.ndarray | Tensor) -> tf.TensorSpec:
    column = np.asarray(column)
    return tf.TensorSpec([None, *column.shape[1:]], column.dtype)
