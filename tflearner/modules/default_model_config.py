"""The settings of the networks that default modules are made of."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tflearner.errors import ConfigError, did_you_mean


@dataclasses.dataclass
class DefaultModelConfig:
    """Settings of default networks; names and defaults are RLlib's.

    Args:
        fcnet_hiddens: Units of the encoder's dense layers.
        fcnet_activation: Keras name or function, after each of them.
        fcnet_kernel_initializer: Keras initializer of their kernels; `None` is uniform
            in +-1/sqrt(fan in), as in RLlib.
        head_fcnet_hiddens: Units of further layers in front of each head's output.
        head_fcnet_activation: Activation after each of them.
        head_fcnet_kernel_initializer: Initializer of the output layer of the policy
            head; a small one starts with nearly equal probabilities.
        log_std_clip_param: Bound on the absolute log standard deviation of continuous
            actions.
        vf_share_layers: Whether policy and value function share the encoder.
        model: Own Keras model in place of the dense encoder: it takes observations
            (float32 [B, ...], discrete ones as one-hot) and returns an embedding
            (float [B, d]). Or a function without arguments returning such a model,
            called once per encoder. It runs in inference mode: Dropout is off.
    """

    fcnet_hiddens: Sequence[int] = (256, 256)
    fcnet_activation: str | Callable = "tanh"
    fcnet_kernel_initializer: Any = None
    head_fcnet_hiddens: Sequence[int] = ()
    head_fcnet_activation: str | Callable = "relu"
    head_fcnet_kernel_initializer: Any = None
    log_std_clip_param: float = 20.0
    vf_share_layers: bool = True
    model: Any = None

    def __post_init__(self):
        for name in ("fcnet_hiddens", "head_fcnet_hiddens"):
            sizes = getattr(self, name)
            if isinstance(sizes, str) or not all(
                isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes
            ):
                raise ConfigError(
                    f"DefaultModelConfig.{name}", repr(sizes), "positive integers"
                )

    @classmethod
    def make(
        cls, settings: "DefaultModelConfig | Mapping[str, Any] | None"
    ) -> "DefaultModelConfig":
        """Returns `settings` as a `DefaultModelConfig`.

        Raises:
            ConfigError: If a name is unknown; the closest known one is the hint.
        """
        if isinstance(settings, DefaultModelConfig):
            return settings
        given: dict[str, Any] = dict(settings or {})
        known = {field.name for field in dataclasses.fields(cls)}
        for name in given:
            if name not in known:
                raise ConfigError(
                    "model_config",
                    f"unknown setting {name!r}",
                    f"one of {', '.join(sorted(known))}",
                    did_you_mean(name, known),
                )
        return cls(**given)
