"""Describes the spaces of gymnasium as JSON arguments of their builders."""

import math
from typing import Any

import gymnasium as gym
import numpy as np

from tflearner.checkpoint import budget
from tflearner.checkpoint.builders import register_builder
from tflearner.checkpoint.kinds import SPACE, of_kind


def _box(low: Any, high: Any, shape: Any, dtype: str) -> gym.spaces.Box:
    # Two bounds, and two bools that say whether they are finite.
    bytes_each = 2 * np.dtype(dtype).itemsize + 2
    budget.spend(f"a Box of shape {tuple(shape)}", math.prod(shape) * bytes_each)
    bounds: Any = [np.broadcast_to(np.asarray(b, dtype), shape) for b in (low, high)]
    of_type: Any = np.dtype(dtype).type
    arguments: dict[str, Any] = {"shape": tuple(shape), "dtype": of_type}
    return gym.spaces.Box(*bounds, **arguments)


def _of_box(space: gym.spaces.Box) -> dict[str, Any]:
    return {
        "low": _bound(space.low),
        "high": _bound(space.high),
        "shape": list(space.shape),
        "dtype": np.dtype(space.dtype).name,
    }


def _bound(bound: np.ndarray) -> Any:
    """Returns one number if all are equal, as in the 28,224 bounds of an image."""
    if not bound.size:
        return 0
    is_uniform = bool((bound == bound.flat[0]).all())
    return bound.flat[0].item() if is_uniform else bound.tolist()


def _of_discrete(space: gym.spaces.Discrete) -> dict[str, Any]:
    # The first versions of gymnasium 1 take no dtype; theirs is always int64.
    dtype = {} if space.dtype == np.int64 else {"dtype": np.dtype(space.dtype).name}
    return {"n": int(space.n), "start": int(space.start), **dtype}


def _discrete(n: int, start: int = 0, **dtype: Any) -> gym.spaces.Discrete:
    _spend_on_values("a Discrete", n)
    return gym.spaces.Discrete(n, start=start, **dtype)


def _multi_discrete(nvec: Any, start: Any, dtype: str) -> gym.spaces.MultiDiscrete:
    sizes = np.ravel(nvec)
    # Distributions pad all parts to the length of the longest.
    _spend_on_values("a MultiDiscrete", int(sizes.max(initial=0)) * len(sizes))
    return gym.spaces.MultiDiscrete(
        np.asarray(nvec, dtype),
        dtype=np.dtype(dtype).type,
        start=np.asarray(start, dtype),
    )


def _multi_binary(n: Any) -> gym.spaces.MultiBinary:
    _spend_on_values("a MultiBinary", math.prod([n] if isinstance(n, int) else n))
    return gym.spaces.MultiBinary(n)


def _spend_on_values(what: str, num: int) -> None:
    """Takes memory from the budget for networks with an input or output per value."""
    budget.spend(f"{what} of {num} values", 4 * num)


def register_builders() -> None:
    """Registers the spaces of gymnasium."""
    of_kind(SPACE, takes={"spaces": (SPACE,)})(gym.Space)
    register_builder("gymnasium/Box", _box, of=gym.spaces.Box, arguments=_of_box)
    register_builder(
        "gymnasium/Discrete",
        _discrete,
        of=gym.spaces.Discrete,
        arguments=_of_discrete,
    )
    register_builder(
        "gymnasium/MultiDiscrete",
        _multi_discrete,
        of=gym.spaces.MultiDiscrete,
        arguments=lambda s: {
            "nvec": s.nvec.tolist(),
            "start": s.start.tolist(),
            "dtype": np.dtype(s.dtype).name,
        },
    )
    register_builder(
        "gymnasium/MultiBinary",
        _multi_binary,
        of=gym.spaces.MultiBinary,
        arguments=lambda s: {"n": s.n if isinstance(s.n, int) else list(s.shape)},
    )
    register_builder(
        "gymnasium/Dict",
        gym.spaces.Dict,
        # A dict would be sorted by gymnasium.
        arguments=lambda s: {"spaces": list(s.spaces.items())},
        as_a_whole=True,
    )
    register_builder(
        "gymnasium/Tuple",
        gym.spaces.Tuple,
        arguments=lambda s: {"spaces": list(s.spaces)},
        as_a_whole=True,
    )
