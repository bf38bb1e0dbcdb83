"""The default actor-critic module of PPO and its relatives."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.networks import MLP
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
            dense layers alone, or a subclass changed a forward pass.
        """
        hooks = ("_forward", "_forward_exploration", "_forward_inference", "_policy")
        changed = any(
            getattr(type(self), hook) is not getattr(PPOTfRLModule, hook)
            for hook in hooks
        )
        networks = (self.encoder.actor, self.pi)
        if changed or not all(type(network) is MLP for network in networks):
            return None
        parts = [network.numpy_layers() for network in networks]
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
