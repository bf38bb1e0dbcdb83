"""Tests for `tflearner.networks.encoders`."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.networks.encoders import ActorCriticEncoder, StatefulActorCriticEncoder
from tflearner.networks.layers import MLP
from tflearner.networks.numpy_forms import numpy_form
from tflearner.networks.observation_encoding import ObservationEncoding
from tflearner.networks.recurrent import RecurrentEncoder

SPACE = gym.spaces.Box(-1, 1, (4,))


class OtherRecurrence(RecurrentEncoder):
    def call(self, x, state):
        embedding, state = super().call(x, state)
        return 2.0 * embedding, state


def mlp(activation="tanh"):
    return MLP((3,), activation, rng=np.random.default_rng(0))


def recurrent(activation="tanh", cls=RecurrentEncoder):
    return cls(mlp(activation), "lstm", 2, rng=np.random.default_rng(0))


def stateful(encoding=None, *networks):
    encoder = StatefulActorCriticEncoder(
        encoding or ObservationEncoding(SPACE), *(networks or [recurrent()])
    )
    state = encoder.initial_state()
    if "actor" in state:
        state = {part: batched(inner) for part, inner in state.items()}
    else:
        state = batched(state)
    encoder(np.zeros((1, 1, 4), np.float32), state)
    return encoder


def batched(state):
    return {key: value[None] for key, value in state.items()}


def test_default_layers_have_a_numpy_form():
    encoder = ActorCriticEncoder(ObservationEncoding(SPACE), mlp(), mlp("gelu"))
    encoder(np.zeros((1, 4), np.float32))
    assert numpy_form(encoder) is not None  # The critic does not act.
    assert numpy_form(stateful()) is not None
    assert numpy_form(stateful(None, recurrent(), recurrent())) is not None


@pytest.mark.parametrize(
    "make",
    [
        lambda: stateful(None, recurrent("gelu")),
        lambda: stateful(None, recurrent(), recurrent("gelu")),
        lambda: stateful(None, recurrent(cls=OtherRecurrence)),
        lambda: stateful(None, recurrent(), recurrent(cls=OtherRecurrence)),
    ],
)
def test_other_layers_have_no_numpy_form(make):
    assert numpy_form(make()) is None


@pytest.mark.parametrize("separate", [False, True])
def test_the_critic_alone_gives_the_same_embedding(separate):
    encoder = stateful(None, *[recurrent() for _ in range(1 + separate)])
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(3, 5, 4)).astype(np.float32)
    state = {key: rng.normal(size=(3, 2)).astype(np.float32) for key in "hc"}
    if separate:
        state = {"actor": state, "critic": {key: -x for key, x in state.items()}}
    _, want, _ = encoder(observations, state)
    got = encoder.embed_for_critic(observations, state)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
