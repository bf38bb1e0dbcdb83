"""The default module of DQN: values of actions, and slow copies of its networks."""

import dataclasses
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tflearner.checkpoint.builders import register_builder
from tflearner.checks import is_float32
from tflearner.columns import Columns
from tflearner.errors import ConfigError, shown
from tflearner.modules import exploration
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
from tflearner.networks.layers import unsupported_space
from tflearner.networks.numpy_forms import numpy_form
from tflearner.networks.numpy_layers import Chain, Dueling
from tflearner.spaces import mask_spaces

ATOMS = "atoms"
QF_LOGITS = "qf_logits"
QF_NEXT_PREDS = "qf_next_preds"
QF_PROBS = "qf_probs"
QF_TARGET_NEXT_PREDS = "qf_target_next_preds"
QF_TARGET_NEXT_PROBS = "qf_target_next_probs"


@dataclasses.dataclass
class DQNModelConfig(DefaultModelConfig):
    """Model settings of DQN: those of `DefaultModelConfig`, and those of Q-values.

    `DQNConfig` fills in its own settings of the same names.

    Args:
        dueling: Whether action values are the sum of an advantage stream and a value
            stream (Wang et al. 2016, https://arxiv.org/abs/1511.06581).
        double_q: Whether the current network chooses the next action, whose value the
            target network predicts (van Hasselt et al. 2016).
        num_atoms: Number of atoms of the return distribution; 1 predicts the mean only.
        v_min: The lowest atom, in units of return.
        v_max: The highest atom.
    """

    dueling: bool = True
    double_q: bool = True
    num_atoms: int = 1
    v_min: float = -10.0
    v_max: float = 10.0

    def __post_init__(self):
        super().__post_init__()
        where = type(self).__name__
        if self.use_lstm or self.use_gru:
            raise ConfigError(where, "use_lstm or use_gru", *NO_STATE[1:])
        for name in ("dueling", "double_q"):
            if not isinstance(getattr(self, name), bool):
                got = shown(getattr(self, name))
                raise ConfigError(f"{where}.{name}", got, "a bool")
        if type(self.num_atoms) is not int or not 1 <= self.num_atoms <= 2**16:
            want = "an int >= 1, up to 65536"
            raise ConfigError(f"{where}.num_atoms", shown(self.num_atoms), want)
        for name in ("v_min", "v_max"):
            if not is_float32(getattr(self, name)):
                got = shown(getattr(self, name))
                raise ConfigError(f"{where}.{name}", got, "a finite float32 number")
        # NumPy makes Python objects of ints that are too large for 64 bits.
        self.v_min, self.v_max = float(self.v_min), float(self.v_max)
        if self.num_atoms > 1 and not self.v_min < self.v_max:
            raise ConfigError(
                where, f"v_min={self.v_min}, v_max={self.v_max}", "v_min below v_max"
            )


class DQNCatalog(Catalog):
    """Makes the encoder, the advantage head and the value head of a Q-network."""

    action_space: Any
    model_config: DQNModelConfig

    def build_af_head(
        self, framework: str = "tf2", *, name: str = "af"
    ) -> keras.layers.Layer:
        """Returns the head with an output for each atom of each action.

        These are advantages or, without dueling, the values themselves.
        """
        size = int(self.action_space.n) * self.model_config.num_atoms
        initializer = self.model_config.head_fcnet_kernel_initializer
        return self._build_head(size, initializer, name)

    def build_vf_head(
        self, framework: str = "tf2", *, name: str = "vf"
    ) -> keras.layers.Layer:
        """Returns the head with an output for each atom of the value of a state."""
        return self._build_head(self.model_config.num_atoms, None, name)


class DQNTfRLModule(TfRLModule, QNetAPI, TargetNetworkAPI, InferenceOnlyAPI):
    """Default module of DQN: action values on top of an encoder, with target networks.

    In inference it acts greedily; `ACTION_DIST_INPUTS` are action values. In
    exploration it takes a random allowed action with probability `epsilon`, an
    untrained weight: `module.epsilon.assign(0.1)`. `ACTION_DIST_INPUTS` are then the
    logits of the epsilon-greedy policy.

    In training it outputs, float32 [B, n] for n actions:

        qf_preds             Q(s, .)
        qf_next_preds        Q(s', .), with `double_q`
        qf_target_next_preds Q_target(s', .)

    and with several atoms, float32 [B, n, num_atoms], "qf_logits" and "qf_probs" of s,
    "qf_target_next_probs" of s' and "atoms", [num_atoms].

    With dueling, the advantages' mean over the actions is subtracted, for each atom of
    a distribution separately. RLlib subtracts the mean over atoms, so its value stream
    has no effect on distributions.
    """

    action_space: Any
    model_config: Any

    _policy_methods = ("_values", "masked")

    def setup(self) -> None:
        self.model_config = DQNModelConfig.make(self.model_config)
        if not isinstance(self.action_space, gym.spaces.Discrete):
            raise unsupported_space(
                "action space of DQN",
                self.action_space,
                "Discrete",
                "SAC takes a Box, PPO takes any",
            )
        self.has_action_mask = mask_spaces.has_action_mask(
            self.observation_space, self.action_space
        )
        catalog_class = self.catalog_class or DQNCatalog
        self.catalog = catalog_class(
            self.observation_space, self.action_space, self.model_config, seed=self.seed
        )
        self.encoding = self.catalog.build_observation_encoding()
        self.encoder, self.af, self.vf = self._build_networks()
        self.epsilon = self.add_weight(
            shape=(),
            initializer="ones",
            trainable=False,
            dtype="float32",
            name="epsilon",
        )

    def _build_networks(self, prefix: str = "") -> list[Any]:
        catalog, vf = self.catalog, None
        shape = self.encoding.encoded_shape
        encoder = catalog.build_encoder(shape, f"{prefix}encoder")
        if self.model_config.dueling:
            vf = catalog.build_vf_head(name=f"{prefix}vf")
        return [encoder, catalog.build_af_head(name=f"{prefix}af"), vf]

    # Target networks.

    def make_target_networks(self) -> None:
        mains = [self.encoder, self.af, self.vf]
        batch = self.example_batch(1)
        self._target_encoder, self._target_af, self._target_vf = copies_of(
            mains,
            self._build_networks("target_"),
            lambda *networks: self._values(batch, *networks),
        )

    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        pairs = [
            (self.encoder, self._target_encoder),
            (self.af, self._target_af),
            (self.vf, self._target_vf),
        ]
        return [(main, target) for main, target in pairs if main is not None]

    def get_non_inference_attributes(self) -> list[str]:
        return ["_target_encoder", "_target_af", "_target_vf"]

    # Values.

    def compute_q_values(self, batch):
        return self._values(batch, self.encoder, self.af, self.vf)

    def forward_target(self, batch):
        """Returns the target networks' values, as `compute_q_values` returns its own."""
        return self._values(
            batch, self._target_encoder, self._target_af, self._target_vf
        )

    def _values(self, batch, encoder, af, vf) -> dict[str, Any]:
        observations = batch[Columns.OBS]
        embedding = encoder(self.encoding(observations))
        num_actions, num_atoms = int(self.action_space.n), self.model_config.num_atoms
        values = tf.reshape(af(embedding), [-1, num_actions, num_atoms])
        if vf is not None:
            values += vf(embedding)[:, None] - tf.reduce_mean(values, 1, keepdims=True)
        if num_atoms == 1:
            return {QF_PREDS: self.masked(values[..., 0], observations)}
        values = tf.cast(values, tf.float32)
        probs, atoms = tf.nn.softmax(values), tf.constant(self.atoms())
        return {
            QF_PREDS: self.masked(tf.linalg.matvec(probs, atoms), observations),
            QF_LOGITS: values,
            QF_PROBS: probs,
            ATOMS: atoms,
        }

    def atoms(self) -> np.ndarray:
        """Returns the returns that a distribution is over. float32 [num_atoms]."""
        config = self.model_config
        return np.linspace(config.v_min, config.v_max, config.num_atoms, dtype="f4")

    def masked(self, q_values, observations):
        """Returns the values after the mask in observations, if there is one."""
        if not self.has_action_mask:
            return q_values
        return action_masks.masked(q_values, observations)

    # Forward passes.

    def _forward_inference(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.compute_q_values(batch)[QF_PREDS]}

    def _forward_exploration(self, batch, **kwargs):
        q_values = self.compute_q_values(batch)[QF_PREDS]
        logits = exploration.epsilon_greedy_logits(q_values, self.epsilon.value)
        return {Columns.ACTION_DIST_INPUTS: logits}

    def _forward_train(self, batch, **kwargs):
        outputs = self.compute_q_values(batch)
        if Columns.NEXT_OBS not in batch:  # Nothing to learn from yet.
            return outputs
        following = {Columns.OBS: batch[Columns.NEXT_OBS]}
        if self.model_config.double_q:
            outputs[QF_NEXT_PREDS] = self.compute_q_values(following)[QF_PREDS]
        target = self.forward_target(following)
        outputs[QF_TARGET_NEXT_PREDS] = target[QF_PREDS]
        if QF_PROBS in target:
            outputs[QF_TARGET_NEXT_PROBS] = target[QF_PROBS]
        return outputs

    # The policy in other forms.

    def _numpy_form(self):
        encode, advantages = numpy_form(self.encoder), numpy_form(self.af)
        value = None if self.vf is None else numpy_form(self.vf)
        if encode is None or advantages is None or (value is None) != (self.vf is None):
            return None
        values = Dueling(advantages, value, self.atoms())
        return NumpyPolicy(
            self.encoding.numpy_form,
            Chain((encode, values)),
            is_masked=self.has_action_mask,
            epsilon=self.epsilon,
        )

    def _keras_form(self, form, observations, state):
        embedding = form(self.encoder, self.encoding.encode(observations))
        num_atoms = self.model_config.num_atoms
        shape = (-1, int(self.action_space.n), num_atoms)
        values = ops.reshape(form(self.af, embedding), shape)
        if self.vf is not None:
            value = ops.reshape(form(self.vf, embedding), (-1, 1, num_atoms))
            values = values - ops.mean(values, axis=1, keepdims=True) + value
        if num_atoms == 1:
            values = values[..., 0]
        else:
            values = ops.sum(ops.softmax(values) * self.atoms(), axis=-1)
        return self.masked(values, observations), state


register_builder(
    "tflearner/DQNModelConfig", DQNModelConfig, arguments=DQNModelConfig.to_dict
)
register_builder("tflearner/DQNCatalog", DQNCatalog)
register_builder("tflearner/DQNTfRLModule", DQNTfRLModule)
