"""From raw observations to the float32 numbers that networks read.

Shapes: `B` observations at a time; `d` numbers of each.
"""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from keras import ops

from tflearner.errors import SpaceError
from tflearner.modules.mask_spaces import ACTION_MASK
from tflearner.modules.networks import CompositeLayer, unsupported_space
from tflearner.types import Tensor

Path = tuple[Any, ...]  # The keys and indices that lead to a leaf of a nested space.


class ObservationEncoding(CompositeLayer):
    """Turns raw observations into what networks read: float32, one-hot if discrete.

    | space | becomes |
    |---|---|
    | Box, MultiBinary | float32 in its shape |
    | Discrete | one-hot, float32 [B, n] |
    | MultiDiscrete | its one-hot parts side by side, float32 [B, sum(nvec)] |
    | Dict, Tuple of these, nested or not | all of them side by side, float32 [B, d] |

    Leaves of nested spaces go in the order of the space: gymnasium sorts the keys of a
    `dict`, and keeps the order of a list of pairs and of an `OrderedDict`. An
    "action_mask" at the top is left out: see `mask_spaces`.

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
        self._flat: _Leaf | None = None
        self._leaves: list[tuple[Path, str, _Leaf]] = []
        self.encoded_shape: Any
        if not is_nested:
            self._flat = _Leaf(space, image)
            self.encoded_shape = self._flat.shape
            return
        self._leaves = [
            (path, ".".join(map(str, path)), _Leaf(leaf, image and is_image(leaf)))
            for path, leaf in leaves
        ]
        shapes = {name: leaf.shape for _, name, leaf in self._leaves}
        if len(shapes) < len(leaves):
            names = [name for _, name, _ in self._leaves]
            raise SpaceError(where, f"leaves called {names}", "names that differ")
        self._apart = apart
        size = sum(leaf.size for *_, leaf in self._leaves)
        self.encoded_shape = shapes if apart else (size,)

    def call(self, observations):
        return self.encode(observations)

    def encode(self, observations: Any) -> Any:
        """Does what `call` does, in operations of Keras that it can write to files."""
        if self._flat is not None:
            return self._flat.encode(observations)
        encoded = {
            name: leaf.encode(_at(observations, path))
            for path, name, leaf in self._leaves
        }
        return encoded if self._apart else side_by_side(encoded.values())

    def numpy_forward(self, observations: Any) -> Any:
        """Does what `call` does, in NumPy."""
        if self._flat is not None:
            return self._flat.numpy_forward(observations)
        encoded = {
            name: leaf.numpy_forward(_at(observations, path))
            for path, name, leaf in self._leaves
        }
        if self._apart:
            return encoded
        return np.concatenate([x.reshape(len(x), -1) for x in encoded.values()], -1)


_SUPPORTED = (
    gym.spaces.Box,
    gym.spaces.Discrete,
    gym.spaces.MultiDiscrete,
    gym.spaces.MultiBinary,
)


class _Leaf:
    """What becomes of observations of one space that is no Dict or Tuple."""

    def __init__(self, space: Any, image: bool):
        self._sizes: list[int] = []  # Of the one-hot parts.
        self._starts: list[int] = []
        self._one_channel = False
        self.scale: float | None = None
        if isinstance(space, gym.spaces.Discrete):
            self._sizes, self._starts = [int(space.n)], [int(space.start)]
        elif isinstance(space, gym.spaces.MultiDiscrete):
            self._sizes = [int(n) for n in np.ravel(space.nvec)]
            self._starts = [int(s) for s in np.ravel(space.start)]
        if self._sizes:
            self.shape: tuple[int, ...] = (sum(self._sizes),)
        else:
            self._one_channel = image and len(space.shape) == 2
            self.shape = (*space.shape, 1) if self._one_channel else tuple(space.shape)
            self.scale = 255.0 if image and space.dtype == np.uint8 else None
        self.size = int(np.prod(self.shape, dtype=int))

    def encode(self, observations: Tensor) -> Tensor:
        if not self._sizes:
            encoded = ops.cast(observations, "float32")
            if self.scale is not None:
                encoded = encoded / self.scale
            return ops.expand_dims(encoded, -1) if self._one_channel else encoded
        num = len(self._sizes)
        indices = ops.reshape(ops.cast(observations, "int32"), (-1, num))
        columns = ops.split(indices, num, axis=1) if num > 1 else [indices]
        return side_by_side(
            ops.one_hot(ops.reshape(column - start, (-1,)), size)
            for column, size, start in zip(columns, self._sizes, self._starts)
        )

    def numpy_forward(self, observations: np.ndarray) -> np.ndarray:
        if not self._sizes:
            encoded = np.asarray(observations, np.float32)
            if self.scale is not None:
                encoded = encoded / np.float32(self.scale)
            return encoded[..., None] if self._one_channel else encoded
        columns = np.reshape(observations, (len(observations), len(self._sizes)))
        encoded = np.zeros((len(columns), sum(self._sizes)), np.float32)
        offsets = np.cumsum([0, *self._sizes[:-1]]) - self._starts
        np.put_along_axis(encoded, (columns + offsets).astype(np.intp), 1.0, axis=1)
        return encoded


def leaves_of(space: Any) -> Iterator[tuple[Path, Any]]:
    """Yields what networks read of observations: path and space of each leaf.

    Of a space that is not nested it is the space itself, with an empty path; of others
    all but an "action_mask" at the top.
    """
    return (leaf for leaf in _leaves_of(space, ()) if leaf[0] != (ACTION_MASK,))


def _leaves_of(space: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(space, gym.spaces.Dict):
        items: Any = space.spaces.items()
    elif isinstance(space, gym.spaces.Tuple):
        items = enumerate(space.spaces)
    else:
        yield path, space
        return
    for key, own in items:
        yield from _leaves_of(own, (*path, key))


def is_image(space: Any) -> bool:
    """Whether a space is one of images: a Box of shape (height, width, channels)."""
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 3


def side_by_side(arrays: Any) -> Tensor:
    """Returns arrays [B, ...], each of them flattened, as one [B, d]."""
    flat = [
        x if len(x.shape) == 2 else ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        for x in arrays
    ]
    return ops.concatenate(flat, axis=-1) if len(flat) > 1 else flat[0]


def _at(observations: Any, path: Path) -> Any:
    for key in path:
        observations = observations[key]
    return observations
