"""Checks saved states of random number generators."""

from typing import Any

import numpy as np

from tflearner.errors import CheckpointMismatchError

_NO_STATE = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


def checked(where: str, generator: np.random.Generator, state: Any) -> Any:
    """Returns a state that `generator.bit_generator.state` can be set to.

    Args:
        where: The name of the state in errors.
        generator: The generator that the state is for; not changed.
        state: The saved state.

    Raises:
        CheckpointMismatchError: If the generator cannot be in this state.
    """
    bits: Any = type(generator.bit_generator)()
    kind = type(bits).__name__
    try:
        bits.state = state
    except _NO_STATE as error:
        raise CheckpointMismatchError(
            where, f"no state of a {kind} ({type(error).__name__}: {error})"
        ) from error
    if not _same(bits.state, state):  # NumPy takes 1.5 as 1, for example.
        raise CheckpointMismatchError(where, f"no state that a {kind} can have")
    return bits.state


def _same(made: Any, given: Any) -> bool:
    if isinstance(made, dict):
        keys = made.keys()
        return keys == given.keys() and all(_same(made[k], given[k]) for k in keys)
    if isinstance(made, np.ndarray):
        return np.array_equal(made, given)
    return type(made) is type(given) and made == given
