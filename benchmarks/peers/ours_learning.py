"""Trains tflearner's PPO on CartPole-v1 with no setting but the seed."""

import tempfile
import time

import worker

import tflearner as tfl


def main() -> None:
    """Prints, like an example, the best mean return of training episodes."""
    s = worker.settings()
    started = time.perf_counter()
    algo = tfl.PPO("CartPole-v1", seed=s["seed"])
    with tempfile.TemporaryDirectory() as folder:
        history = algo.fit(total_steps=s["max_env_steps"], verbose=0, log_dir=folder)
    env_steps = algo.num_env_steps_sampled_lifetime
    algo.stop()
    print(
        f"training: mean_return={max(history.history['episode_return']):.1f} "
        f"env_steps={env_steps} seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
