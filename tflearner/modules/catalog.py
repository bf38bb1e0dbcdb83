"""Makes the networks of default modules from spaces and settings.

To change one network of a default module, subclass its catalog, override that method
and name the class in `RLModuleSpec(catalog_class=...)`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import keras
import numpy as np
import tree

from tflearner.checkpoint import budget
from tflearner.checkpoint.builders import register_builder
from tflearner.checkpoint.kinds import CATALOG, of_kind
from tflearner.errors import ConfigError, ModuleError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module import action_dist_class
from tflearner.networks import cnn, tensorflow_settings
from tflearner.networks.cnn import CNN, ConvFilters
from tflearner.networks.distributions import DiagGaussian, Distribution
from tflearner.networks.encoders import ActorCriticEncoder, StatefulActorCriticEncoder
from tflearner.networks.layers import MLP, BoundedLogStd, FreeLogStd
from tflearner.networks.log_stds_of_parts import BoundedLogStdsOfParts
from tflearner.networks.mixed_encoder import MixedEncoder
from tflearner.networks.numpy_encoding import is_image, leaves_of
from tflearner.networks.observation_encoding import ObservationEncoding
from tflearner.networks.product_distributions import MultiDistribution
from tflearner.networks.recurrent import RecurrentEncoder, StatefulEncoder

# Why modules of replayed steps have no state: got, want and hint of errors.
NO_STATE = (
    "a model with a state",
    "a model without a state",
    "replayed steps come without the states that were there; PPO's module can have one",
)


@of_kind(CATALOG)
class Catalog:
    """Makes the encoders of default modules; subclasses make their heads.

    Args:
        observation_space: Space of single observations: Box, Discrete, MultiDiscrete,
            MultiBinary, or a Dict or Tuple of these.
        action_space: Space of single actions, see `action_dist_class`.
        model_config: Settings of the networks.
        seed: Seed of the initial weights.
    """

    may_have_state: ClassVar[bool] = False  # Whether encoders may be stateful.

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        model_config: DefaultModelConfig,
        *,
        seed: int | None = None,
    ):
        self.observation_space = observation_space
        self.action_space = action_space
        self.model_config = model_config
        self.rng = np.random.default_rng(seed)

    def build_observation_encoding(self) -> ObservationEncoding:
        """Returns the layer that turns observations into float32 numbers for encoders."""
        config, has_images = self.model_config, self._has_images()
        # Who reads images has to know which they are; a user's model may be one.
        are_read = config.conv_filters is None or len(config.conv_filters) > 0
        return ObservationEncoding(
            self.observation_space,
            image=has_images and config.model is None,
            apart=has_images and are_read,
        )

    def build_encoder(
        self,
        input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]],
        name: str | None = None,
    ) -> keras.layers.Layer:
        """Returns one encoder of single steps, or a `StatefulEncoder` of sequences.

        Args:
            input_shape: Of one encoded observation: (H, W, C) for images; by name if
                there are images among other things.
            name: What `summary()` calls it, unless it is the user's.

        Returns:
            The user's model; convolutions and dense layers for images; dense layers.
        """
        config = self.model_config
        if config.model is not None:
            return checked_model(
                config.model, input_shape, may_have_state=self.may_have_state
            )
        if isinstance(input_shape, Mapping):
            return self._build_mixed_encoder(input_shape, name)
        has_filters = self._has_images() and len(input_shape) == 3
        filters = self._filters(input_shape) if has_filters else ()
        dense = self._build_dense("dense" if filters else name)
        if not filters:
            return dense
        return self._build_cnn(filters, dense, name)

    def _build_mixed_encoder(self, shapes: Mapping[str, tuple[int, ...]], name):
        dense = self._build_dense("dense")
        images = [part for part, shape in shapes.items() if len(shape) == 3]
        convolutions = {
            part: self._build_cnn(
                self._filters(shapes[part]), MLP((), rng=self.rng), f"cnn_{index}"
            )
            for index, part in enumerate(images)
        }
        return MixedEncoder(shapes, convolutions, dense=dense, name=name)

    def _build_dense(
        self, name: str | None, hiddens: Sequence[int] | None = None
    ) -> MLP:
        config = self.model_config
        return MLP(
            config.fcnet_hiddens if hiddens is None else hiddens,
            config.fcnet_activation,
            use_layernorm=config.fcnet_use_layernorm,
            kernel_initializer=config.fcnet_kernel_initializer,
            rng=self.rng,
            name=name,
        )

    def _build_cnn(self, filters: ConvFilters, dense: MLP, name: str | None) -> CNN:
        config = self.model_config
        return CNN(
            filters,
            config.conv_activation,
            dense=dense,
            kernel_initializer=config.conv_kernel_initializer,
            rng=self.rng,
            name=name,
        )

    def _filters(self, shape: tuple[int, ...]) -> ConvFilters:
        """Returns the filters for images of a shape: the settings', or the default."""
        filters = self.model_config.conv_filters
        if filters is None:
            filters = cnn.default_conv_filters(shape)
        cnn.check_conv_filters(filters, shape)
        return filters

    def build_recurrent_encoder(
        self, tokenizer: keras.layers.Layer, name: str
    ) -> StatefulEncoder:
        """Returns an LSTM or GRU behind an encoder of single steps."""
        config = self.model_config
        num_outputs = config.max_seq_len * config.lstm_cell_size
        budget.spend("a sequence of a recurrent layer", 4 * num_outputs)
        return RecurrentEncoder(
            tokenizer,
            "lstm" if config.use_lstm else "gru",
            config.lstm_cell_size,
            rng=self.rng,
            name=name,
        )

    def _has_images(self) -> bool:
        """Whether observations are images, or have images in them: see the config."""
        config, space = self.model_config, self.observation_space
        if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
            has_images = any(is_image(leaf) for _, leaf in leaves_of(space))
            wanted = "images: a Box of shape (H, W, C) among them"
        else:
            ranks = (3,) if config.conv_filters is None else (2, 3)
            is_box = isinstance(space, gym.spaces.Box)
            has_images = is_box and len(space.shape or ()) in ranks
            wanted = "images: a Box of shape (H, W, C) or (H, W)"
        if config.conv_filters and not has_images:
            raise ConfigError(
                "DefaultModelConfig.conv_filters",
                f"filters for observations of {space}",
                wanted,
            )
        return has_images

    @property
    def action_dist_class(self) -> type[Distribution]:
        """The class of action distributions."""
        return action_dist_class(self.action_space)

    def _build_head(self, output_size: int, initializer, name: str) -> MLP:
        config = self.model_config
        return MLP(
            config.head_fcnet_hiddens,
            config.head_fcnet_activation,
            use_layernorm=config.head_fcnet_use_layernorm,
            output_size=output_size,
            output_kernel_initializer=initializer,
            rng=self.rng,
            name=name,
        )


class PPOCatalog(Catalog):
    """Makes the encoder and the two heads of an actor-critic module."""

    may_have_state = True

    def build_actor_critic_encoder(
        self, framework: str = "tf2"
    ) -> ActorCriticEncoder | StatefulActorCriticEncoder:
        """Returns the encoder, shared or separate as `vf_share_layers` says."""
        config = self.model_config
        encoding = self.build_observation_encoding()
        is_recurrent = config.use_lstm or config.use_gru
        names = ["actor"] if config.vf_share_layers else ["actor", "critic"]
        encoders: list[Any] = [
            self.build_encoder(
                encoding.encoded_shape, "tokenizer" if is_recurrent else name
            )
            for name in names
        ]
        if len(encoders) == 2 and encoders[0] is encoders[1]:
            raise ModuleError(
                "model_config.model",
                "one Keras model for two encoders (vf_share_layers=False)",
                "a function returning a new model, or vf_share_layers=True",
            )
        has_state = isinstance(encoders[0], StatefulEncoder)
        if has_state and is_recurrent:
            raise ModuleError(
                "model_config.model",
                "a model with a state beside use_lstm or use_gru",
                "one of the two",
            )
        if is_recurrent:
            encoders = [
                self.build_recurrent_encoder(encoder, name)
                for encoder, name in zip(encoders, names)
            ]
        if is_recurrent or has_state:
            return StatefulActorCriticEncoder(encoding, *encoders)
        return ActorCriticEncoder(encoding, *encoders)

    def build_pi_head(self, framework: str = "tf2") -> keras.layers.Layer:
        """Returns the policy head: embedding to the action distribution's inputs.

        With `free_log_std` to the first half of these, the means.
        """
        size = self.action_dist_class.required_input_dim(self.action_space)
        if self._has_free_log_std():
            size //= 2
        initializer = self.model_config.head_fcnet_kernel_initializer
        return self._build_head(size, initializer, "pi")

    def build_log_std_bound(self) -> keras.layers.Layer | None:
        """Returns the layer that bounds log standard deviations, if there are any.

        With `free_log_std` it has them, and appends them to the policy head's means.
        """
        bound = self.model_config.log_std_clip_param
        if issubclass(self.action_dist_class, MultiDistribution):
            is_log_std = self.action_dist_class.log_std_inputs()
            if is_log_std.any():
                return BoundedLogStdsOfParts(is_log_std, bound)
        if self.action_dist_class is not DiagGaussian:
            return None
        if self._has_free_log_std():
            size = DiagGaussian.required_input_dim(self.action_space) // 2
            return FreeLogStd(size, bound)
        return BoundedLogStd(-bound, bound)

    def _has_free_log_std(self) -> bool:
        if not self.model_config.free_log_std:
            return False
        if self.action_dist_class is not DiagGaussian:
            raise ConfigError(
                "DefaultModelConfig.free_log_std",
                f"True for actions of {self.action_space}",
                "a Box of actions",
            )
        return True

    def build_vf_head(self, framework: str = "tf2") -> keras.layers.Layer:
        """Returns the value head: embedding to one value."""
        return self._build_head(1, None, "vf")


register_builder("tflearner/PPOCatalog", PPOCatalog)


def checked_model(
    model: Any,
    input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]],
    *,
    may_have_state: bool = False,
) -> keras.layers.Layer:
    """Returns the user's model after checking that it embeds observations.

    Args:
        model: A Keras model or layer, or a function returning one.
        input_shape: Shape of one encoded observation, or of its parts by name.
        may_have_state: Whether it may be a `StatefulEncoder`.

    Raises:
        ModuleError: If it is none, takes other inputs or returns no [B, d] tensor, and
            with a state no [B, T, d] tensor and next state.
    """
    tensorflow_settings.refuse_keras_2("model", model)
    if not isinstance(model, keras.layers.Layer):
        if not callable(model):
            raise ModuleError(
                "model", repr(type(model)), "a Keras model or a function returning one"
            )
        model = model()
        tensorflow_settings.refuse_keras_2("a function given as model", model)
        if not isinstance(model, keras.layers.Layer):
            raise ModuleError(
                "model", f"a function returning {type(model)}", "one returning a model"
            )
    has_state = isinstance(model, StatefulEncoder)
    if has_state and not may_have_state:
        raise ModuleError("model", *NO_STATE)
    num = (2, 1) if has_state else (2,)

    def zeros_of(shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros((*num, *shape), np.float32)

    zeros: Any
    if isinstance(input_shape, Mapping):
        wanted = f"a dict of observations, float32, of shapes {dict(input_shape)}"
        zeros = {name: zeros_of(shape) for name, shape in input_shape.items()}
    else:
        wanted = f"observations of shape {tuple(input_shape)}, float32"
        zeros = zeros_of(input_shape)
        accepted = getattr(model, "input_shape", None) if model.built else None
        if isinstance(accepted, tuple) and not _takes(accepted[1:], input_shape):
            raise ModuleError(
                "model",
                f"a model whose input is {accepted}",
                wanted,
                f"start it with keras.Input({tuple(input_shape)})",
            )
    try:
        if isinstance(model, StatefulEncoder):
            initial = model.initial_state()
            before = tree.map_structure(lambda x: np.repeat(x[None], 2, 0), initial)
            output, after = model(zeros, before)
        else:
            output = model(zeros)
    except Exception as error:
        raise ModuleError(
            "model",
            f"{type(error).__name__} when called with zeros",
            f"a model of {wanted}",
            "the error above this one is the model's own",
        ) from error
    if has_state:
        _check_state(before, after)
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) != len(num) + 1 or tuple(shape[:-1]) != num:
        received = type(output) if shape is None else shape
        raise ModuleError(
            "model",
            f"an output of shape {received} for 2 observations",
            f"an embedding of shape {(*num, 'd')}".replace("'", ""),
            "end the model in an embedding; heads are added to it",
        )
    return model


def _check_state(before: Any, after: Any) -> None:
    """Raises `ModuleError` if a state after a step is unlike the one before it."""
    shapes = [_described(state) for state in (after, before)]
    if shapes[0] != shapes[1]:
        got, want = (f"a state of {own} for 2 observations" for own in shapes)
        raise ModuleError("model", got, f"{want}, as of initial_state()")


def _described(state: Any) -> Any:
    return tree.map_structure(
        lambda x: f"{keras.backend.standardize_dtype(x.dtype)} {tuple(x.shape)}", state
    )


def _takes(accepted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(accepted) == len(shape) and all(
        size is None or size == given for size, given in zip(accepted, shape)
    )
