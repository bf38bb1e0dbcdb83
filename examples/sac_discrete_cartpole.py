"""SAC with discrete actions balances CartPole-v1; a Keras callback stops it then.

With a choice of n actions critics tell the values of all of them at once, and
expectations over the policy are sums. Entropy near the most there is, log 2, would keep
the pole from balancing; the target is a fifth of it, and the temperature moves slowly.
Returns over five steps and twice the step size learn faster, but on some seeds values
grow without bound. Run it with no arguments; `--seed` and `--steps` change the run.
"""

import argparse
import math
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import keras

import tflearner as tfl


class StopWhenSolved(keras.callbacks.Callback):
    """Ends training when greedy episodes return what counts as solved."""

    def on_epoch_end(self, epoch, logs):
        """Reads their mean return, in iterations that end with an evaluation."""
        if logs.get("val_episode_return", 0.0) >= 490.0:
            self.model.stop_training = True


def main() -> None:
    """Trains, evaluates greedily on a fresh environment, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=55_000, help="at most")
    args = parser.parse_args()

    started = time.perf_counter()
    config = (
        tfl.SACConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_envs_per_env_runner=8,
            gym_env_vectorize_mode="vector_entry_point",
            rollout_fragment_length=8,
        )
        .training(
            actor_lr=5e-4,
            critic_lr=5e-4,
            alpha_lr=1e-4,
            train_batch_size_per_learner=64,
            training_intensity=64,
            initial_alpha=0.2,
            target_entropy=0.2 * math.log(2),
            num_steps_sampled_before_learning_starts=1000,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 100_000},
        )
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                fcnet_hiddens=[128, 128], fcnet_activation="relu"
            )
        )
        .evaluation(evaluation_interval=4, evaluation_duration=20)
        .reporting(metrics_num_episodes_for_smoothing=20)
        .debugging(seed=args.seed)
    )
    algo = config.build_algo()
    algo.summary()
    algo.fit(total_steps=args.steps, callbacks=[StopWhenSolved()])
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
