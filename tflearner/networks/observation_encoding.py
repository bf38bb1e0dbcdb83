"""From raw observations to the float32 numbers that networks read.

Shapes: `B` observations at a time; `d` numbers of each.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from keras import ops

from tflearner.errors import SpaceError
from tflearner.networks.layers import CompositeLayer, unsupported_space
from tflearner.networks.numpy_encoding import (
    LeafEncoding,
    NumpyEncoding,
    at_path,
    leaves_of,
)
from tflearner.types import Tensor


class ObservationEncoding(CompositeLayer):
    """Encodes raw observations for networks: as float32, one-hot if discrete.

    | space | becomes |
    |---|---|
    | Box, MultiBinary | float32 in its shape |
    | Discrete | one-hot, float32 [B, n] |
    | MultiDiscrete | its one-hot parts side by side, float32 [B, sum(nvec)] |
    | Dict, Tuple of these, nested or not | all of them side by side, float32 [B, d] |

    Leaves of nested spaces go in the order of the space: gymnasium sorts the keys of a
    `dict`, and keeps the order of a list of pairs and of an `OrderedDict`. An
    "action_mask" at the top is ignored: see `mask_spaces`.

    Args:
        space: Of single observations.
        where: What an error calls it.
        image: Whether observations are images, in a nested space each Box of shape
            (H, W, C): they become [B, H, W, C], and uint8 ones are divided by 255, as
            SB3, CleanRL and Dopamine do it.
        apart: Whether the leaves of a nested space stay apart: a dict by name, such as
            "camera", or "arm.0" for what is further inside.

    Attributes:
        encoded_shape: The shape of one encoded observation; by name if `apart`.
        numpy_form: The encoding in NumPy, as data.
    """

    def __init__(
        self,
        space: gym.Space,
        where: str = "observation space",
        *,
        image: bool = False,
        apart: bool = False,
    ):
        super().__init__(trainable=False)
        leaves = list(leaves_of(space))
        is_nested = isinstance(space, gym.spaces.Dict | gym.spaces.Tuple)
        if not leaves or not all(isinstance(leaf, _SUPPORTED) for _, leaf in leaves):
            raise unsupported_space(
                where,
                space,
                "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them",
                "flatten it with gymnasium.wrappers.FlattenObservation, or write a "
                "TfRLModule",
            )
        self.numpy_form = NumpyEncoding.of(space, image=image, apart=apart)
        parts = self.numpy_form.leaves
        self.encoded_shape: Any
        if not is_nested:
            self.encoded_shape = parts[0][2].shape
            return
        shapes = {name: leaf.shape for _, name, leaf in parts}
        if len(shapes) < len(leaves):
            names = [name for _, name, _ in parts]
            raise SpaceError(where, f"leaves called {names}", "names that differ")
        size = sum(leaf.size for *_, leaf in parts)
        self.encoded_shape = shapes if apart else (size,)

    def call(self, observations):
        return self.encode(observations)

    def encode(self, observations: Any) -> Any:
        """Computes `call` in operations of Keras, which it can write to files."""
        form = self.numpy_form
        if form.flat is not None:
            return _encode(form.flat, observations)
        encoded = {
            name: _encode(leaf, at_path(observations, path))
            for path, name, leaf in form.leaves
        }
        return encoded if form.apart else side_by_side(encoded.values())


_SUPPORTED = (
    gym.spaces.Box,
    gym.spaces.Discrete,
    gym.spaces.MultiDiscrete,
    gym.spaces.MultiBinary,
)


def _encode(leaf: LeafEncoding, observations: Tensor) -> Tensor:
    """Encodes observations as `leaf` does, in operations of Keras."""
    if not leaf.sizes:
        encoded = ops.cast(observations, "float32")
        if leaf.scale is not None:
            encoded = encoded / leaf.scale
        return ops.expand_dims(encoded, -1) if leaf.one_channel else encoded
    num = len(leaf.sizes)
    indices = ops.reshape(ops.cast(observations, "int32"), (-1, num))
    columns = ops.split(indices, num, axis=1) if num > 1 else [indices]
    return side_by_side(
        ops.one_hot(ops.reshape(column - start, (-1,)), size)
        for column, size, start in zip(columns, leaf.sizes, leaf.starts)
    )


def side_by_side(arrays: Any) -> Tensor:
    """Returns arrays [B, ...], each of them flattened, as one [B, d]."""
    flat = [
        x if len(x.shape) == 2 else ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        for x in arrays
    ]
    return ops.concatenate(flat, axis=-1) if len(flat) > 1 else flat[0]
