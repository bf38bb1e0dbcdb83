"""A run that is thrown away in mid-training, and goes on from its files to the bit.

One PPO run on CartPole is never interrupted. Another one, which saves itself at the same
points, ends half-way and is deleted; what comes back from its newest checkpoint trains
on. In the end both are equal: weights, Adam's slots, schedules, observation statistics,
random numbers, metrics and counters.
"""

import argparse
import pathlib
import tempfile
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)

import tflearner as tfl
from tflearner.testing import run_digest


def settings_for(seed: int) -> dict:
    """Returns the settings of all runs."""
    return {
        "num_envs_per_env_runner": 8,
        "gym_env_vectorize_mode": "vector_entry_point",
        "env_to_module_connector": tfl.MeanStdFilter,
        "lr": [[0, 1e-3], [50_000, 1e-4]],
        "train_batch_size_per_learner": 1000,
        "minibatch_size": 125,
        "num_epochs": 10,
        "lambda_": 0.95,
        "vf_clip_param": float("inf"),
        "grad_clip": 0.5,
        "model_config": tfl.DefaultModelConfig(
            fcnet_hiddens=[64, 64], vf_share_layers=False
        ),
        "metrics_num_episodes_for_smoothing": 20,
        "seed": seed,
    }


def train(algo: tfl.PPO, steps: int, path: pathlib.Path) -> None:
    """Trains, and saves every 5 iterations, which ends episodes, and at the end."""
    algo.fit(total_steps=steps, callbacks=[tfl.CheckpointCallback(path, every=5)])


def main() -> None:
    """Trains with and without an interruption, and compares what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40_000)
    args = parser.parse_args()

    started = time.perf_counter()
    settings = settings_for(args.seed)
    here = pathlib.Path(tempfile.mkdtemp(prefix="save_resume-"))

    whole = tfl.PPO("CartPole-v1", **settings)
    train(whole, args.steps // 2, here / "whole")
    train(whole, args.steps // 2, here / "whole")

    interrupted = tfl.PPO("CartPole-v1", **settings)
    train(interrupted, args.steps // 2, here / "interrupted")
    interrupted.stop()
    del interrupted

    resumed = tfl.PPO.from_checkpoint(here / "interrupted")
    print(f"resumed after {resumed.num_env_steps_sampled_lifetime:,} steps")
    train(resumed, args.steps // 2, here / "interrupted")

    is_equal = run_digest(resumed) == run_digest(whole)
    returned = [algo.evaluate(episodes=20) for algo in (whole, resumed)]
    for algo in (whole, resumed):
        algo.stop()
    print(
        f"result: equal={is_equal} mean_return={returned[1].episode_return_mean:.1f} "
        f"(uninterrupted {returned[0].episode_return_mean:.1f}) "
        f"env_steps={resumed.num_env_steps_sampled_lifetime} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
