"""The most memory that an update takes at any moment, measured with pixels."""

import gc
import pathlib

import gymnasium as gym
import numpy as np
import pytest

from tflearner.algorithms.ppo import PPOConfig
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.modules.default_model_config import DefaultModelConfig

SPACES = (gym.spaces.Box(0, 255, (84, 84, 4), np.uint8), gym.spaces.Discrete(3))
NUM_ROWS, NUM_EPISODES = 2048, 8  # 55 MB.
# Promised are three times the batch. What was given, one copy of it and the activations
# of a minibatch are what it takes: 2.0 to 2.1 times were measured.
MOST = 2.5
MB = 2**20

# Linux keeps the peak of a process, and starts afresh when told so.
CLEAR = pathlib.Path("/proc/self/clear_refs")
pytestmark = pytest.mark.skipif(not CLEAR.exists(), reason="measured on Linux alone")


@pytest.fixture(scope="module")
def learner():
    """A small convolution, so that the memory is mostly that of the batch."""
    model = DefaultModelConfig(conv_filters=[[4, 8, 8]], fcnet_hiddens=[8])
    config = PPOConfig(observation_space=SPACES[0], action_space=SPACES[1])
    config.rl_module(model_config=model).update_from_dict({"jit_compile": False})
    return config.build_learner()


def make_batch(num_rows):
    rng = np.random.default_rng(0)
    floats = ("action_logp", "advantages", "value_targets")
    return {
        "obs": rng.integers(256, size=(num_rows, 84, 84, 4), dtype=np.uint8),
        "actions": rng.integers(3, size=num_rows),
        "action_dist_inputs": np.zeros((num_rows, 3), np.float32),
        **{name: -rng.random(num_rows, np.float32) for name in floats},
    }


def make_episodes(num_rows):
    rng = np.random.default_rng(0)
    length = num_rows // NUM_EPISODES
    return [
        SingleAgentEpisode(
            observations=rng.integers(
                256, size=(length + 1, 84, 84, 4), dtype=np.uint8
            ),
            actions=rng.integers(3, size=length),
            rewards=rng.normal(size=length),
            extra_model_outputs={
                "action_logp": np.full(length, -1.0, np.float32),
                "action_dist_inputs": np.zeros((length, 3), np.float32),
            },
            terminated=i % 2 == 0,
            len_lookback_buffer=0,
        )
        for i in range(NUM_EPISODES)
    ]


def status(name):
    """A number of bytes in the process's status."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise KeyError(name)


@pytest.mark.deep_but_first
@pytest.mark.parametrize("source", ["episodes", "batch"])
def test_an_update_takes_little_more_than_twice_its_batch(learner, capsys, source):
    make = make_batch if source == "batch" else make_episodes

    def update(given):
        learner.update(**{source: given}, minibatch_size=64, num_total_minibatches=3)

    update(make(256))  # Traces, and fills what allocators keep.
    gc.collect()
    before = status("VmRSS")
    given = make(NUM_ROWS)
    gc.collect()
    CLEAR.write_text("5")
    update(given)
    factor = (status("VmHWM") - before) / (NUM_ROWS * 84 * 84 * 4)
    with capsys.disabled():
        print(f"\nupdate from {source}: {factor:.2f} times the batch")
    assert 1.5 < factor < MOST
