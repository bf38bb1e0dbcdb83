"""The layer that bounds log standard deviations among other inputs of distributions."""

import numpy as np
import tensorflow as tf

from tflearner.networks import numpy_layers as forms
from tflearner.networks.layers import CompositeLayer


class BoundedLogStdsOfParts(CompositeLayer):
    """Keeps the log standard deviations of a nested action's parts in bounds.

    Args:
        is_log_std: Which inputs of the distribution they are. bool [inputs].
        bound: Bound on the absolute value of the logarithms.
    """

    def __init__(self, is_log_std: np.ndarray, bound: float):
        super().__init__(trainable=False)
        self.bound = float(bound)
        self._high = np.where(is_log_std, self.bound, np.inf).astype(np.float32)

    def call(self, inputs):
        return tf.clip_by_value(inputs, -self._high, self._high)

    def numpy_form(self) -> forms.Clip:
        """Returns this layer in NumPy."""
        return forms.Clip(-self._high, self._high)
