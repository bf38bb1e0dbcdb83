"""Times tflearner's gradient steps of DQN and SAC, and drawing from replay buffers."""

import statistics
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf
import worker

from tflearner import DefaultModelConfig, DQNConfig, SACConfig, SingleAgentEpisode
from tflearner.constants import DEFAULT_MODULE_ID, NUM_ENV_STEPS_SAMPLED_LIFETIME

BUFFERS = {
    "uniform": {"type": "EpisodeReplayBuffer"},
    "prioritized": {"type": "PrioritizedEpisodeReplayBuffer"},
}
# Calls with which priorities have become unlike before the clock starts.
NUM_PRIORITY_UPDATES = 50


def make_config(s: dict, buffer: str = "uniform") -> Any:
    """Returns the settings of a case, with one of the buffers."""
    is_sac = s["algorithm"] == "sac"
    config = SACConfig() if is_sac else DQNConfig()
    own = {} if is_sac else {"double_q": False, "dueling": False}
    return (
        config.training(
            lr=s["lr"],
            gamma=s["gamma"],
            grad_clip=s["grad_clip"],
            train_batch_size_per_learner=s["batch_size"],
            target_network_update_freq=s["target_update_freq"],
            tau=s["tau"],
            replay_buffer_config={"capacity": s["capacity"], **BUFFERS[buffer]},
            **own,
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=s["hiddens"], fcnet_activation="relu"
            )
        )
        .framework(jit_compile=s["jit_compile"])
        .debugging(seed=0)
    )


def make_spaces(s: dict) -> tuple[gym.Space, gym.Space]:
    """Returns spaces of CartPole-v1 or Pendulum-v1, bounds left out."""
    observations = gym.spaces.Box(-np.inf, np.inf, (s["num_floats"],))
    if s["num_actions"]:
        return observations, gym.spaces.Discrete(s["num_actions"])
    return observations, gym.spaces.Box(-1.0, 1.0, (1,))


def build_learner(s: dict) -> Any:
    """Returns the learner of a case."""
    spaces = {DEFAULT_MODULE_ID: make_spaces(s)}
    return make_config(s).build_learner(spaces=spaces)


def build_buffer(s: dict, kind: str) -> Any:
    """Returns a replay buffer with all transitions."""
    buffer = make_config(s, kind).build_replay_buffer(*make_spaces(s))
    buffer.add(list(_episodes(s)))
    if len(buffer) != s["transitions"]:
        raise RuntimeError(f"{len(buffer):,} transitions, want {s['transitions']:,}")
    return buffer


def _episodes(s: dict):
    rows = worker.make_transitions(s)
    ends = np.flatnonzero(rows["ends"]) + 1
    for start, end in zip([0, *ends[:-1]], ends):
        own = slice(start, end)
        yield SingleAgentEpisode(
            observations=np.concatenate(
                [rows["obs"][own], rows["new_obs"][end - 1 : end]]
            ),
            actions=rows["actions"][own],
            rewards=rows["rewards"][own],
            terminated=True,
            len_lookback_buffer=0,
        )


def make_steps(s: dict, learner: Any, draw: Callable[[], dict]) -> Callable[[], dict]:
    """Returns a function that takes the gradient steps of one call.

    Args:
        s: The settings.
        learner: Takes the steps.
        draw: Returns the rows of all of them.
    """
    env_steps = 0

    def steps() -> dict:
        nonlocal env_steps
        env_steps += s["steps_per_call"] * s["env_steps_per_gradient_step"]
        return learner.update_from_batch(
            {DEFAULT_MODULE_ID: draw()},
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: env_steps},
            minibatch_size=s["batch_size"],
        )

    return steps


def time_drawing(s: dict, learner: Any) -> dict:
    """Times gradient steps and drawing in turn; a step's share, in microseconds."""
    num_steps = s["steps_per_call"]
    num_rows = num_steps * s["batch_size"]
    buffers = {kind: build_buffer(s, kind) for kind in BUFFERS}
    batch = buffers["uniform"].sample(num_rows)
    errors = np.random.default_rng(1).standard_normal((100, num_rows), np.float32)
    num_calls = 0

    def prioritized() -> None:
        nonlocal num_calls
        buffers["prioritized"].sample(num_rows)
        buffers["prioritized"].update_priorities(errors[num_calls % len(errors)])
        num_calls += 1

    calls: dict[str, Callable[[], object]] = {
        "gradient_step": make_steps(s, learner, lambda: batch),
        "uniform": lambda: buffers["uniform"].sample(num_rows),
        "prioritized": prioritized,
    }
    for _ in range(NUM_PRIORITY_UPDATES):
        prioritized()
    times_ms: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # Traces and compiles.
        call()
    while sum(map(sum, times_ms.values())) < 1000 * s["seconds"]:
        for name, call in calls.items():
            times_ms[name].append(worker.milliseconds(call))
    medians = {name: statistics.median(own) for name, own in times_ms.items()}
    return {
        "times_ms": times_ms,
        "median_ms": medians["gradient_step"],
        "per_step_us": {
            name: 1000 * median / num_steps for name, median in medians.items()
        },
    }


def main() -> None:
    """Times the gradient steps of a case, drawing included, or drawing against them."""
    s = worker.settings()
    num_threads = s["chosen_threads"]["ours"]
    tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    learner = build_learner(s)
    if s["is_replay"]:
        result = time_drawing(s, learner)
    else:
        buffer = build_buffer(s, "uniform")
        num_rows = s["steps_per_call"] * s["batch_size"]
        steps = make_steps(
            s, learner, lambda: buffer.sample(num_rows, gamma=s["gamma"])
        )
        result = worker.time_updates(steps, s["seconds"])
    worker.report(
        ["tensorflow", "keras", "numpy"],
        **result,
        threads=num_threads,
        programs=learner.describe_updates(),
        num_traces=learner.num_traces,
    )


if __name__ == "__main__":
    main()
