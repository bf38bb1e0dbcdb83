"""Times Stable-Baselines3's own `DQN.train` and `SAC.train`, as they are."""

from typing import Any

import gymnasium
import torch
import worker
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.logger import Logger


def build(s: dict) -> DQN | SAC:
    """Returns a model with an empty replay buffer."""
    shared: dict[str, Any] = {
        "policy": "MlpPolicy",
        "learning_rate": s["lr"],
        "buffer_size": s["transitions"],
        "batch_size": s["batch_size"],
        "gamma": s["gamma"],
        "tau": s["tau"],
        "policy_kwargs": {"net_arch": s["hiddens"]},
        "seed": 0,
        "device": "cpu",
    }
    if s["algorithm"] == "sac":
        return SAC(env=gymnasium.make("Pendulum-v1"), ent_coef="auto", **shared)
    return DQN(
        env=gymnasium.make("CartPole-v1"),
        max_grad_norm=s["grad_clip"],
        target_update_interval=s["target_update_freq"],
        **shared,
    )


def fill(buffer, s: dict) -> None:
    """Writes the rows where `collect_rollouts` would: arrays are [R, 1, ...]."""
    rows = worker.make_transitions(s)
    buffer.observations[:, 0] = rows["obs"]
    buffer.next_observations[:, 0] = rows["new_obs"]
    buffer.actions[:, 0] = rows["actions"].reshape(-1, 1)
    buffer.rewards[:, 0] = rows["rewards"]
    buffer.dones[:, 0] = rows["ends"]
    buffer.pos, buffer.full = 0, True


def main() -> None:
    """Fills the replay buffer once, then times `train` on it."""
    s = worker.settings()
    model = build(s)
    model.set_logger(Logger(folder=None, output_formats=[]))
    fill(model.replay_buffer, s)

    def train() -> None:
        model.train(gradient_steps=s["steps_per_call"], batch_size=s["batch_size"])

    def attempt(num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        train()

    first = worker.time_first(train)
    num_threads = worker.fastest(s["threads"], attempt)
    torch.set_num_threads(num_threads)
    worker.report(
        ["stable-baselines3", "torch", "gymnasium", "numpy"],
        threads=num_threads,
        **worker.time_updates(train, s["seconds"]) | first,
    )


if __name__ == "__main__":
    main()
