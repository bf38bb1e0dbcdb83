"""Action distributions: TensorFlow Probability behind RLlib's small interface.

Two forms, held equal by a test. TensorFlow for whatever is differentiated or traced;
NumPy for acting, because one eager evaluation costs 8.8 ms where NumPy takes 0.04 ms.

Shapes: `B` is any number of leading dimensions, `n` a number of discrete actions, `d`
the number of components of a continuous action.
"""

import abc
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tflearner.types import Tensor

tfd = tfp.distributions


class Distribution(abc.ABC):
    """A distribution over actions, made from what a module's head puts out."""

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

    @staticmethod
    @abc.abstractmethod
    def sample_np(inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws actions from a head's outputs, in NumPy."""

    @staticmethod
    @abc.abstractmethod
    def logp_np(inputs: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Returns log-probabilities of actions, in NumPy. float32 [B]."""

    @staticmethod
    @abc.abstractmethod
    def deterministic_np(inputs: np.ndarray) -> np.ndarray:
        """Returns the actions that `to_deterministic` takes, in NumPy."""


class Categorical(Distribution):
    """One of `n` actions, from unnormalised log-probabilities. Inputs: float [B, n]."""

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

    @staticmethod
    def sample_np(inputs, rng):
        weights = np.exp(inputs - inputs.max(-1, keepdims=True))
        thresholds = weights.cumsum(-1)
        draws = rng.random(inputs.shape[:-1], np.float32) * thresholds[..., -1]
        # Counting the passed thresholds but the last keeps a draw of 1.0 - eps in range.
        passed = draws[..., None] >= thresholds[..., :-1]
        return passed.sum(-1, dtype=np.int32)

    @staticmethod
    def logp_np(inputs, actions):
        shifted = inputs - inputs.max(-1, keepdims=True)
        taken = np.take_along_axis(shifted, np.asarray(actions)[..., None], -1)[..., 0]
        return taken - np.log(np.exp(shifted).sum(-1))

    @staticmethod
    def deterministic_np(inputs):
        return inputs.argmax(-1).astype(np.int32)


class DiagGaussian(Distribution):
    """Independent normal components. Inputs: mean and log std, float [B, 2 d]."""

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

    @staticmethod
    def sample_np(inputs, rng):
        loc, log_std = np.split(inputs, 2, axis=-1)
        return loc + np.exp(log_std) * rng.standard_normal(loc.shape, np.float32)

    @staticmethod
    def logp_np(inputs, actions):
        loc, log_std = np.split(inputs, 2, axis=-1)
        noise = (np.reshape(actions, loc.shape) - loc) * np.exp(-log_std)
        constant = 0.5 * np.log(2.0 * np.pi).astype(np.float32)
        return -(0.5 * np.square(noise) + log_std + constant).sum(-1)

    @staticmethod
    def deterministic_np(inputs):
        return np.split(inputs, 2, axis=-1)[0]


class Deterministic(Distribution):
    """Always the same action. Inputs: the action itself, which may be nested."""

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

    @staticmethod
    def sample_np(inputs, rng):
        return inputs

    @staticmethod
    def logp_np(inputs, actions):
        raise NotImplementedError("A deterministic action has no density.")

    @staticmethod
    def deterministic_np(inputs):
        return inputs
