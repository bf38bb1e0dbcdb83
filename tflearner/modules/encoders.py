"""Encoders of actor-critic modules: observations to the embeddings that heads read.

Shapes: `S` sequences of `T` steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tflearner.modules.networks import MLP, CompositeLayer
from tflearner.modules.observation_encoding import ObservationEncoding
from tflearner.modules.recurrent import RecurrentEncoder, apply_per_step
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

    def numpy_copy(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Returns `embed_for_actor` with the weights of this moment, in NumPy.

        Returns:
            A function of observations; `None` unless all layers are default ones that
            have a NumPy form.
        """
        actor = self.actor.numpy_copy() if type(self.actor) is MLP else None
        if actor is None or type(self.encoding) is not ObservationEncoding:
            return None
        encode = self.encoding.numpy_forward
        return lambda observations: actor(encode(observations))


class StatefulActorCriticEncoder(CompositeLayer):
    """The same for sequences, with a recurrent layer and so a state.

    The state is that of the shared encoder, or that of both under "actor" and "critic".

    Args:
        encoding: Turns raw observations into float32.
        actor: Embeds for the policy.
        critic: Embeds for the value function; `None` shares `actor`.
    """

    def __init__(
        self,
        encoding: ObservationEncoding,
        actor: RecurrentEncoder,
        critic: RecurrentEncoder | None = None,
    ):
        super().__init__(name="encoder")
        self.encoding = encoding
        self.actor = actor
        self.critic = critic

    def get_initial_state(self) -> dict[str, Any]:
        """Returns the state at an episode's start: NumPy arrays without batch axis."""
        if self.critic is None:
            return self.actor.get_initial_state()
        return {
            "actor": self.actor.get_initial_state(),
            "critic": self.critic.get_initial_state(),
        }

    def embed_for_critic(self, observations: Tensor, state: dict[str, Any]) -> Tensor:
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
        encoded = apply_per_step(self.encoding, observations)
        if self.critic is None:
            embedding, state = self.actor(encoded, state)
            return embedding, embedding, state
        for_actor, actor_state = self.actor(encoded, state["actor"])
        for_critic, critic_state = self.critic(encoded, state["critic"])
        return for_actor, for_critic, {"actor": actor_state, "critic": critic_state}

    def numpy_copy(self) -> Callable | None:
        """Returns one step with the weights of this moment, in NumPy.

        Returns:
            A function of observations [N, ...] and state, which returns the policy's
            embedding and the next state; `None` unless all layers are default ones that
            have a NumPy form.
        """
        if type(self.encoding) is not ObservationEncoding:
            return None
        encode, actor = self.encoding.numpy_forward, _numpy_copy(self.actor)
        if actor is None:
            return None
        if self.critic is None:
            return lambda observations, state: actor(encode(observations), state)
        critic = _numpy_copy(self.critic)
        if critic is None:
            return None

        def step(observations, state):
            encoded = encode(observations)
            embedding, actor_state = actor(encoded, state["actor"])
            _, critic_state = critic(encoded, state["critic"])
            return embedding, {"actor": actor_state, "critic": critic_state}

        return step


def _numpy_copy(network: RecurrentEncoder) -> Callable | None:
    """Returns the NumPy form; `None` also where a subclass may do something else."""
    return network.numpy_copy() if type(network) is RecurrentEncoder else None
