"""Convolutions for images.

Shapes: images are [B, H, W, C], float32 by the time they get here.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tflearner.checkpoint import budget
from tflearner.errors import ConfigError, SpaceError
from tflearner.networks.keras_forms import as_is
from tflearner.networks.layers import MLP, CompositeLayer, seeded

ConvFilters = Sequence[Sequence[Any]]  # (filters, kernel, stride) per layer.

# Of Mnih et al. 2015, "Human-level control through deep reinforcement learning",
# https://www.nature.com/articles/nature14236, Methods.
NATURE_FILTERS: ConvFilters = ((32, 8, 4), (64, 4, 2), (64, 3, 1))


class CNN(CompositeLayer):
    """Convolutions one after the other, then dense layers.

    Args:
        filters: (filters, kernel, stride) per convolution; without padding.
        activation: Keras name or function, used after every convolution.
        dense: What follows on the flattened features.
        kernel_initializer: Keras initializer or name for the convolutions; `None` is
            `default_initializer()`.
        rng: Source of the initializers' seeds, one per layer.
        name: What `summary()` calls it.
    """

    def __init__(
        self,
        filters: ConvFilters,
        activation: Any = "relu",
        *,
        dense: MLP,
        kernel_initializer: Any = None,
        rng: np.random.Generator,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.convolutions = [
            keras.layers.Conv2D(
                num,
                kernel,
                strides=stride,
                activation=activation,
                data_format="channels_last",
                kernel_initializer=seeded(kernel_initializer, rng),
                name=f"conv_{index}",
            )
            for index, (num, kernel, stride) in enumerate(filters)
        ]
        self.dense = dense

    def call(self, x):
        return self.keras_form(as_is, x)

    def keras_form(self, form: Callable, x: Any) -> Any:
        """Returns the outputs of Keras' own layers, see `keras_forms`."""
        for layer in self.convolutions:
            x = form(layer, x)
        return form(self.dense, x)


def default_conv_filters(shape: Sequence[int]) -> ConvFilters:
    """Returns the filters for images of this shape (H, W, C).

    | smaller side | such as | filters |
    |---|---|---|
    | 36 and more | 84, 64, 42 | the three layers of DQN (Mnih et al. 2015) |
    | 12 to 35 | 32, 16 | (32, 4, 2), (64, 4, 2) |
    | less | MinAtar's 10 | (16, 3, 1) |

    Raises:
        SpaceError: If the image seems to have its channels first: [C, H, W].
    """
    height, width, channels = shape
    if height <= 16 < min(width, channels):
        raise SpaceError(
            "observation space",
            f"images of shape {tuple(shape)}, whose channels seem to come first",
            "shape (height, width, channels)",
            "move the axis with gymnasium.wrappers.TransformObservation, or give "
            "conv_filters",
        )
    side = min(height, width)
    if side >= 36:
        return NATURE_FILTERS
    if side >= 12:
        return ((32, 4, 2), (64, 4, 2))
    return ((16, (min(3, height), min(3, width)), 1),)


def check_conv_filters(filters: ConvFilters, shape: Sequence[int]) -> None:
    """Checks that every kernel fits into the output of the layer before it.

    Args:
        filters: (filters, kernel, stride) per layer.
        shape: Of the image: (H, W, C).

    Raises:
        ConfigError: If one does not; names the pixels that are left.
    """
    left = list(shape[:2])
    for index, (num, kernel, stride) in enumerate(filters):
        kernel, stride = _pair(kernel), _pair(stride)
        if any(k > size for k, size in zip(kernel, left)):
            raise ConfigError(
                f"DefaultModelConfig.conv_filters[{index}]",
                f"a kernel of {kernel[0]}x{kernel[1]} pixels where {left[0]}x{left[1]} "
                f"are left of {shape[0]}x{shape[1]}",
                "a kernel that fits",
                "use smaller kernels, smaller strides or fewer layers",
            )
        left = [(size - k) // s + 1 for size, k, s in zip(left, kernel, stride)]
        budget.spend("a convolution", 4 * math.prod(left) * num)  # Its outputs.


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
