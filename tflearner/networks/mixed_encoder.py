"""Networks for observations that are images and other things together."""

from collections.abc import Callable, Iterable, Mapping

from tflearner.networks.cnn import CNN
from tflearner.networks.keras_forms import as_is
from tflearner.networks.layers import MLP, CompositeLayer
from tflearner.networks.observation_encoding import side_by_side
from tflearner.types import Tensor


class MixedEncoder(CompositeLayer):
    """Convolutions for each image; their features and all else go to dense layers.

    Args:
        parts: The names of what is put side by side, in this order.
        convolutions: Of each part that is an image, by name.
        dense: What follows on all parts.
        name: What `summary()` calls it.
    """

    def __init__(
        self,
        parts: Iterable[str],
        convolutions: Mapping[str, CNN],
        *,
        dense: MLP,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.parts = tuple(parts)
        self.convolutions = dict(convolutions)
        self.dense = dense

    def call(self, x: Mapping[str, Tensor]) -> Tensor:
        """Returns the embedding of encoded observations by name. float [B, d]."""
        return self.keras_form(as_is, x)

    def keras_form(self, form: Callable, x: Mapping[str, Tensor]) -> Tensor:
        """Returns the outputs of Keras' own layers, see `keras_forms`."""
        parts = [
            form(self.convolutions[part], x[part])
            if part in self.convolutions
            else x[part]
            for part in self.parts
        ]
        return form(self.dense, side_by_side(parts))
