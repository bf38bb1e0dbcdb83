"""Actors, which an environment runner calls once per vector step.

A Python-to-TensorFlow call costs 0.25 to 0.7 ms whatever it computes. So modules whose
layers all have a NumPy form act through a copy of their policy (`NumpyPolicy`), and other
TensorFlow modules through one concrete function (`inference.TracedActor`).

A module in half precision acts through a function, too. Its log-probabilities then
equal those of its forward pass in training to the bit, unless XLA compiles that pass.
Those of a float32 copy would differ: with two layers of 64 units, on average by 0.0006
to 0.013 in bfloat16 and by 0.00005 to 0.001 in float16. (XLA on CPUs rounds bfloat16
less often: its log-probabilities differ as much from both, and in float16 by 1e-7.)

A module with a state sees sequences of one step, [N, 1, ...]. Actors add the time axis
to all columns except STATE_IN, and remove it from all outputs except STATE_OUT.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tree

from tflearner.columns import Columns


def make_actor(module: Any, *, draws: bool = True) -> Any:
    """Returns the fastest way to act with `module`.

    The result is called as `actor(batch, explore=..., rng=...)` with NumPy columns and
    returns NumPy columns; `refresh()` makes it use the module's current weights.

    Args:
        module: A `RLModule`, a `NumpyPolicy`, or any object that has the methods of a
            `RLModule` that acting calls.
        draws: Whether the actor may draw actions itself; not if a connector piece
            changes `ACTION_DIST_INPUTS` first.
    """
    make = getattr(module, "make_actor", None)
    return ModuleActor(module) if make is None else make(draws=draws)


class ModuleActor:
    """Acts by calling the module itself: for scripted modules without TensorFlow.

    Args:
        module: The module.
    """

    description = "the module itself"

    def __init__(self, module: Any):
        self._module = module

    def refresh(self) -> None:
        """Does nothing: the module is called directly."""

    def __call__(self, batch, *, explore: bool, rng: np.random.Generator):
        if Columns.STATE_IN not in batch:
            return self._forward(batch, explore)
        return without_time_axis(self._forward(with_time_axis(batch), explore))

    def _forward(self, batch, explore: bool):
        if explore:
            return self._module.forward_exploration(batch)
        return self._module.forward_inference(batch)


class NumpyActor:
    """Acts with the NumPy form of a module's policy.

    Args:
        form: A `NumpyPolicy` with arrays or variables as its weights.
        read: Returns the value of a variable; `None` if all weights are arrays.
        draws: Whether the actor draws the actions.
    """

    description = "NumPy copy of the policy"

    def __init__(
        self, form: Any, read: Callable[[Any], np.ndarray] | None = None, *, draws: bool
    ):
        self._form, self._read, self._draws = form, read, draws
        self._policy: Any = form if read is None else None

    def refresh(self) -> None:
        """Copies the module's weights."""
        if self._read is not None:
            self._policy = self._form.with_weights(self._read)

    def __call__(self, batch, *, explore: bool, rng: np.random.Generator):
        if self._policy is None:
            self.refresh()
        policy = self._policy
        outputs = policy.forward(batch, explore=explore)
        dist = policy.exploration_dist if explore else policy.inference_dist
        if self._draws and dist is not None:
            inputs = outputs[Columns.ACTION_DIST_INPUTS]
            if explore:
                actions = dist.sample_np(inputs, rng)
                outputs[Columns.ACTION_LOGP] = dist.logp_np(inputs, actions)
            else:
                actions = dist.deterministic_np(inputs)
            outputs[Columns.ACTIONS] = actions
        return outputs


def with_time_axis(columns: dict[str, Any]) -> dict[str, Any]:
    """Adds the time axis of one step to all columns except STATE_IN: [N, 1, ...]."""
    return {
        name: column
        if name == Columns.STATE_IN
        else tree.map_structure(lambda x: x[:, None], column)
        for name, column in columns.items()
    }


def without_time_axis(outputs: dict[str, Any]) -> dict[str, Any]:
    """Removes the time axis of one step from all outputs except STATE_OUT: [N, ...]."""
    return {
        name: output
        if name == Columns.STATE_OUT
        else tree.map_structure(lambda x: x[:, 0], output)
        for name, output in outputs.items()
    }
