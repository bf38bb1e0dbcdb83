"""The default modules of BC, and of PPO and its relatives."""

import dataclasses
from typing import Any

import tensorflow as tf

from tflearner.checkpoint.builders import register_builder
from tflearner.columns import Columns
from tflearner.errors import BatchError
from tflearner.modules.apis import InferenceOnlyAPI, ValueFunctionAPI
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.numpy_policy import NumpyPolicy
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.networks.action_masks import masked
from tflearner.networks.numpy_forms import chain, numpy_form
from tflearner.networks.numpy_layers import Chain
from tflearner.networks.recurrent import StatefulEncoder, apply_per_step
from tflearner.spaces.mask_spaces import has_action_mask
from tflearner.types import Tensor


class BCTfRLModule(TfRLModule):
    """Default module of BC: a policy on top of an encoder.

    Its output is `ACTION_DIST_INPUTS`. With a recurrent encoder it takes sequences, OBS
    [S, T, ...], and the state before each sequence in STATE_IN, [S, ...]. Outputs are
    then [S, T, ...], with the state after each sequence in STATE_OUT.

    If observations hold an "action_mask", the logits of forbidden actions are
    `mask_spaces.FORBIDDEN` in all outputs. So they are never taken, and losses are over
    the allowed actions.
    """

    _policy_methods = ("_policy", "_masked_policy", "masked")

    def setup(self) -> None:
        self.model_config = DefaultModelConfig.make(self.model_config)
        if not isinstance(self, ValueFunctionAPI):  # Nothing to keep apart.
            shared = dataclasses.replace(self.model_config, vf_share_layers=True)
            self.model_config = shared
        catalog_class = self.catalog_class or PPOCatalog
        self.catalog = catalog_class(
            self.observation_space, self.action_space, self.model_config, seed=self.seed
        )
        self._is_masked = has_action_mask(self.observation_space, self.action_space)
        self.encoder = self.catalog.build_actor_critic_encoder(framework="tf2")
        self.pi = self.catalog.build_pi_head(framework="tf2")
        self.log_std_bound = self.catalog.build_log_std_bound()

    @property
    def _observation_encoding(self) -> Any:
        return getattr(self.encoder, "encoding", None)

    def get_initial_state(self) -> dict[str, Any]:
        encoder = getattr(self, "encoder", None)
        if isinstance(encoder, StatefulEncoder):
            return encoder.initial_state()
        return {}

    def _forward(self, batch, **kwargs):
        if not self.is_stateful():
            embedding = self.encoder.embed_for_actor(batch[Columns.OBS])
            return {Columns.ACTION_DIST_INPUTS: self._masked_policy(embedding, batch)}
        # The state of a separate value function moves on while acting, too: sequences
        # for training start from it.
        embedding, _, state = self.encoder(batch[Columns.OBS], _state_in(batch))
        return {
            Columns.ACTION_DIST_INPUTS: self._masked_policy(embedding, batch),
            Columns.STATE_OUT: state,
        }

    def _masked_policy(self, embedding, batch):
        """Returns the distribution's inputs for the embedding of `batch`."""
        if self.is_stateful():
            outputs = apply_per_step(self._policy, embedding)
        else:
            outputs = self._policy(embedding)
        return self.masked(outputs, batch[Columns.OBS])

    def masked(self, outputs, observations):
        """Returns the distribution's inputs after the mask in observations, if any."""
        return masked(outputs, observations) if self._is_masked else outputs

    def _policy(self, embedding):
        outputs = self.pi(embedding)
        return outputs if self.log_std_bound is None else self.log_std_bound(outputs)

    def _numpy_form(self):
        encode = numpy_form(self.encoder)
        bound = [] if self.log_std_bound is None else [self.log_std_bound]
        network, head = encode, chain([self.pi, *bound])
        if encode is None or head is None:
            return None
        if not self.is_stateful():
            network, head = Chain((encode, *head.layers)), None
        return NumpyPolicy(
            self.encoder.encoding.numpy_form, network, head, self._is_masked
        )

    def _keras_form(self, form, observations, state):
        encoded = self.encoder.encoding.encode(observations)
        if self.is_stateful():
            embedding, state = form(self.encoder, encoded, state)
        else:
            embedding = form(self.encoder, encoded)
        # Greedy actions do not depend on log standard deviations.
        return self.masked(form(self.pi, embedding), observations), state


class PPOTfRLModule(BCTfRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """Default module of PPO: a policy and a value function on top of an encoder.

    Its outputs are those of `BCTfRLModule` and, in training, `VF_PREDS`. Values do not
    depend on an action mask.
    """

    def setup(self) -> None:
        super().setup()
        self.vf = self.catalog.build_vf_head(framework="tf2")

    def _forward_train(self, batch, **kwargs):
        if not self.is_stateful():
            for_actor, for_critic = self.encoder(batch[Columns.OBS])
            return {
                Columns.ACTION_DIST_INPUTS: self._masked_policy(for_actor, batch),
                Columns.VF_PREDS: self._values(for_critic),
            }
        for_actor, for_critic, state = self.encoder(
            batch[Columns.OBS], _state_in(batch)
        )
        return {
            Columns.ACTION_DIST_INPUTS: self._masked_policy(for_actor, batch),
            Columns.VF_PREDS: apply_per_step(self._values, for_critic),
            Columns.STATE_OUT: state,
        }

    def compute_values(self, batch, embeddings=None):
        if not self.is_stateful():
            if embeddings is None:
                embeddings = self.encoder.embed_for_critic(batch[Columns.OBS])
            return self._values(embeddings)
        if embeddings is None:
            embeddings = self.encoder.embed_for_critic(
                batch[Columns.OBS], _state_in(batch)
            )
        return apply_per_step(self._values, embeddings)

    def _values(self, embedding):
        return tf.squeeze(self.vf(embedding), -1)

    def get_non_inference_attributes(self) -> list[str]:
        if self.is_stateful():  # The critic's state is an output of acting, too.
            return ["vf"]
        return ["vf", "encoder.critic"]


register_builder("tflearner/BCTfRLModule", BCTfRLModule)
register_builder("tflearner/PPOTfRLModule", PPOTfRLModule)


def _state_in(batch: dict[str, Any]) -> dict[str, Tensor]:
    if Columns.STATE_IN not in batch:
        raise BatchError(
            "batch of a module with a state",
            f"columns {sorted(batch)}",
            f"{Columns.STATE_IN!r} among them: the state before each sequence",
            "at an episode's start it is module.get_initial_state()",
        )
    return batch[Columns.STATE_IN]
