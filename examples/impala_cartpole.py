"""IMPALA solves CartPole-v1 in about 70,000 steps, and a Keras callback stops it then.

Ten environments make trajectories of at most 50 steps; every 500 steps make an update of
one gradient step. V-trace corrects for the age of the weights that act: with
`--broadcast-interval 8` they are up to 8 updates old.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import keras

import tflearner as tfl


class StopWhenSolved(keras.callbacks.Callback):
    """Ends training when the last episodes returned what counts as solved."""

    def on_epoch_end(self, epoch, logs):
        """Reads the mean return, of exploring episodes, of this iteration."""
        if logs["episode_return"] >= 475.0:
            self.model.stop_training = True


def main() -> None:
    """Trains, evaluates greedily on a fresh environment, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200_000, help="at most")
    parser.add_argument("--broadcast-interval", type=int, default=1)
    args = parser.parse_args()

    started = time.perf_counter()
    config = (
        tfl.IMPALAConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_envs_per_env_runner=10, gym_env_vectorize_mode="vector_entry_point"
        )
        .training(lr=3e-3, broadcast_interval=args.broadcast_interval)
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                fcnet_hiddens=[64, 64], vf_share_layers=False
            )
        )
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
