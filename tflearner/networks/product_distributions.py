"""Distributions over actions of several parts, each drawn on its own.

Log-probabilities, entropies and divergences are the sums of those of the parts. A class
serves one form of actions: `of` makes it, and returns the same one for the same form.

Shapes: `B` is any number of leading dimensions.
"""

import functools
from collections.abc import Hashable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from tflearner.losses.probability import tfp
from tflearner.networks.distributions import (
    Deterministic,
    DiagGaussian,
    Distribution,
    numpy_form_of,
)
from tflearner.networks.numpy_distributions import (
    NumpyMultiBernoulli,
    NumpyMultiCategorical,
    NumpyMultiDistribution,
    NumpyPart,
)
from tflearner.types import Tensor

tfd = tfp.distributions

# The classes that are kept. Were there ever more forms of actions in use at a time, some
# forms would get a second class, which does the same.
_NUM_KEPT = 1024


class MultiCategorical(Distribution):
    """Numbers from 0 up, as MultiDiscrete has them, from unnormalised log-probabilities.

    Components that have fewer numbers than others get logits of -inf for the rest, so
    that all are evaluated at once.

    Inputs: the logits of all components side by side, float [B, sum(sizes)]. Actions:
    int32 [B, *shape].

    Attributes:
        sizes: How many numbers each component, in C order, may be.
        shape: Of one action.
    """

    sizes: ClassVar[tuple[int, ...]]
    shape: ClassVar[tuple[int, ...]]
    numpy_form: ClassVar[NumpyMultiCategorical]

    @staticmethod
    @functools.lru_cache(_NUM_KEPT)
    def of(sizes: tuple[int, ...], shape: tuple[int, ...]) -> type["MultiCategorical"]:
        """Returns the class for actions of this form."""
        form = NumpyMultiCategorical(sizes, shape)
        return _bound(MultiCategorical, sizes=sizes, shape=shape, numpy_form=form)

    def __init__(self, logits: Tensor):
        self._logits = self._by_part(logits)
        self._dist = tfd.Independent(tfd.Categorical(logits=self._logits), 1)

    @classmethod
    def from_logits(cls, logits):
        return cls(logits)

    @staticmethod
    def required_input_dim(space):
        return int(np.sum(space.nvec))

    def sample(self, seed=None):
        return _shaped(self._dist.sample(seed=seed), self.shape)

    def logp(self, value):
        value = tf.reshape(tf.cast(value, tf.int32), tf.shape(self._logits)[:-1])
        return self._dist.log_prob(value)

    def entropy(self):
        return self._dist.entropy()

    def kl(self, other):
        return tfd.kl_divergence(self._dist, other._dist)

    def to_deterministic(self):
        likeliest = tf.argmax(self._logits, -1, output_type=tf.int32)
        return Deterministic(_shaped(likeliest, self.shape))

    @classmethod
    def _by_part(cls, logits: Tensor) -> Tensor:
        """Returns the logits of each component. [B, K, M]."""
        places = cls.numpy_form.places
        if places is None:
            return _shaped(logits, (len(cls.sizes), cls.sizes[0]))
        widths = [[0, 0]] * (len(logits.shape) - 1) + [[0, 1]]
        padded = tf.pad(logits, widths, constant_values=-np.inf)
        return tf.gather(padded, places, axis=-1)


class MultiBernoulli(Distribution):
    """Bits, as MultiBinary has them, from their log-odds.

    Inputs: one logit per bit, in C order, float [B, n]. Actions: int8 [B, *shape].

    Attributes:
        shape: Of one action.
    """

    shape: ClassVar[tuple[int, ...]]

    @staticmethod
    @functools.lru_cache(_NUM_KEPT)
    def of(shape: tuple[int, ...]) -> type["MultiBernoulli"]:
        """Returns the class for actions of this form."""
        return _bound(
            MultiBernoulli, shape=shape, numpy_form=NumpyMultiBernoulli(shape)
        )

    def __init__(self, logits: Tensor):
        self.logits = logits
        self._dist = tfd.Independent(tfd.Bernoulli(logits, dtype=tf.int8), 1)

    @classmethod
    def from_logits(cls, logits):
        return cls(logits)

    @staticmethod
    def required_input_dim(space):
        return int(np.prod(space.shape, dtype=int))

    def sample(self, seed=None):
        return _shaped(self._dist.sample(seed=seed), self.shape)

    def logp(self, value):
        value = tf.reshape(tf.cast(value, tf.int8), tf.shape(self.logits))
        return self._dist.log_prob(value)

    def entropy(self):
        return self._dist.entropy()

    def kl(self, other):
        return tfd.kl_divergence(self._dist, other._dist)

    def to_deterministic(self):
        return Deterministic(_shaped(tf.cast(self.logits > 0, tf.int8), self.shape))


class Part(NamedTuple):
    """One part of a nested action.

    Attributes:
        key: Where it is in the dict or tuple.
        dist_class: Its class of distributions.
        size: How many inputs that needs.
    """

    key: Hashable
    dist_class: type[Distribution]
    size: int


class MultiDistribution(Distribution):
    """Dicts or tuples of actions, as the spaces Dict and Tuple have them.

    Inputs: those of the parts side by side, in the order of the space, float [B, inputs].
    Actions: a dict or tuple of the parts' actions, which may be nested in turn.

    Attributes:
        parts: What they consist of.
        is_dict: Whether they are dicts.
    """

    parts: ClassVar[tuple[Part, ...]]
    is_dict: ClassVar[bool]

    @staticmethod
    @functools.lru_cache(_NUM_KEPT)
    def of(parts: tuple[Part, ...], *, is_dict: bool) -> type["MultiDistribution"]:
        """Returns the class for actions of this form."""
        # A part without a NumPy half acts through its class, so the form is not data.
        numpy_parts = tuple(
            NumpyPart(p.key, numpy_form_of(p.dist_class) or p.dist_class, p.size)
            for p in parts
        )
        form = NumpyMultiDistribution(numpy_parts, is_dict)
        return _bound(MultiDistribution, parts=parts, is_dict=is_dict, numpy_form=form)

    def __init__(self, dists: list[Distribution]):
        self._dists = dists

    @classmethod
    def from_logits(cls, logits):
        pieces = tf.split(logits, [part.size for part in cls.parts], axis=-1)
        return cls([p.dist_class.from_logits(x) for p, x in zip(cls.parts, pieces)])

    @classmethod
    def required_input_dim(cls, space):
        return sum(part.size for part in cls.parts)

    @classmethod
    def leaves(cls) -> list[tuple[type[Distribution], int]]:
        """Returns class and number of inputs of every leaf, in the order of these."""
        found: list[tuple[type[Distribution], int]] = []
        for _, dist_class, size in cls.parts:
            if issubclass(dist_class, MultiDistribution):
                found += dist_class.leaves()
            else:
                found.append((dist_class, size))
        return found

    @classmethod
    def log_std_inputs(cls) -> np.ndarray:
        """Returns which inputs are log standard deviations. bool [inputs]."""
        return np.concatenate(
            [
                (np.arange(size) >= size // 2) & issubclass(dist_class, DiagGaussian)
                for dist_class, size in cls.leaves()
            ]
        )

    def sample(self, seed=None):
        return self._each(lambda dist, seed: dist.sample(seed), seed)

    def rsample(self, seed=None):
        return self._each(lambda dist, seed: dist.rsample(seed), seed)

    def _each(self, draw, seed):
        seeds = [None] * len(self._dists)
        if seed is not None:
            seeds = tf.unstack(tfp.random.split_seed(seed, len(self._dists)))
        return self._nest(map(draw, self._dists, seeds))

    def logp(self, value):
        return sum(
            dist.logp(value[part.key]) for part, dist in zip(self.parts, self._dists)
        )

    def entropy(self):
        return sum(dist.entropy() for dist in self._dists)

    def kl(self, other):
        return sum(map(lambda own, others: own.kl(others), self._dists, other._dists))

    def to_deterministic(self):
        return Deterministic(
            self._nest(dist.to_deterministic().sample() for dist in self._dists)
        )

    @classmethod
    def _nest(cls, actions: Any) -> Any:
        if cls.is_dict:
            return {part.key: action for part, action in zip(cls.parts, actions)}
        return tuple(actions)


def _bound(base: Any, **attributes: Any) -> Any:
    """Returns a class like `base` with these attributes."""
    names = {"__module__": base.__module__, "__doc__": base.__doc__}
    return type(base)(base.__name__, (base,), attributes | names)


def _shaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Returns [B, *shape] of [B, n]."""
    if len(shape) == 1:
        return x
    return tf.reshape(x, tf.concat([tf.shape(x)[:-1], shape], 0))
