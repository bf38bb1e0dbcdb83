"""A module made of Keras layers."""

from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.errors import ModuleError
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.rl_module import RLModule
from tflearner.types import ParamRef, StateDict


class TfRLModule(RLModule, keras.layers.Layer):
    """A module made of Keras layers.

    Layers and models assigned in `setup()` are tracked by Keras. The constructor calls
    `setup()` once and makes one forward pass, so every variable exists before an
    optimizer is built.

        class Linear(TfRLModule):
            def setup(self):
                self.policy = keras.layers.Dense(int(self.action_space.n))

            def _forward(self, batch, **kwargs):
                logits = self.policy(batch[Columns.OBS])
                return {Columns.ACTION_DIST_INPUTS: logits}

    Args:
        *args: As for `RLModule`.
        **kwargs: As for `RLModule`.
    """

    framework = "tf2"

    def __init__(self, *args: Any, **kwargs: Any):
        keras.layers.Layer.__init__(self)
        RLModule.__init__(self, *args, **kwargs)
        self._make_variables()

    def _make_variables(self) -> None:
        batch = self.example_batch(1)
        if self.inference_only:
            self.forward_inference(batch)
        else:
            self.forward_train(batch)
        if isinstance(self, ValueFunctionAPI):
            self.compute_values(batch)

    def example_batch(self, num_rows: int) -> dict[str, tf.Tensor]:
        """Returns observations and actions of zeros, to call the module with."""
        spaces = {
            Columns.OBS: self.observation_space,
            Columns.ACTIONS: self.action_space,
        }
        return {
            column: tf.nest.map_structure(
                tf.constant, gym.vector.utils.create_empty_array(space, num_rows)
            )
            for column, space in spaces.items()
            if space is not None
        }

    # Weights are keyed by position and role, such as "007/kernel": Keras' layer names
    # differ on a second build in the same process ("dense", then "dense_2").

    def weight_keys(self) -> dict[ParamRef, str]:
        """Returns the key of every weight in state dicts, by variable reference."""
        return {
            variable.value.ref(): f"{index:03d}/{variable.name}"
            for index, variable in enumerate(self.weights)
        }

    def get_state(self, components=None, *, not_components=None) -> StateDict:
        keys = self.weight_keys().values()
        return {key: w.numpy() for key, w in zip(keys, self.weights)}

    def check_state(self, state: StateDict) -> None:
        """Raises `ModuleError` listing all weights of `state` that do not fit."""
        shapes = {k: tuple(w.shape) for k, w in self._weights_by_key().items()}
        problems = [f"missing {key!r}" for key in shapes if key not in state]
        problems += [f"unexpected {key!r}" for key in state if key not in shapes]
        problems += [
            f"{key!r} of shape {np.shape(state[key])} instead of {shape}"
            for key, shape in shapes.items()
            if key in state and np.shape(state[key]) != shape
        ]
        if problems:
            raise ModuleError(
                f"{type(self).__name__}.set_state()",
                "; ".join(problems),
                hint="the state comes from a module with other networks",
            )

    def set_state(self, state: StateDict) -> None:
        """Replaces all weights.

        Raises:
            ModuleError: If weights are missing, unexpected or of another shape; none
                is changed then.
        """
        self.check_state(state)
        for key, weight in self._weights_by_key().items():
            weight.assign(state[key])

    def _weights_by_key(self) -> dict[str, keras.Variable]:
        return dict(zip(self.weight_keys().values(), self.weights))
