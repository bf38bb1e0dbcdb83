"""Normal actions squeezed into [-1, 1], as SAC draws them.

Shapes: `B` is any number of leading dimensions, `d` the number of components of an
action.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from tflearner.losses.probability import tfp
from tflearner.networks.distributions import Deterministic, DiagGaussian, Distribution
from tflearner.networks.numpy_distributions import (
    LARGEST_ACTION,
    NumpySquashedGaussian,
)
from tflearner.types import Tensor

tfd = tfp.distributions

_LOG_SQRT_2_PI = np.float32(0.5 * np.log(2.0 * np.pi))
_LOG_2 = np.float32(np.log(2.0))


class SquashedGaussian(Distribution):
    """The tanh of independent normal components, as in Appendix C of
    Haarnoja et al. (2018), https://arxiv.org/abs/1801.01290, eq. (21).

        raw = mean + exp(log_std) * noise
        action = tanh(raw)
        logp = sum (log N(raw) - log(1 - tanh(raw)^2))

    The last term is 2 (log 2 - raw - softplus(-2 raw)): of a saturated action, 1 -
    tanh(raw)^2 would be rounded to 0. Log standard deviations are taken as they come; a
    layer of the module bounds them.

    Inputs: mean and log std, float [B, 2 d]. Actions: float [B, d].
    """

    numpy_form = NumpySquashedGaussian()

    def __init__(self, loc: Tensor, log_std: Tensor):
        self.loc = loc
        self.log_std = log_std

    @classmethod
    def from_logits(cls, logits):
        return cls(*tf.split(logits, 2, axis=-1))

    @staticmethod
    def required_input_dim(space):
        return DiagGaussian.required_input_dim(space)

    def sample(self, seed=None):
        return tf.stop_gradient(self.rsample(seed))

    def rsample(self, seed=None):
        return tf.tanh(self.loc + tf.exp(self.log_std) * self._draw_noise(seed))

    def rsample_and_logp(
        self, noise: Tensor | None = None, seed: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Draws actions and returns their log-probabilities, both with gradients.

        These are exact where `logp` of the same actions is not: tanh'd to 1, an action
        no longer tells how far beyond it was drawn.

        Args:
            noise: Standard normal numbers to draw with, float [B, d]; `None` draws them.
            seed: Of numbers that are drawn, int32 [2].

        Returns:
            Actions, float [B, d], and log-probabilities, float [B].
        """
        if noise is None:
            noise = self._draw_noise(seed)
        raw = self.loc + tf.exp(self.log_std) * noise
        return tf.tanh(raw), self._logp_of(raw, noise)

    def logp(self, value):
        """Returns log-probabilities of actions in [-1, 1]. float [B].

        Those nearer to 1 or -1 than 1e-6 count as if they were 1e-6 away.
        """
        value = tf.reshape(tf.cast(value, self.loc.dtype), tf.shape(self.loc))
        value = tf.clip_by_value(value, -LARGEST_ACTION, LARGEST_ACTION)
        raw = 0.5 * (tf.math.log1p(value) - tf.math.log1p(-value))  # As in NumPy.
        return self._logp_of(raw, (raw - self.loc) * tf.exp(-self.log_std))

    def entropy(self):
        raise NotImplementedError(
            "The entropy of a tanh-normal has no closed form; estimate it by -logp."
        )

    def kl(self, other):
        raise NotImplementedError("The KL of tanh-normals has no closed form.")

    def to_deterministic(self):
        """Returns the distribution that always takes tanh(mean).

        RLlib takes the mean itself, which may be beyond 1.
        """
        return Deterministic(tf.tanh(self.loc))

    @classmethod
    def most_likely(cls, inputs, space):
        return ops.tanh(ops.split(inputs, 2, axis=-1)[0])

    def _draw_noise(self, seed: Any) -> Tensor:
        normal = tfd.Normal(tf.zeros([], self.loc.dtype), 1.0)
        return normal.sample(tf.shape(self.loc), seed=seed)

    def _logp_of(self, raw: Tensor, noise: Tensor) -> Tensor:
        log_normal = -(0.5 * tf.square(noise) + self.log_std + _LOG_SQRT_2_PI)
        log_slope = 2.0 * (_LOG_2 - raw - tf.math.softplus(-2.0 * raw))
        return tf.reduce_sum(log_normal - log_slope, -1)
