"""Makes the networks of default modules from spaces and settings.

To change one network of a default module, subclass its catalog, override that method
and name the class in `RLModuleSpec(catalog_class=...)`.
"""

import gymnasium as gym
import keras
import numpy as np

from tflearner.errors import ModuleError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.distributions import DiagGaussian, Distribution
from tflearner.modules.networks import MLP, BoundedLogStd, ObservationEncoding
from tflearner.modules.rl_module import action_dist_class
from tflearner.types import Tensor


class ActorCriticEncoder(keras.layers.Layer):
    """Embeds observations for the policy and for the value function.

    Args:
        encoding: Turns raw observations into float32.
        actor: Embeds for the policy: a layer or model, float [B, ...] to float [B, d].
        critic: Embeds for the value function; `None` shares `actor`.
    """

    def __init__(self, encoding, actor, critic=None):
        super().__init__(name="encoder")
        self.encoding = encoding
        self.actor = actor
        self.critic = critic

    def embed_for_actor(self, observations: Tensor) -> Tensor:
        """Returns the policy's embedding. float [B, d]."""
        return self.actor(self.encoding(observations))

    def embed_for_critic(self, observations: Tensor) -> Tensor:
        """Returns the value function's embedding. float [B, d]."""
        network = self.actor if self.critic is None else self.critic
        return network(self.encoding(observations))

    def call(self, observations):
        """Returns both embeddings, computing a shared one once."""
        encoded = self.encoding(observations)
        embedding = self.actor(encoded)
        if self.critic is None:
            return embedding, embedding
        return embedding, self.critic(encoded)


class PPOCatalog:
    """Makes encoder, policy head and value head of an actor-critic module.

    Args:
        observation_space: Space of single observations: Box, Discrete, MultiDiscrete.
        action_space: Space of single actions: Discrete or Box.
        model_config: Settings of the networks.
        seed: Seed of the initial weights.
    """

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

    def build_actor_critic_encoder(self, framework: str = "tf2") -> ActorCriticEncoder:
        """Returns the encoder, shared or separate as `vf_share_layers` says."""
        encoding = ObservationEncoding(self.observation_space)
        actor = self.build_encoder(encoding.encoded_shape, "actor")
        critic = None
        if not self.model_config.vf_share_layers:
            critic = self.build_encoder(encoding.encoded_shape, "critic")
        if critic is not None and critic is actor:
            raise ModuleError(
                "model_config.model",
                "one Keras model for two encoders (vf_share_layers=False)",
                "a function returning a new model, or vf_share_layers=True",
            )
        return ActorCriticEncoder(encoding, actor, critic)

    def build_encoder(
        self, input_shape: tuple[int, ...], name: str | None = None
    ) -> keras.layers.Layer:
        """Returns one encoder: the user's model, or dense layers called `name`."""
        config = self.model_config
        if config.model is not None:
            return checked_model(config.model, input_shape)
        return MLP(
            config.fcnet_hiddens,
            config.fcnet_activation,
            kernel_initializer=config.fcnet_kernel_initializer,
            rng=self.rng,
            name=name,
        )

    def build_pi_head(self, framework: str = "tf2") -> keras.layers.Layer:
        """Returns the policy head: embedding to the action distribution's inputs."""
        size = self.action_dist_class.required_input_dim(self.action_space)
        initializer = self.model_config.head_fcnet_kernel_initializer
        return self._build_head(size, initializer, "pi")

    def build_log_std_bound(self) -> keras.layers.Layer | None:
        """Returns the layer that bounds log standard deviations, if there are any."""
        if self.action_dist_class is not DiagGaussian:
            return None
        return BoundedLogStd(self.model_config.log_std_clip_param)

    def build_vf_head(self, framework: str = "tf2") -> keras.layers.Layer:
        """Returns the value head: embedding to one value."""
        return self._build_head(1, None, "vf")

    @property
    def action_dist_class(self) -> type[Distribution]:
        """The class of action distributions."""
        return action_dist_class(self.action_space)

    def _build_head(self, output_size: int, initializer, name: str) -> MLP:
        config = self.model_config
        return MLP(
            config.head_fcnet_hiddens,
            config.head_fcnet_activation,
            output_size=output_size,
            output_kernel_initializer=initializer,
            rng=self.rng,
            name=name,
        )


def checked_model(model, input_shape: tuple[int, ...]) -> keras.layers.Layer:
    """Returns the user's model after checking that it embeds observations.

    Args:
        model: A Keras model or layer, or a function returning one.
        input_shape: Shape of one encoded observation.

    Raises:
        ModuleError: If it is none, takes other inputs or returns no [B, d] tensor.
    """
    if not isinstance(model, keras.layers.Layer):
        if not callable(model):
            raise ModuleError(
                "model", repr(type(model)), "a Keras model or a function returning one"
            )
        model = model()
        if not isinstance(model, keras.layers.Layer):
            raise ModuleError(
                "model", f"a function returning {type(model)}", "one returning a model"
            )
    wanted = f"observations of shape {tuple(input_shape)}, float32"
    accepted = getattr(model, "input_shape", None) if model.built else None
    if isinstance(accepted, tuple) and not _takes(accepted[1:], input_shape):
        raise ModuleError(
            "model",
            f"a model whose input is {accepted}",
            wanted,
            f"start it with keras.Input({tuple(input_shape)})",
        )
    try:
        output = model(np.zeros((2, *input_shape), np.float32))
    except Exception as error:
        raise ModuleError(
            "model",
            f"{type(error).__name__} when called with zeros",
            f"a model of {wanted}",
            "the error above this one is the model's own",
        ) from error
    if not hasattr(output, "shape") or len(output.shape) != 2 or output.shape[0] != 2:
        received = getattr(output, "shape", type(output))
        raise ModuleError(
            "model",
            f"an output of shape {received} for 2 observations",
            "an embedding of shape (2, d)",
            "end the model in an embedding; heads are added to it",
        )
    return model


def _takes(accepted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(accepted) == len(shape) and all(
        size is None or size == given for size, given in zip(accepted, shape)
    )
