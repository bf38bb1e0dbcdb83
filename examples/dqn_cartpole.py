"""DQN solves CartPole-v1 in 8,000 to 20,000 steps, and a Keras callback stops it then.

Double Q-learning and a dueling network on returns over five steps; the target network
follows a little after every gradient step. Every fourth iteration acts greedily for 20
episodes; when these are good, training ends. Run it with no arguments; `--seed` and
`--steps` change the run.
"""

import argparse
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
        tfl.DQNConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_envs_per_env_runner=8,
            gym_env_vectorize_mode="vector_entry_point",
            rollout_fragment_length=8,
            epsilon=[[0, 1.0], [10_000, 0.04]],
        )
        .training(
            lr=[[0, 2e-3], [55_000, 1e-4]],
            train_batch_size_per_learner=64,
            training_intensity=64,
            n_step=5,
            grad_clip=10.0,
            target_network_update_freq=0,
            tau=0.01,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 50_000},
        )
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                fcnet_hiddens=[256, 256], fcnet_activation="relu"
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
