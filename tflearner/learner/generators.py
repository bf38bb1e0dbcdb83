"""The random number generators that modules and own learners keep as attributes.

What a run continues with includes where these are. Keras tracks the seeds of its layers,
such as Dropout's, as variables that are no weights.
"""

import keras
import numpy as np
import tensorflow as tf

from tflearner.types import Param, StateDict


def states(owner: object) -> StateDict:
    """Returns the state of every generator of a module or learner, by name."""
    found: StateDict = {
        name: generator.bit_generator.state
        for name, generator in _numpy_generators(owner).items()
    }
    return found | {k: v.numpy() for k, v in _variables(owner).items()}


def set_states(owner: object, given: StateDict) -> None:
    """Replaces what `states` returned; generators that are not in it stay."""
    for name, generator in _numpy_generators(owner).items():
        if name in given:
            generator.bit_generator.state = given[name]
    for name, variable in _variables(owner).items():
        if name in given:
            variable.assign(given[name])


def _numpy_generators(owner: object) -> dict[str, np.random.Generator]:
    return {
        name: value
        for name, value in vars(owner).items()
        if isinstance(value, np.random.Generator)
    }


def _variables(owner: object) -> dict[str, Param]:
    found = {
        name: value.state
        for name, value in vars(owner).items()
        if isinstance(value, tf.random.Generator | keras.random.SeedGenerator)
    }
    if isinstance(owner, keras.layers.Layer):
        known = {id(v) for v in [*owner.weights, *found.values()]}
        others = [v for v in owner.variables if id(v) not in known]
        found |= {f"{i:03d}/{v.name}": v for i, v in enumerate(others)}
    return found
