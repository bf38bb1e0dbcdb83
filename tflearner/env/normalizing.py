"""Warnings about gymnasium wrappers whose statistics no checkpoint holds."""

from collections.abc import Iterator
from typing import Any

from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper

# Attribute with the statistics -> gymnasium's wrapper that has it.
_WRAPPERS = {"obs_rms": "NormalizeObservation", "return_rms": "NormalizeReward"}
_REMEDIES = {
    "NormalizeObservation": "for observations use "
    ".env_runners(env_to_module_connector=tfl.MeanStdFilter)",
    "NormalizeReward": "for rewards use gymnasium.wrappers.TransformReward with a "
    "constant factor",
}


def warnings_of(env: VectorEnv, name: str) -> Iterator[str]:
    """Yields a warning if an environment is in `NormalizeObservation` or the like.

    Args:
        env: The vector environment.
        name: The environment's name in the warning.
    """
    found = normalizing_wrappers(env)
    if found:
        yield (
            f"environment {name!r} is wrapped in {' and '.join(found)}, whose statistics "
            "are in no checkpoint and in no export, and which evaluation begins anew. "
            f"Without the wrapper, {' and '.join(_REMEDIES[own] for own in found)}."
        )


def normalizing_wrappers(env: VectorEnv) -> list[str]:
    """Returns the names of an environment's normalising wrappers, in workers, too."""
    layers: list[Any] = [env]
    while isinstance(layers[-1], VectorWrapper):
        layers.append(layers[-1].env)
    return [
        wrapper
        for name, wrapper in _WRAPPERS.items()
        if any(hasattr(layer, name) for layer in layers) or _is_inside(layers[-1], name)
    ]


def _is_inside(env: VectorEnv, name: str) -> bool:
    if isinstance(env, SyncVectorEnv):
        return any(own.has_wrapper_attr(name) for own in env.envs)
    if isinstance(env, AsyncVectorEnv):
        return any(env.call("has_wrapper_attr", name))
    return False
