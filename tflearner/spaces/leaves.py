"""The parts of nested spaces, in the structure that their elements have."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym

from tflearner.errors import SpaceError

# Spaces of whole numbers in a range.
WHOLE = (gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)


def parts_of(space: Any) -> list[tuple[Any, gym.Space]]:
    """Returns the parts of a Dict or Tuple with their keys; none of other spaces.

    >>> parts_of(gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.MultiBinary(3)]))
    [(0, Discrete(2)), (1, MultiBinary(3))]
    """
    if isinstance(space, gym.spaces.Dict):
        return list(space.spaces.items())
    return list(enumerate(space.spaces)) if isinstance(space, gym.spaces.Tuple) else []


def leaf_spaces(space: gym.Space) -> Any:
    """Returns the leaves of a space, in dicts and tuples as in its elements.

    A space that is not nested is returned as it is. (`tree` and `tf.nest` would take the
    space Dict itself for a mapping.)

    >>> inner = gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.MultiBinary(3)])
    >>> leaf_spaces(gym.spaces.Dict({"a": inner}))
    {'a': (Discrete(2), MultiBinary(3))}
    """
    if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        return space
    parts = {key: leaf_spaces(part) for key, part in parts_of(space)}
    return parts if isinstance(space, gym.spaces.Dict) else tuple(parts.values())


def named_leaves(space: Any, name: str = "") -> Iterator[tuple[str, tuple, gym.Space]]:
    """Yields name, path and space of each leaf; an empty Dict or Tuple is a leaf.

    >>> inner = gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.MultiBinary(3)])
    >>> [leaf[:2] for leaf in named_leaves(gym.spaces.Dict({"a": inner}), "obs")]
    [("obs['a'][0]", ('a', 0)), ("obs['a'][1]", ('a', 1))]
    """
    parts = parts_of(space)
    if not parts:
        yield name, (), space
    for key, part in parts:
        for inner, path, leaf in named_leaves(part, f"{name}[{key!r}]"):
            yield inner, (key, *path), leaf


def check_has_numbers(
    space: gym.Space | None, name: str, hint: str | None = None
) -> None:
    """Raises `SpaceError` for a leaf without numbers, on which TensorFlow may abort.

    Args:
        space: The space; `None` and spaces without a shape pass.
        name: The name of the space in the error.
        hint: The hint of the error.
    """
    for leaf_name, _, leaf in named_leaves(space, name):
        is_nest = isinstance(leaf, gym.spaces.Dict | gym.spaces.Tuple)
        if is_nest or 0 in (getattr(leaf, "shape", None) or ()):
            raise SpaceError(
                leaf_name,
                f"{leaf} of 0 {'parts' if is_nest else 'numbers'}",
                "at least 1",
                hint,
            )


def bounds_of(space: Any) -> tuple[Any, Any]:
    """Returns the smallest and the largest number of a space of a class in `WHOLE`."""
    if isinstance(space, gym.spaces.Discrete):
        return int(space.start), int(space.start) + int(space.n) - 1
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return 0, 1
