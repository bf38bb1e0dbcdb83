"""Encodings of raw observations as float32 for networks: in NumPy, and as data.

Shapes: `B` observations at a time; `d` numbers of each.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from tflearner.spaces.leaves import named_leaves
from tflearner.spaces.mask_spaces import ACTION_MASK

Path = tuple[Any, ...]  # The keys and indices that lead to a leaf of a nested space.


@dataclasses.dataclass(frozen=True)
class LeafEncoding:
    """The encoding of a space that is not a Dict or Tuple.

    Attributes:
        shape: The shape of one encoded observation.
        sizes: The sizes of the one-hot parts; empty for a Box or MultiBinary.
        starts: The first number of each one-hot part.
        scale: The divisor of all numbers; `None` does not divide.
        one_channel: Whether an image gets an axis for its one channel.
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    scale: float | None = None
    one_channel: bool = False

    @classmethod
    def of(cls, space: Any, image: bool) -> "LeafEncoding":
        """Returns the encoding of a space; see `ObservationEncoding`."""
        if isinstance(space, gym.spaces.Discrete):
            return cls((int(space.n),), (int(space.n),), (int(space.start),))
        if isinstance(space, gym.spaces.MultiDiscrete):
            sizes = tuple(int(n) for n in np.ravel(space.nvec))
            starts = tuple(int(s) for s in np.ravel(space.start))
            return cls((sum(sizes),), sizes, starts)
        one_channel = image and len(space.shape) == 2
        shape = (*space.shape, 1) if one_channel else tuple(space.shape)
        scale = 255.0 if image and space.dtype == np.uint8 else None
        return cls(shape, scale=scale, one_channel=one_channel)

    @property
    def size(self) -> int:
        """The number of encoded numbers."""
        return int(np.prod(self.shape, dtype=int))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Returns encoded observations. float32 [B, *shape]."""
        if not self.sizes:
            encoded = np.asarray(observations, np.float32)
            if self.scale is not None:
                encoded = encoded / np.float32(self.scale)
            return encoded[..., None] if self.one_channel else encoded
        columns = np.reshape(observations, (len(observations), len(self.sizes)))
        encoded = np.zeros((len(columns), sum(self.sizes)), np.float32)
        offsets = np.cumsum([0, *self.sizes[:-1]]) - self.starts
        np.put_along_axis(encoded, (columns + offsets).astype(np.intp), 1.0, axis=1)
        return encoded


@dataclasses.dataclass(frozen=True)
class NumpyEncoding:
    """The encoding of a space; nested spaces are encoded leaf by leaf.

    Attributes:
        leaves: (path, name, encoding) of each leaf; the path is empty if the space is
            not nested.
        apart: Whether the leaves of a nested space stay separate, in a dict by name.
    """

    leaves: tuple[tuple[Path, str, LeafEncoding], ...]
    apart: bool = False

    @classmethod
    def of(cls, space: gym.Space, *, image: bool, apart: bool) -> "NumpyEncoding":
        """Returns the encoding of a space; see `ObservationEncoding`."""
        if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
            return cls((((), "", LeafEncoding.of(space, image)),))
        leaves = [
            (
                path,
                ".".join(map(str, path)),
                LeafEncoding.of(leaf, image and is_image(leaf)),
            )
            for path, leaf in leaves_of(space)
        ]
        return cls(tuple(leaves), apart)

    @property
    def flat(self) -> LeafEncoding | None:
        """The encoding of a space that is not nested; `None` if it is."""
        path, _, leaf = self.leaves[0]
        return None if path else leaf

    def __call__(self, observations: Any) -> Any:
        """Returns encoded observations, float32 [B, ...]; a dict of them if `apart`."""
        path, _, leaf = self.leaves[0]
        if not path:
            return leaf(observations)
        encoded = {
            name: leaf(at_path(observations, path)) for path, name, leaf in self.leaves
        }
        if self.apart:
            return encoded
        return np.concatenate([x.reshape(len(x), -1) for x in encoded.values()], -1)


def leaves_of(space: Any) -> Iterator[tuple[Path, Any]]:
    """Yields path and space of each leaf of observations that networks read.

    The path is empty if the space is not nested. An "action_mask" at the top is
    skipped.
    """
    for _, path, leaf in named_leaves(space):
        if path != (ACTION_MASK,):
            yield path, leaf


def is_image(space: Any) -> bool:
    """Returns whether a space is a Box of shape (height, width, channels)."""
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 3


def at_path(observations: Any, path: Path) -> Any:
    """Returns the part of nested observations that a path leads to."""
    for key in path:
        observations = observations[key]
    return observations
