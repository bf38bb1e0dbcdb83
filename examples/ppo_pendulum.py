"""PPO swings up Pendulum-v1: continuous actions, on the environment's own rewards.

An episode returns -1,200 or so at first and -150 at best. Three settings matter: the
short horizon (`gamma=0.9`), ReLU networks, and no cap on the value error, which is in
squared reward units and large here. The module acts in [-1, 1]; the library stretches
that to the torque's bounds. Run it with no arguments; `--seed` and `--steps` change it.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)

import tflearner as tfl


def main() -> None:
    """Trains, evaluates greedily on a fresh environment, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=150_000)
    args = parser.parse_args()

    started = time.perf_counter()
    config = (
        tfl.PPOConfig()
        .environment("Pendulum-v1")
        .env_runners(num_envs_per_env_runner=16)
        .training(
            gamma=0.9,
            lr=[[0, 1e-3], [args.steps, 1e-4]],
            train_batch_size_per_learner=2000,
            minibatch_size=125,
            num_epochs=10,
            lambda_=0.95,
            clip_param=0.2,
            vf_clip_param=float("inf"),
        )
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                fcnet_hiddens=[64, 64], fcnet_activation="relu", vf_share_layers=False
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
