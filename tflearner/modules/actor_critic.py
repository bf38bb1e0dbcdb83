"""The default actor-critic module of PPO and its relatives."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.catalog import ActorCriticEncoder, PPOCatalog
from tflearner.modules.networks import MLP, BoundedLogStd, ObservationEncoding
from tflearner.modules.tf_rl_module import TfRLModule


class PPOTfRLModule(TfRLModule, ValueFunctionAPI):
    """A policy and a value function on top of an encoder.

    Puts out `ACTION_DIST_INPUTS`, and while training `VF_PREDS` as well.
    """

    def setup(self) -> None:
        catalog_class = self.catalog_class or PPOCatalog
        self.catalog = catalog_class(
            self.observation_space, self.action_space, self.model_config, seed=self.seed
        )
        self.encoder = self.catalog.build_actor_critic_encoder(framework="tf2")
        self.pi = self.catalog.build_pi_head(framework="tf2")
        self.log_std_bound = self.catalog.build_log_std_bound()
        self.vf = self.catalog.build_vf_head(framework="tf2")

    def _forward(self, batch, **kwargs):
        embedding = self.encoder.embed_for_actor(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: self._policy(embedding)}

    def _forward_train(self, batch, **kwargs):
        for_actor, for_critic = self.encoder(batch[Columns.OBS])
        return {
            Columns.ACTION_DIST_INPUTS: self._policy(for_actor),
            Columns.VF_PREDS: tf.squeeze(self.vf(for_critic), -1),
        }

    def compute_values(self, batch, embeddings=None):
        if embeddings is None:
            embeddings = self.encoder.embed_for_critic(batch[Columns.OBS])
        return tf.squeeze(self.vf(embeddings), -1)

    def _policy(self, embedding):
        outputs = self.pi(embedding)
        return outputs if self.log_std_bound is None else self.log_std_bound(outputs)

    def numpy_policy(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Returns a NumPy copy of the policy with the weights of this moment.

        Returns:
            A function from observations to `ACTION_DIST_INPUTS`, equal to the module
            within float32 rounding; `None` where the policy is not made of the default
            layers alone, or a subclass changed a forward pass.
        """
        if not self._has_default_policy():
            return None
        parts = [self.encoder.actor.numpy_layers(), self.pi.numpy_layers()]
        if None in parts:
            return None
        layers = parts[0] + parts[1]
        encode, bound = self.encoder.encoding, self.log_std_bound

        def policy(observations: np.ndarray) -> np.ndarray:
            x = encode.numpy_forward(observations)
            x = x.reshape(len(x), -1)
            for kernel, bias, activation in layers:
                x = activation(x @ kernel + bias)
            return x if bound is None else bound.numpy_forward(x)

        return policy

    def _has_default_policy(self) -> bool:
        """Whether what acts is exactly this file's code and the default layers."""
        hooks = ("_forward", "_forward_exploration", "_forward_inference", "_policy")
        names = (*hooks, "forward_exploration", "forward_inference")
        cls = type(self)
        return (
            all(getattr(cls, name) is getattr(PPOTfRLModule, name) for name in names)
            and type(self.encoder) is ActorCriticEncoder
            and type(self.encoder.encoding) is ObservationEncoding
            and type(self.encoder.actor) is MLP
            and type(self.pi) is MLP
            and type(self.log_std_bound) in (BoundedLogStd, type(None))
        )
