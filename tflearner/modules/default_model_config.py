"""The settings of the networks that default modules are made of."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from tflearner.checkpoint.builders import register_builder
from tflearner.checkpoint.kinds import MODEL_CONFIG, OWN, of_kind
from tflearner.checks import is_float32, is_int, is_real
from tflearner.errors import ConfigError, shown
from tflearner.settings.names import NETWORKS, Names, hint_for

_MOST_UNITS = 2**20  # A layer of more has billions of weights.
_SWITCHES = (
    "fcnet_use_layernorm",
    "head_fcnet_use_layernorm",
    "free_log_std",
    "vf_share_layers",
    "use_lstm",
    "use_gru",
)
_OF_LAYERS = tuple(
    f"{layers}_{part}"
    for layers in ("fcnet", "conv", "head_fcnet")
    for part in ("activation", "kernel_initializer")
)

_MAX_LAYERS = 1000


@of_kind(MODEL_CONFIG, takes=dict.fromkeys(("model", *_OF_LAYERS), (OWN,)))
@dataclasses.dataclass
class DefaultModelConfig:
    """Settings of default networks; names and defaults are RLlib's where it has them.

    Observations go through convolutions if they are images, through the dense layers,
    through a recurrent layer if there is one, and then to the heads. An image is a Box
    of shape [H, W, C], or of shape [H, W] if `conv_filters` are given; if its numbers
    are uint8 they are divided by 255 inside the network, so that batches stay small.

    Observations in a Dict or Tuple go to the dense layers side by side. Each image of
    shape [H, W, C] among them goes through convolutions of its own first; an
    "action_mask" is not read: it masks the policy's outputs.

    Args:
        fcnet_hiddens: Units of the encoder's dense layers.
        fcnet_activation: Activation after each dense layer: Keras name or function.
        fcnet_kernel_initializer: Keras initializer of dense kernels; `None` is uniform
            in +-1/sqrt(fan in), as in RLlib.
        fcnet_use_layernorm: Whether to normalise each dense layer over its units,
            before the activation.
        conv_filters: Per convolution (filters, kernel, stride), kernel and stride in
            pixels as a number or (height, width); without padding. `None` chooses by
            the size of the image (`cnn.default_conv_filters`), an empty list leaves
            the pixels to the dense layers.
        conv_activation: Activation after each convolution.
        conv_kernel_initializer: Initializer of convolution kernels; `None` as for
            `fcnet_kernel_initializer`.
        head_fcnet_hiddens: Units of further layers in front of each head's output.
        head_fcnet_activation: Activation after each layer of `head_fcnet_hiddens`.
        head_fcnet_kernel_initializer: Initializer of the output layer of the policy
            head; a small one starts with nearly equal probabilities.
        head_fcnet_use_layernorm: Whether to normalise each of `head_fcnet_hiddens`; the
            output is never normalised.
        log_std_clip_param: Bound on the absolute log standard deviation of continuous
            actions.
        free_log_std: Whether log standard deviations are one trained vector for all
            observations, instead of an output of the policy head.
        vf_share_layers: Whether policy and value function share the encoder.
        use_lstm: Whether an LSTM follows the dense layers.
        use_gru: Whether a GRU follows the dense layers; excludes `use_lstm`.
        max_seq_len: Steps of the sequences that episodes are cut into for training a
            module with a state, and so the reach of its gradients.
        lstm_cell_size: Units of the LSTM or GRU, in each part of its state.
        model: Own Keras model in place of dense layers and convolutions: it takes
            observations (float32 [B, ...], discrete ones as one-hot, images unscaled)
            and returns an embedding (float [B, d]). Or a function without arguments
            returning such a model, called once per encoder. It runs in inference mode:
            Dropout is off. A Dict or Tuple comes as one vector, float32 [B, d], its
            entries side by side; but with images among them as a dict, float32 [B, ...]
            by entry: "camera" or, further inside, "arm.0".
            PPO's model may carry a state, as attention over past steps does: with a
            method `initial_state()` it is called with sequences and the state before
            them, and returns embeddings and the next state. See
            `networks.recurrent.StatefulEncoder`.
    """

    fcnet_hiddens: Sequence[int] = (256, 256)
    fcnet_activation: str | Callable = "tanh"
    fcnet_kernel_initializer: Any = None
    fcnet_use_layernorm: bool = False

    conv_filters: Sequence[Sequence[Any]] | None = None
    conv_activation: str | Callable = "relu"
    conv_kernel_initializer: Any = None

    head_fcnet_hiddens: Sequence[int] = ()
    head_fcnet_activation: str | Callable = "relu"
    head_fcnet_kernel_initializer: Any = None
    head_fcnet_use_layernorm: bool = False
    log_std_clip_param: float = 20.0
    free_log_std: bool = False

    vf_share_layers: bool = True

    use_lstm: bool = False
    use_gru: bool = False
    max_seq_len: int = 20
    lstm_cell_size: int = 256

    model: Any = None

    def __post_init__(self):
        for name in ("fcnet_hiddens", "head_fcnet_hiddens"):
            sizes = getattr(self, name)
            if not _is_list(sizes) or not all(map(_is_count, sizes)):
                raise _error(name, sizes, f"positive integers up to {_MOST_UNITS}")
            _check_depth(name, sizes)
        for name in ("max_seq_len", "lstm_cell_size"):
            if not _is_count(getattr(self, name)):
                want = f"a positive integer up to {_MOST_UNITS}"
                raise _error(name, getattr(self, name), want)
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise _error(name, getattr(self, name), "a bool")
        bound = self.log_std_clip_param
        is_bound = is_float32(bound) or (is_real(bound) and bound == math.inf)
        if not is_bound or bound < 0:
            want = "a float32 number >= 0, or inf"
            raise _error("log_std_clip_param", bound, want)
        self.log_std_clip_param = float(bound)
        for field in dataclasses.fields(self):
            # Keras would make objects of dicts, and files must not choose which.
            is_layer_part = field.name.endswith(("_activation", "_initializer"))
            value = getattr(self, field.name)
            is_name = isinstance(value, str) or callable(value) or value is None
            if is_layer_part and not is_name:
                raise _error(field.name, value, "a Keras name, a function or an object")
        if self.conv_filters is not None:
            filters = self.conv_filters
            if not _is_list(filters) or not all(map(_is_filter, filters)):
                want = "(filters, kernel, stride) for each layer, such as (32, 8, 4)"
                raise _error("conv_filters", self.conv_filters, want)
            _check_depth("conv_filters", self.conv_filters)
            if self.model is not None:
                got, want = "set, beside an own model", "one of the two"
                raise ConfigError("DefaultModelConfig.conv_filters", got, want)
        if self.model is not None and not callable(self.model):
            want = "a Keras model, or a function returning one"
            raise _error("model", self.model, want)
        if self.use_lstm and self.use_gru:
            raise ConfigError("DefaultModelConfig", "use_lstm and use_gru", "one")

    @classmethod
    def make(cls, settings: "DefaultModelConfig | Mapping[str, Any] | None") -> Self:
        """Returns `settings` as an object of this class.

        Raises:
            ConfigError: If a name is unknown; the closest known one is the hint.
        """
        if isinstance(settings, cls):
            return settings
        if isinstance(settings, DefaultModelConfig):
            settings = settings.to_dict()
        if not isinstance(settings, Mapping | None):
            want = f"a {cls.__name__}, or a dict of settings"
            raise ConfigError("model_config", shown(settings), want)
        given: dict[str, Any] = dict(settings or {})
        known = {field.name for field in dataclasses.fields(cls)}
        for name in given:
            if name not in known:
                raise ConfigError(
                    "model_config",
                    f"unknown setting {shown(name)}",
                    f"one of {', '.join(sorted(known))}",
                    hint_for(name, known, NETWORKS),
                )
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings by name: the live objects, not copies."""
        return {own.name: getattr(self, own.name) for own in dataclasses.fields(self)}


register_builder(
    "tflearner/DefaultModelConfig",
    DefaultModelConfig,
    arguments=DefaultModelConfig.to_dict,
)


def names_of_networks() -> Names:
    """Returns hints for settings of networks that are given to an algorithm's config."""
    networks = {own.name for own in dataclasses.fields(DefaultModelConfig)}
    return {
        typed: told and f"it is a setting of networks: model_config={{{told!r}: ...}}"
        for typed, told in [*zip(networks, networks), *NETWORKS.items()]
    }


def _is_count(value: Any) -> bool:
    # Keras takes no integers of NumPy.
    return isinstance(value, int) and is_int(value, 1, _MOST_UNITS)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _check_depth(name: str, layers: Sequence[Any]) -> None:
    if len(layers) > _MAX_LAYERS:
        raise _error(name, f"{len(layers)} layers", f"at most {_MAX_LAYERS}")


def _is_filter(layer: Any) -> bool:
    """Whether this is (filters, kernel, stride), the last two a number or a pair."""
    if not _is_list(layer) or len(layer) != 3:
        return False
    pairs = [n if isinstance(n, Sequence) else (n, n) for n in layer[1:]]
    return _is_count(layer[0]) and all(
        len(pair) == 2 and all(map(_is_count, pair)) for pair in pairs
    )


def _error(name: str, got: Any, want: str) -> ConfigError:
    return ConfigError(f"DefaultModelConfig.{name}", shown(got), want)
