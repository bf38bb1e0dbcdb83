"""The default module of SAC: a policy, one or two critics, and slow copies of these."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from tflearner.checkpoint.builders import register_builder
from tflearner.checks import is_float32
from tflearner.columns import Columns
from tflearner.errors import ConfigError, SpaceError, shown
from tflearner.modules.apis import (
    QF_PREDS,
    InferenceOnlyAPI,
    QNetAPI,
    TargetNetworkAPI,
)
from tflearner.modules.catalog import NO_STATE, Catalog
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.numpy_policy import NumpyPolicy
from tflearner.modules.target_networks import copies_of
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.networks import action_masks
from tflearner.networks.distributions import Categorical, Distribution
from tflearner.networks.layers import (
    MLP,
    BoundedLogStd,
    CompositeLayer,
    unsupported_space,
)
from tflearner.networks.numpy_forms import chain
from tflearner.networks.squashed_gaussian import SquashedGaussian
from tflearner.spaces import mask_spaces
from tflearner.types import Tensor

QF_TWIN_PREDS = "qf_twin_preds"
QF_TARGET_NEXT = "q_target_next"
QF_CURRENT = "q_curr"
LOGP_RESAMPLED = "logp_resampled"
LOGP_NEXT_RESAMPLED = "logp_next_resampled"
ACTION_LOG_PROBS = "action_log_probs"
ACTION_LOG_PROBS_NEXT = "action_log_probs_next"


@dataclasses.dataclass
class SACModelConfig(DefaultModelConfig):
    """Model settings of SAC: those of `DefaultModelConfig`, and those of critics.

    `SACConfig` fills in its own settings of the same names.

    Args:
        twin_q: Whether there are two critics, whose lower value is used (Fujimoto et
            al. 2018, https://arxiv.org/abs/1802.09477).
        log_std_bounds: Bounds on log standard deviations; RLlib's by default.
    """

    fcnet_activation: Any = "relu"
    twin_q: bool = True
    log_std_bounds: tuple[float, float] = (-5.0, 2.0)

    def __post_init__(self):
        super().__post_init__()
        where = type(self).__name__
        if self.use_lstm or self.use_gru:
            raise ConfigError(where, "use_lstm or use_gru", *NO_STATE[1:])
        if self.free_log_std:
            raise ConfigError(where, "free_log_std", "log_std_bounds alone")
        if not isinstance(self.twin_q, bool):
            raise ConfigError(f"{where}.twin_q", shown(self.twin_q), "a bool")
        check_log_std_bounds(f"{where}.log_std_bounds", self.log_std_bounds)
        low, high = self.log_std_bounds
        self.log_std_bounds = (float(low), float(high))


def check_log_std_bounds(where: str, bounds: Any) -> None:
    """Raises `ConfigError` unless these are two finite numbers, the lower one first."""
    is_pair = isinstance(bounds, tuple | list) and len(bounds) == 2
    if not is_pair or not all(map(is_float32, bounds)) or not bounds[0] < bounds[1]:
        want = "two finite numbers, the lower one first"
        raise ConfigError(where, shown(bounds), want)


class ActionValueEncoder(CompositeLayer):
    """Embeds an observation and a continuous action together.

    Args:
        observation_encoder: Embeds the encoded observation first; `None` takes it as it
            is.
        dense: What follows on both side by side.
        name: What `summary()` calls it.
    """

    def __init__(
        self, observation_encoder: keras.layers.Layer | None, dense: MLP, *, name: str
    ):
        super().__init__(name=name)
        self.observation_encoder = observation_encoder
        self.dense = dense

    def call(self, encoded, actions):
        if self.observation_encoder is not None:
            encoded = self.observation_encoder(encoded)
        rows = tf.shape(actions)[0]
        flat = [
            tf.reshape(tf.cast(x, tf.float32), [rows, int(np.prod(x.shape[1:]))])
            for x in (encoded, actions)
        ]
        return self.dense(tf.concat(flat, -1))


class SACCatalog(Catalog):
    """Makes the networks of SAC: policy and critics."""

    action_space: Any
    model_config: SACModelConfig

    @property
    def has_values_of_all_actions(self) -> bool:
        """Whether critics return the values of all actions at once: discrete ones."""
        return isinstance(self.action_space, gym.spaces.Discrete)

    @property
    def action_dist_class(self) -> type[Distribution]:
        """The class of action distributions."""
        return Categorical if self.has_values_of_all_actions else SquashedGaussian

    def build_pi_head(self, framework: str = "tf2") -> keras.layers.Layer:
        """Returns the policy head: embedding to the action distribution's inputs."""
        size = self.action_dist_class.required_input_dim(self.action_space)
        initializer = self.model_config.head_fcnet_kernel_initializer
        return self._build_head(size, initializer, "pi")

    def build_log_std_bound(self) -> BoundedLogStd | None:
        """Returns the layer that bounds log standard deviations, if there are any."""
        if self.has_values_of_all_actions:
            return None
        return BoundedLogStd(*self.model_config.log_std_bounds)

    def build_qf_encoder(
        self,
        input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]],
        name: str,
    ) -> keras.layers.Layer:
        """Returns a critic's encoder: of observations or, of these with actions.

        A vector of observations stands side by side with the action in front of the
        dense layers. Images, and what an own model reads, are embedded first.

        Args:
            input_shape: Of one encoded observation.
            name: What `summary()` calls it.
        """
        if self.has_values_of_all_actions:
            return self.build_encoder(input_shape, name)
        hiddens = self.model_config.fcnet_hiddens
        is_vector = isinstance(input_shape, tuple) and len(input_shape) == 1
        if is_vector and self.model_config.model is None:
            return ActionValueEncoder(None, self._build_dense("dense"), name=name)
        dense = self._build_dense("dense", hiddens[-1:])
        return ActionValueEncoder(self.build_encoder(input_shape), dense, name=name)

    def build_qf_head(
        self, framework: str = "tf2", *, name: str = "qf"
    ) -> keras.layers.Layer:
        """Returns a critic's head: one value or, of discrete actions, one for each."""
        size = int(self.action_space.n) if self.has_values_of_all_actions else 1
        return self._build_head(size, None, name)


class SACTfRLModule(TfRLModule, QNetAPI, TargetNetworkAPI, InferenceOnlyAPI):
    """Default module of SAC: a policy, one or two critics, and target networks.

    Policy and critics share no weights. Continuous actions, [B, d], are those of a
    `SquashedGaussian` and stay in [-1, 1]; `normalize_actions` stretches them to the
    bounds of the environment's Box.

    In training it outputs, for continuous actions, float32 [B]:

        qf_preds, qf_twin_preds   Q(s, a) of the actions taken, by both critics
        logp_resampled            log pi(b | s) of an action b drawn now
        q_curr                    min Q(s, b), with a gradient through b alone
        logp_next_resampled       log pi(a' | s') of an action a' drawn now
        q_target_next             min Q_target(s', a')

    where b and a' are drawn with the columns NOISE and NEXT_NOISE, standard normal
    float32 [B, d]. For n discrete actions, float32 [B, n]: "qf_preds", "qf_twin_preds"
    and "q_target_next" of all actions, "action_log_probs" of s and
    "action_log_probs_next" of s'.
    """

    action_space: Any
    model_config: Any

    _policy_methods = ("_policy", "masked")

    def setup(self) -> None:
        self.model_config = SACModelConfig.make(self.model_config)
        _check_action_space(self.action_space)
        self.has_action_mask = mask_spaces.has_action_mask(
            self.observation_space, self.action_space
        )
        catalog_class = self.catalog_class or SACCatalog
        self.catalog = catalog_class(
            self.observation_space, self.action_space, self.model_config, seed=self.seed
        )
        self._is_discrete = self.catalog.has_values_of_all_actions
        self.encoding = self.catalog.build_observation_encoding()
        shape = self.encoding.encoded_shape
        self.pi_encoder = self.catalog.build_encoder(shape, "pi_encoder")
        self.pi = self.catalog.build_pi_head()
        self.log_std_bound = self.catalog.build_log_std_bound()
        self.qf_encoder, self.qf = self._build_critic("qf")
        self.qf_twin_encoder, self.qf_twin = None, None
        if self.model_config.twin_q:
            self.qf_twin_encoder, self.qf_twin = self._build_critic("qf_twin")
        _check_own_models(self.pi_encoder, self.qf_encoder, self.qf_twin_encoder)

    def _build_critic(self, name: str) -> list[Any]:
        shape = self.encoding.encoded_shape
        encoder = self.catalog.build_qf_encoder(shape, f"{name}_encoder")
        return [encoder, self.catalog.build_qf_head(name=name)]

    def get_train_action_dist_cls(self) -> type[Distribution]:
        return self.catalog.action_dist_class

    # Target networks.

    def make_target_networks(self) -> None:
        batch = self.example_batch(1)
        for name in ("qf", "qf_twin"):
            mains = [getattr(self, f"{name}_encoder"), getattr(self, name)]
            targets: list[Any] = [None, None]
            if mains[0] is not None:
                targets = copies_of(
                    mains,
                    self._build_critic(f"target_{name}"),
                    lambda *networks: self._critic(batch, *networks),
                )
            setattr(self, f"target_{name}_encoder", targets[0])
            setattr(self, f"target_{name}", targets[1])

    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        names = ("qf_encoder", "qf", "qf_twin_encoder", "qf_twin")
        pairs = [(getattr(self, n), getattr(self, f"target_{n}")) for n in names]
        return [(main, target) for main, target in pairs if main is not None]

    def get_non_inference_attributes(self) -> list[str]:
        names = ["qf_encoder", "qf", "qf_twin_encoder", "qf_twin"]
        return names + [f"target_{name}" for name in names]

    # Values.

    def compute_q_values(self, batch):
        """Returns the lower values of both critics under "qf_preds".

        float32 [B] of the actions in the batch, or [B, n] of all discrete ones.
        """
        return {QF_PREDS: _least(self._critics(batch))}

    def forward_target(self, batch):
        """Returns the target networks' values, as `compute_q_values` returns its own."""
        values = [self._critic(batch, self.target_qf_encoder, self.target_qf)]
        if self.target_qf_twin is not None:
            values.append(
                self._critic(batch, self.target_qf_twin_encoder, self.target_qf_twin)
            )
        return {QF_PREDS: _least(values)}

    def _critics(self, batch) -> list[Tensor]:
        values = [self._critic(batch, self.qf_encoder, self.qf)]
        if self.qf_twin is not None:
            values.append(self._critic(batch, self.qf_twin_encoder, self.qf_twin))
        return values

    def _critic(self, batch, encoder, head) -> Tensor:
        encoded = self.encoding(batch[Columns.OBS])
        if not self._is_discrete:
            return tf.squeeze(head(encoder(encoded, batch[Columns.ACTIONS])), -1)
        return self.masked(head(encoder(encoded)), batch[Columns.OBS])

    def _critics_of_drawn(self, batch, actions: Tensor) -> Tensor:
        """Returns the critics' lower value of actions, with a gradient to these alone.

        The critics have to judge the policy and not to please it: what their weights
        would get of its loss is left out, as the derivative by the actions is taken
        beforehand and then stands as a number. float32 [B].
        """
        fixed = tf.stop_gradient(actions)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(fixed)
            drawn = {Columns.OBS: batch[Columns.OBS], Columns.ACTIONS: fixed}
            values = _least(self._critics(drawn))
        slopes = tf.stop_gradient(tape.gradient(values, fixed))
        change = tf.reduce_sum(slopes * (actions - fixed), -1)  # 0, but for its slope.
        return tf.stop_gradient(values) + change

    # Forward passes.

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self._policy(batch[Columns.OBS])}

    def _policy(self, observations) -> Tensor:
        outputs = self.pi(self.pi_encoder(self.encoding(observations)))
        if self.log_std_bound is not None:
            return self.log_std_bound(outputs)
        return self.masked(outputs, observations)

    def masked(self, outputs, observations):
        """Returns outputs for all actions after the mask in observations, if any."""
        if not self.has_action_mask:
            return outputs
        return action_masks.masked(outputs, observations)

    def _forward_train(self, batch, **kwargs):
        outputs = dict(zip((QF_PREDS, QF_TWIN_PREDS), self._critics(batch)))
        outputs[Columns.ACTION_DIST_INPUTS] = self._policy(batch[Columns.OBS])
        if Columns.NEXT_OBS not in batch:  # Nothing to learn from yet.
            return outputs
        following = {Columns.OBS: batch[Columns.NEXT_OBS]}
        inputs = outputs[Columns.ACTION_DIST_INPUTS]
        next_inputs = self._policy(batch[Columns.NEXT_OBS])
        if self._is_discrete:
            outputs[ACTION_LOG_PROBS] = tf.nn.log_softmax(inputs)
            outputs[ACTION_LOG_PROBS_NEXT] = tf.nn.log_softmax(next_inputs)
        else:
            policy, next_policy = map(
                SquashedGaussian.from_logits, (inputs, next_inputs)
            )
            drawn, logp = policy.rsample_and_logp(batch[Columns.NOISE])
            actions, next_logp = next_policy.rsample_and_logp(batch[Columns.NEXT_NOISE])
            following[Columns.ACTIONS] = actions
            outputs[LOGP_RESAMPLED] = logp
            outputs[QF_CURRENT] = self._critics_of_drawn(batch, drawn)
            outputs[LOGP_NEXT_RESAMPLED] = next_logp
        outputs[QF_TARGET_NEXT] = self.forward_target(following)[QF_PREDS]
        return outputs

    # The policy in other forms.

    def _numpy_form(self):
        bound = [] if self.log_std_bound is None else [self.log_std_bound]
        network = chain([self.pi_encoder, self.pi, *bound])
        return network and NumpyPolicy(
            self.encoding.numpy_form, network, is_masked=self.has_action_mask
        )

    def _keras_form(self, form, observations, state):
        embedding = form(self.pi_encoder, self.encoding.encode(observations))
        return self.masked(form(self.pi, embedding), observations), state


def _least(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else tf.minimum(*values)


def _check_action_space(space: Any) -> None:
    if isinstance(space, gym.spaces.Discrete):
        return
    if not isinstance(space, gym.spaces.Box):
        raise unsupported_space(
            "action space of SAC", space, "Box or Discrete", "PPO takes any"
        )
    if not (space.bounded_below & space.bounded_above).all():
        raise SpaceError(
            "action space of SAC",
            str(space),
            "a Box with finite bounds",
            "its actions are squashed to [-1, 1] and stretched to the bounds; give the "
            "environment some with gymnasium.wrappers.RescaleAction or ClipAction",
        )


def _check_own_models(*encoders: Any) -> None:
    """Raises for one Keras model in several networks, which share no weights."""
    models = [getattr(e, "observation_encoder", e) for e in encoders if e is not None]
    models = [model for model in models if model is not None]
    if len({id(model) for model in models}) < len(models):
        raise ConfigError(
            "model_config.model",
            "one Keras model for policy and critics",
            "a function returning a new model",
            "SAC's networks share no weights: model=lambda: keras.Sequential([...])",
        )


register_builder(
    "tflearner/SACModelConfig", SACModelConfig, arguments=SACModelConfig.to_dict
)
register_builder("tflearner/SACCatalog", SACCatalog)
register_builder("tflearner/SACTfRLModule", SACTfRLModule)
