"""Action distributions: TensorFlow Probability behind RLlib's small interface.

Each has two forms, held equal by a test: TensorFlow for code that is differentiated or
traced, and NumPy (`networks.numpy_distributions`) for acting. One eager evaluation
takes 8.8 ms in TensorFlow and 0.04 ms in NumPy.

Shapes: `B` is any number of leading dimensions, `n` a number of discrete actions, `d`
the number of components of a continuous action.
"""

import abc
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import tensorflow as tf
from keras import ops

from tflearner.losses.probability import tfp
from tflearner.networks.numpy_distributions import (
    NumpyCategorical,
    NumpyDeterministic,
    NumpyDiagGaussian,
    NumpyDistribution,
)
from tflearner.types import Tensor

tfd = tfp.distributions


class Distribution(abc.ABC):
    """A distribution over actions, made from the outputs of a module's head.

    Attributes:
        numpy_form: Its NumPy half. A subclass without one overrides `sample_np`,
            `logp_np` and `deterministic_np`.
    """

    numpy_form: ClassVar[NumpyDistribution]

    @classmethod
    @abc.abstractmethod
    def from_logits(cls, logits: Tensor) -> "Distribution":
        """Makes the distribution from a head's outputs. float [B, inputs]."""

    @staticmethod
    @abc.abstractmethod
    def required_input_dim(space: gym.Space) -> int:
        """Returns how many outputs a head needs for actions of `space`."""

    @abc.abstractmethod
    def sample(self, seed: Any = None) -> Tensor:
        """Draws actions; a stateless seed is int32 [2]."""

    def rsample(self, seed: Any = None) -> Tensor:
        """Draws actions through which gradients flow to the inputs."""
        raise NotImplementedError(f"{type(self).__name__} has no pathwise gradient.")

    @abc.abstractmethod
    def logp(self, value: Tensor) -> Tensor:
        """Returns log-probabilities of actions. float [B]."""

    @abc.abstractmethod
    def entropy(self) -> Tensor:
        """Returns the entropy in nats. float [B]."""

    @abc.abstractmethod
    def kl(self, other: "Distribution") -> Tensor:
        """Returns KL(self || other) in nats. float [B]."""

    @abc.abstractmethod
    def to_deterministic(self) -> "Distribution":
        """Returns the distribution that always takes the most likely action."""

    @classmethod
    def most_likely(cls, inputs: Tensor, space: gym.Space) -> Tensor | None:
        """Returns the most likely actions in operations of Keras, for Keras files.

        Args:
            inputs: A head's outputs, [B, inputs]; means may stand alone.
            space: The space of actions.

        Returns:
            The actions that `to_deterministic` takes; `None` if there is no such form.
        """
        return None

    @classmethod
    def sample_np(cls, inputs: np.ndarray, rng: np.random.Generator) -> Any:
        """Draws actions from a head's outputs, in NumPy."""
        return cls.numpy_form.sample_np(inputs, rng)

    @classmethod
    def logp_np(cls, inputs: np.ndarray, actions: Any) -> np.ndarray:
        """Returns log-probabilities of actions, in NumPy. float32 [B]."""
        return cls.numpy_form.logp_np(inputs, actions)

    @classmethod
    def deterministic_np(cls, inputs: np.ndarray) -> Any:
        """Returns the actions that `to_deterministic` takes, in NumPy."""
        return cls.numpy_form.deterministic_np(inputs)


def numpy_form_of(dist_class: Any) -> NumpyDistribution | None:
    """Returns the NumPy half of a class of distributions.

    Returns:
        The NumPy half; `None` if there is none, or if a subclass overrides its methods.
    """
    names = ("sample_np", "logp_np", "deterministic_np")
    is_own = any(
        getattr(getattr(dist_class, name, None), "__func__", None)
        is not getattr(Distribution, name).__func__
        for name in names
    )
    form = getattr(dist_class, "numpy_form", None)
    return form if not is_own and _is_data(form) else None


def _is_data(form: Any) -> bool:
    parts = getattr(form, "parts", ())
    return isinstance(form, NumpyDistribution) and all(
        _is_data(part.distribution) for part in parts
    )


class Categorical(Distribution):
    """One of `n` actions, from unnormalised log-probabilities. Inputs: float [B, n]."""

    numpy_form = NumpyCategorical()

    def __init__(self, logits: Tensor):
        self.logits = logits
        self._dist = tfd.Categorical(logits=logits)

    @classmethod
    def from_logits(cls, logits):
        return cls(logits)

    @staticmethod
    def required_input_dim(space):
        return int(space.n)

    def sample(self, seed=None):
        return self._dist.sample(seed=seed)

    def logp(self, value):
        return self._dist.log_prob(tf.cast(value, tf.int32))

    def entropy(self):
        return self._dist.entropy()

    def kl(self, other):
        return tfd.kl_divergence(self._dist, other._dist)

    def to_deterministic(self):
        return Deterministic(tf.argmax(self.logits, -1, output_type=tf.int32))

    @classmethod
    def most_likely(cls, inputs, space):
        return ops.argmax(inputs, axis=-1)


class DiagGaussian(Distribution):
    """Independent normal components. Inputs: mean and log std, float [B, 2 d]."""

    numpy_form = NumpyDiagGaussian()

    def __init__(self, loc: Tensor, log_std: Tensor):
        self.loc = loc
        self._dist = tfd.Independent(tfd.Normal(loc, tf.exp(log_std)), 1)

    @classmethod
    def from_logits(cls, logits):
        return cls(*tf.split(logits, 2, axis=-1))

    @staticmethod
    def required_input_dim(space):
        return 2 * int(np.prod(space.shape, dtype=int))

    def sample(self, seed=None):
        return tf.stop_gradient(self.rsample(seed))

    def rsample(self, seed=None):
        return self._dist.sample(seed=seed)

    def logp(self, value):
        value = tf.cast(value, self.loc.dtype)
        return self._dist.log_prob(tf.reshape(value, tf.shape(self.loc)))

    def entropy(self):
        return self._dist.entropy()

    def kl(self, other):
        return tfd.kl_divergence(self._dist, other._dist)

    def to_deterministic(self):
        return Deterministic(self.loc)

    @classmethod
    def most_likely(cls, inputs, space):
        return ops.split(inputs, [cls.required_input_dim(space) // 2], axis=-1)[0]


class Deterministic(Distribution):
    """Always the same action. Inputs: the action itself, which may be nested."""

    numpy_form = NumpyDeterministic()

    def __init__(self, loc: Tensor):
        self.loc = loc

    @classmethod
    def from_logits(cls, logits):
        return cls(logits)

    @staticmethod
    def required_input_dim(space):
        return int(np.prod(space.shape, dtype=int))

    def sample(self, seed=None):
        return tf.nest.map_structure(tf.identity, self.loc)

    def rsample(self, seed=None):
        return self.sample(seed)

    def logp(self, value):
        raise NotImplementedError("A deterministic action has no density.")

    def entropy(self):
        raise NotImplementedError("A deterministic action has no density.")

    def kl(self, other):
        raise NotImplementedError("A deterministic action has no density.")

    def to_deterministic(self):
        return self
