"""SAC swings up Pendulum-v1 in 15,000 steps, on the environment's own rewards.

An episode returns -1,200 or so at first and -150 at best. One environment and one
gradient step of 256 rows per step; the temperature finds its own value. Run it with no
arguments; `--seed` and `--steps` change the run.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)

import tflearner as tfl


def main() -> None:
    """Trains, evaluates greedily on a fresh environment, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=15_000)
    args = parser.parse_args()

    started = time.perf_counter()
    config = (
        tfl.SACConfig()
        .environment("Pendulum-v1")
        .training(
            lr=1e-3,
            num_steps_sampled_before_learning_starts=500,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 100_000},
        )
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                fcnet_hiddens=[128, 128], fcnet_activation="relu"
            )
        )
        .debugging(seed=args.seed)
    )
    algo = config.build_algo()
    algo.summary()
    algo.fit(total_steps=args.steps)
    result = algo.evaluate(episodes=20)
    algo.stop()
    print(
        f"evaluation: mean_return={result.episode_return_mean:.1f} "
        f"std={result.episode_return_std:.1f} episodes={result.num_episodes} "
        f"env_steps={algo.num_env_steps_sampled_lifetime} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
