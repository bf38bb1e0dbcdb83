"""Action distributions in NumPy, from which policies draw actions.

Each is the NumPy half of a distribution in `modules`, and plain data, so it pickles.

Shapes: `B` is any number of leading dimensions, `n` a number of discrete actions, `d`
the number of components of a continuous action.
"""

import abc
import dataclasses
import functools
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

from tflearner.networks.numpy_layers import sigmoid

# Given actions are clipped to plus and minus this number: float32 draws beyond 9 are
# tanh'd to exactly 1, whose atanh is infinite. RLlib's SMALL_NUMBER is 1e-6, too.
LARGEST_ACTION = 1.0 - 1e-6

_LOG_SQRT_2_PI = np.float32(0.5 * np.log(2.0 * np.pi))
_LOG_2 = np.float32(np.log(2.0))


class NumpyDistribution(abc.ABC):
    """A distribution over actions, with parameters from the outputs of a head."""

    @abc.abstractmethod
    def sample_np(self, inputs: np.ndarray, rng: np.random.Generator) -> Any:
        """Draws actions from a head's outputs, float [B, inputs]."""

    @abc.abstractmethod
    def logp_np(self, inputs: np.ndarray, actions: Any) -> np.ndarray:
        """Returns log-probabilities of actions. float32 [B]."""

    @abc.abstractmethod
    def deterministic_np(self, inputs: np.ndarray) -> Any:
        """Returns the most likely actions."""


@dataclasses.dataclass(frozen=True)
class NumpyCategorical(NumpyDistribution):
    """One of `n` actions, from unnormalised log-probabilities. Inputs: float [B, n]."""

    def sample_np(self, inputs, rng):
        weights = np.exp(inputs - inputs.max(-1, keepdims=True))
        thresholds = weights.cumsum(-1)
        draws = rng.random(inputs.shape[:-1], np.float32) * thresholds[..., -1]
        # Without the last threshold, a draw of 1.0 - eps stays in range.
        passed = draws[..., None] >= thresholds[..., :-1]
        return passed.sum(-1, dtype=np.int32)

    def logp_np(self, inputs, actions):
        shifted = inputs - inputs.max(-1, keepdims=True)
        taken = np.take_along_axis(shifted, np.asarray(actions)[..., None], -1)[..., 0]
        return taken - np.log(np.exp(shifted).sum(-1))

    def deterministic_np(self, inputs):
        return inputs.argmax(-1).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class NumpyDiagGaussian(NumpyDistribution):
    """Independent normal components. Inputs: mean and log std, float [B, 2 d]."""

    def sample_np(self, inputs, rng):
        loc, log_std = np.split(inputs, 2, axis=-1)
        return loc + np.exp(log_std) * rng.standard_normal(loc.shape, np.float32)

    def logp_np(self, inputs, actions):
        loc, log_std = np.split(inputs, 2, axis=-1)
        noise = (np.reshape(actions, loc.shape) - loc) * np.exp(-log_std)
        return -(0.5 * np.square(noise) + log_std + _LOG_SQRT_2_PI).sum(-1)

    def deterministic_np(self, inputs):
        return np.split(inputs, 2, axis=-1)[0]


@dataclasses.dataclass(frozen=True)
class NumpySquashedGaussian(NumpyDistribution):
    """The tanh of independent normal components. Inputs: mean and log std, [B, 2 d]."""

    def sample_np(self, inputs, rng):
        loc, log_std = np.split(inputs, 2, axis=-1)
        noise = rng.standard_normal(loc.shape, np.float32)
        return np.tanh(loc + np.exp(log_std) * noise)

    def logp_np(self, inputs, actions):
        loc, log_std = np.split(inputs, 2, axis=-1)
        actions = np.reshape(actions, loc.shape).astype(loc.dtype)
        actions = np.clip(actions, -LARGEST_ACTION, LARGEST_ACTION)
        raw = np.float32(0.5) * (np.log1p(actions) - np.log1p(-actions))
        noise = (raw - loc) * np.exp(-log_std)
        log_normal = -(0.5 * np.square(noise) + log_std + _LOG_SQRT_2_PI)
        log_slope = 2.0 * (_LOG_2 - raw - np.logaddexp(np.float32(0.0), -2.0 * raw))
        return (log_normal - log_slope).sum(-1)

    def deterministic_np(self, inputs):
        return np.tanh(np.split(inputs, 2, axis=-1)[0])


@dataclasses.dataclass(frozen=True)
class NumpyDeterministic(NumpyDistribution):
    """One action with certainty. Inputs: the action itself, which may be nested."""

    def sample_np(self, inputs, rng):
        return inputs

    def logp_np(self, inputs, actions):
        raise NotImplementedError("A deterministic action has no density.")

    def deterministic_np(self, inputs):
        return inputs


@dataclasses.dataclass(frozen=True)
class NumpyMultiCategorical(NumpyDistribution):
    """Integers from 0, as in MultiDiscrete. Inputs: concatenated logits, float [B, n].

    Components with fewer values than others get logits of -inf for the rest, so that
    all components are evaluated at once.

    Args:
        sizes: The number of values of each component, in C order.
        shape: The shape of one action.
    """

    sizes: tuple[int, ...]
    shape: tuple[int, ...]

    @functools.cached_property
    def places(self) -> np.ndarray | None:
        """Indices of each component's logits among the inputs, int [K, M].

        An index after the last input stands for -inf; `None` if all sizes are equal.
        """
        if len(set(self.sizes)) == 1:
            return None
        numbers = np.arange(max(self.sizes))
        starts = np.cumsum([0, *self.sizes[:-1]])
        exists = numbers < np.array(self.sizes)[:, None]
        return np.where(exists, starts[:, None] + numbers, sum(self.sizes))

    def sample_np(self, inputs, rng):
        draws = _CATEGORICAL.sample_np(self._by_component(inputs), rng)
        return draws.reshape(*inputs.shape[:-1], *self.shape)

    def logp_np(self, inputs, actions):
        actions = np.reshape(actions, (*inputs.shape[:-1], len(self.sizes)))
        return _CATEGORICAL.logp_np(self._by_component(inputs), actions).sum(-1)

    def deterministic_np(self, inputs):
        likeliest = _CATEGORICAL.deterministic_np(self._by_component(inputs))
        return likeliest.reshape(*inputs.shape[:-1], *self.shape)

    def _by_component(self, logits: np.ndarray) -> np.ndarray:
        """Returns the logits of each component. [B, K, M]."""
        if self.places is None:
            return logits.reshape(*logits.shape[:-1], len(self.sizes), self.sizes[0])
        padded = np.full(
            (*logits.shape[:-1], logits.shape[-1] + 1), -np.inf, np.float32
        )
        padded[..., :-1] = logits
        return padded[..., self.places]


@dataclasses.dataclass(frozen=True)
class NumpyMultiBernoulli(NumpyDistribution):
    """Bits, as in MultiBinary, from their log-odds. Inputs: float [B, n].

    Args:
        shape: The shape of one action.
    """

    shape: tuple[int, ...]

    def sample_np(self, inputs, rng):
        draws = rng.random(inputs.shape, np.float32) < sigmoid(inputs)
        return draws.astype(np.int8).reshape(*inputs.shape[:-1], *self.shape)

    def logp_np(self, inputs, actions):
        is_set = np.reshape(actions, inputs.shape) != 0
        log_odds_against = np.where(is_set, -inputs, inputs)
        return -np.logaddexp(np.float32(0.0), log_odds_against).sum(-1)

    def deterministic_np(self, inputs):
        likeliest = (inputs > 0).astype(np.int8)
        return likeliest.reshape(*inputs.shape[:-1], *self.shape)


class NumpyPart(NamedTuple):
    """One part of a nested action.

    Attributes:
        key: Its key in the dict, or index in the tuple.
        distribution: Its distribution.
        size: The number of inputs of the distribution.
    """

    key: Hashable
    distribution: Any
    size: int


@dataclasses.dataclass(frozen=True)
class NumpyMultiDistribution(NumpyDistribution):
    """Dicts or tuples of actions. Inputs: the inputs of all parts, concatenated.

    Args:
        parts: The parts, in the order of the space.
        is_dict: Whether actions are dicts.
    """

    parts: tuple[NumpyPart, ...]
    is_dict: bool

    def sample_np(self, inputs, rng):
        pairs = zip(self.parts, self._split(inputs))
        return self._nest(p.distribution.sample_np(piece, rng) for p, piece in pairs)

    def logp_np(self, inputs, actions):
        return sum(
            part.distribution.logp_np(piece, actions[part.key])
            for part, piece in zip(self.parts, self._split(inputs))
        )

    def deterministic_np(self, inputs):
        pairs = zip(self.parts, self._split(inputs))
        return self._nest(p.distribution.deterministic_np(piece) for p, piece in pairs)

    def _split(self, inputs: np.ndarray) -> list[np.ndarray]:
        return np.split(inputs, self._starts, -1)

    @functools.cached_property
    def _starts(self) -> list[int]:
        return np.cumsum([part.size for part in self.parts])[:-1].tolist()

    def _nest(self, actions: Any) -> Any:
        if self.is_dict:
            return {part.key: action for part, action in zip(self.parts, actions)}
        return tuple(actions)


_CATEGORICAL = NumpyCategorical()
