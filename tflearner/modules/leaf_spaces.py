"""The parts of nested spaces, in the structure that their elements have."""

from typing import Any

import gymnasium as gym


def leaf_spaces(space: gym.Space) -> Any:
    """Returns dicts and tuples, as the space's elements are, with its leaves in them.

    A space that is not nested is returned as it is. (`tree` and `tf.nest` would take the
    space Dict itself for a mapping.)

    >>> inner = gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.MultiBinary(3)])
    >>> leaf_spaces(gym.spaces.Dict({"a": inner}))
    {'a': (Discrete(2), MultiBinary(3))}
    """
    if isinstance(space, gym.spaces.Dict):
        return {key: leaf_spaces(part) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(leaf_spaces(part) for part in space.spaces)
    return space
