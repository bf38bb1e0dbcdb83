"""Stateful encoders, recurrent layers, and layers applied to each step of sequences.

Shapes: `S` sequences of `T` steps; `d` inputs and `u` units.

A state is a dict of arrays [S, u]: {"h", "c"} for an LSTM, {"h"} for a GRU.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from tflearner.networks import numpy_forms
from tflearner.networks import numpy_layers as forms
from tflearner.networks.keras_forms import KerasForm
from tflearner.networks.layers import CompositeLayer
from tflearner.types import Tensor

MOST_UNROLLED = 32
_STATE_KEYS = {"lstm": ("h", "c"), "gru": ("h",)}


@runtime_checkable
class StatefulEncoder(Protocol):
    """A layer that carries a state from step to step.

    A state is a nest of tensors, [S, ...] each. An embedding depends on steps up to its
    own: padding stands at the end of sequences. Methods `numpy_form()` and
    `keras_form(form, x, state)` are optional; they make one step in NumPy and in Keras'
    own layers.
    """

    def initial_state(self) -> Any:
        """Returns the state at an episode's start: NumPy arrays without batch axis."""

    def __call__(self, x: Any, state: Any) -> tuple[Tensor, Any]:
        """Returns embeddings of each step, float [S, T, d], and the state after all.

        Args:
            x: Encoded observations, float32 [S, T, ...]; by name with images among them.
            state: The state before the first step, [S, ...] each.
        """


class RecurrentEncoder(CompositeLayer):
    """Embeds each step of sequences, then goes through them with an LSTM or a GRU.

    Both of its kernels start uniform in +-1/sqrt(units), PyTorch's default and so
    RLlib's; biases start at 0, but at 1 for the LSTM's forget gate (Jozefowicz et al.
    2015, "An empirical exploration of recurrent network architectures").

    Args:
        tokenizer: Embeds single steps: float [B, ...] to float [B, d].
        cell: "lstm" or "gru".
        units: Size of each part of the state, and of the embedding.
        rng: Source of the initializers' seeds.
        name: What `summary()` calls it.
    """

    def __init__(
        self,
        tokenizer: keras.layers.Layer,
        cell: str,
        units: int,
        *,
        rng: np.random.Generator,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.tokenizer = tokenizer
        self.cell = cell
        self.units = units
        seeds = [int(seed) for seed in rng.integers(2**31, size=3)]
        limit = 1.0 / np.sqrt(units)
        layer_class = keras.layers.LSTM if cell == "lstm" else keras.layers.GRU
        self.rnn = layer_class(
            units,
            return_sequences=True,
            return_state=True,
            kernel_initializer=keras.initializers.RandomUniform(
                -limit, limit, seed=seeds[0]
            ),
            recurrent_initializer=keras.initializers.RandomUniform(
                -limit, limit, seed=seeds[1]
            ),
            seed=seeds[2],
            name=cell,
        )

    def initial_state(self) -> dict[str, np.ndarray]:
        """Returns zeros, without a batch axis."""
        return {key: np.zeros(self.units, np.float32) for key in _STATE_KEYS[self.cell]}

    def call(self, x, state):
        """Returns embeddings of each step, float [S, T, u], and the state after all.

        Args:
            x: Encoded observations. float [S, T, ...].
            state: The state before the first step.
        """
        tokens = apply_per_step(self.tokenizer, x)
        self.rnn.unroll = _should_unroll(tokens.shape[1])
        before = [state[key] for key in _STATE_KEYS[self.cell]]
        embeddings, *after = self.rnn(tokens, initial_state=before)
        return embeddings, dict(zip(_STATE_KEYS[self.cell], after))

    def numpy_form(self) -> forms.Recurrent | None:
        """Returns one step of this network in NumPy, see `numpy_forms`."""
        tokenizer = numpy_forms.numpy_form(self.tokenizer)
        if tokenizer is None:
            return None
        return forms.Recurrent(tokenizer, self.cell, *self.rnn.cell.weights)

    def keras_form(self, form: KerasForm, x: Any, state: Any) -> tuple[Any, Any]:
        """Returns the embedding after one step and the next state, see `keras_forms`."""
        tokens = keras.ops.expand_dims(form(self.tokenizer, x), 1)
        keys = _STATE_KEYS[self.cell]
        before = [state[key] for key in keys]
        embedding, *after = form.copied(self.rnn, tokens, initial_state=before)
        # States are float32, whatever the layer computes in.
        after = [keras.ops.cast(part, "float32") for part in after]
        return keras.ops.squeeze(embedding, 1), dict(zip(keys, after))


def _should_unroll(num_steps: int | None) -> bool:
    # On CPU unrolled cells take a third of the time of a loop (64 units, 20 steps) and
    # as long to trace; from 64 steps on tracing takes four times as long. On GPU Keras
    # has cuDNN's cells, which are no loop.
    on_cpu = not tf.config.list_logical_devices("GPU")
    return on_cpu and num_steps is not None and num_steps <= MOST_UNROLLED


def apply_per_step(layer: Callable, x: Any) -> Any:
    """Applies a layer that has no time axis to each step of sequences.

    Args:
        layer: Takes [B, ...] and returns [B, ...]; either may be nested.
        x: [S, T, ...].

    Returns:
        [S, T, ...].
    """
    x = tf.nest.map_structure(tf.convert_to_tensor, x)
    first = tf.nest.flatten(x)[0]
    sizes = tf.shape(first)
    leading = [sizes[0], first.shape[1] or sizes[1]]

    def as_rows(part):
        return tf.reshape(part, [-1, *part.shape[2:]])  # [S * T, ...].

    def as_steps(part):
        return tf.reshape(part, [*leading, *part.shape[1:]])

    return tf.nest.map_structure(as_steps, layer(tf.nest.map_structure(as_rows, x)))
