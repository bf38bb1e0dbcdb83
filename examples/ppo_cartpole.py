"""PPO solves CartPole-v1: two small networks, eight environments, under a minute.

Run it with no arguments; `--seed` and `--steps` change the run.
"""

import argparse
import time

import quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)

import tflearner as tfl


def main() -> None:
    """Trains, evaluates greedily on a fresh environment, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100_000)
    args = parser.parse_args()

    started = time.perf_counter()
    config = (
        tfl.PPOConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_envs_per_env_runner=8, gym_env_vectorize_mode="vector_entry_point"
        )
        .training(
            lr=[[0, 1e-3], [args.steps, 1e-4]],
            train_batch_size_per_learner=1024,
            minibatch_size=128,
            num_epochs=10,
            lambda_=0.95,
            clip_param=0.2,
            vf_clip_param=float("inf"),
            vf_loss_coeff=0.5,
            grad_clip=0.5,
            use_kl_loss=False,
        )
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                fcnet_hiddens=[64, 64], vf_share_layers=False
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
