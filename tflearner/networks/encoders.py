"""Encoders of actor-critic modules: observations to the embeddings that heads read.

Shapes: `S` sequences of `T` steps.
"""

from collections.abc import Callable
from typing import Any

from tflearner.networks import numpy_forms
from tflearner.networks import numpy_layers as forms
from tflearner.networks.keras_forms import as_is
from tflearner.networks.layers import CompositeLayer
from tflearner.networks.observation_encoding import ObservationEncoding
from tflearner.networks.recurrent import StatefulEncoder, apply_per_step
from tflearner.types import Tensor


class ActorCriticEncoder(CompositeLayer):
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

    def numpy_form(self) -> Any:
        """Returns the network that embeds for the policy: see `numpy_forms`."""
        return numpy_forms.numpy_form(self.actor)

    def keras_form(self, form: Callable, encoded: Any) -> Any:
        """Returns the policy's embedding of encoded observations, see `keras_forms`."""
        return form(self.actor, encoded)


class StatefulActorCriticEncoder(CompositeLayer):
    """Embeds sequences for policy and value function, with stateful encoders.

    A shared encoder has one state; separate encoders have theirs under "actor" and
    "critic".

    Args:
        encoding: Turns raw observations into float32.
        actor: Embeds for the policy.
        critic: Embeds for the value function; `None` shares `actor`.
    """

    def __init__(
        self,
        encoding: ObservationEncoding,
        actor: StatefulEncoder,
        critic: StatefulEncoder | None = None,
    ):
        super().__init__(name="encoder")
        self.encoding = encoding
        self.actor = actor
        self.critic = critic

    def initial_state(self) -> Any:
        """Returns the state at an episode's start: NumPy arrays without batch axis."""
        if self.critic is None:
            return self.actor.initial_state()
        return {
            "actor": self.actor.initial_state(),
            "critic": self.critic.initial_state(),
        }

    def embed_for_critic(self, observations: Tensor, state: Any) -> Tensor:
        """Returns the value function's embedding. float [S, T, d]."""
        encoded = apply_per_step(self.encoding, observations)
        if self.critic is None:
            return self.actor(encoded, state)[0]
        return self.critic(encoded, state["critic"])[0]

    def call(self, observations, state):
        """Returns the embeddings for policy and value function, and the next state.

        Args:
            observations: [S, T, ...].
            state: The state before the first step, [S, ...] each.

        Returns:
            float [S, T, d] twice, and the state after the last step.
        """
        return self._embed(as_is, apply_per_step(self.encoding, observations), state)

    def _embed(self, form: Callable, encoded: Any, state: Any) -> tuple[Any, Any, Any]:
        if self.critic is None:
            embedding, state = form(self.actor, encoded, state)
            return embedding, embedding, state
        for_actor, actor_state = form(self.actor, encoded, state["actor"])
        for_critic, critic_state = form(self.critic, encoded, state["critic"])
        return for_actor, for_critic, {"actor": actor_state, "critic": critic_state}

    def keras_form(self, form: Callable, encoded: Any, state: Any) -> tuple[Any, Any]:
        """Returns the policy's embedding after one step, and the next state."""
        embedding, _, state = self._embed(form, encoded, state)
        return embedding, state

    def numpy_form(self) -> Any:
        """Returns one step without the encoding in NumPy: see `numpy_forms`."""
        actor = numpy_forms.numpy_form(self.actor)
        if actor is None or self.critic is None:
            return actor
        critic = numpy_forms.numpy_form(self.critic)
        return None if critic is None else forms.StatefulPair(actor, critic)
