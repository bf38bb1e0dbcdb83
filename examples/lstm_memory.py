"""Memory: CartPole without velocities, which an LSTM balances and an MLP does not.

A piece of the env-to-module pipeline takes both velocities out of the observations. One
observation then does not tell which way the pole moves, but several in a row do, so it
takes a network with memory to balance it.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np

import tflearner as tfl


class HideVelocities(tfl.ConnectorV2):
    """Leaves the cart's position and the pole's angle in the observations.

    The angle counts ten times, since all that can be seen of the pole's velocity is a
    change of a hundredth of a radian or so from one step to the next.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __call__(self, *, batch, **kwargs):
        observations = batch[tfl.Columns.OBS]  # Position, velocity, angle, velocity.
        batch[tfl.Columns.OBS] = observations[:, [0, 2]] * np.float32([1.0, 10.0])
        return batch


def mean_return(
    model_config: tfl.DefaultModelConfig, *, seed: int, steps: int
) -> float:
    """Trains a network and returns the mean return of 20 greedy episodes."""
    config = (
        tfl.PPOConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_envs_per_env_runner=16,
            gym_env_vectorize_mode="vector_entry_point",
            env_to_module_connector=HideVelocities,
        )
        .training(
            lr=[[0, 2e-3], [steps, 1e-4]],
            train_batch_size_per_learner=2048,
            minibatch_size=256,
            num_epochs=10,
            gamma=0.98,
            lambda_=0.95,
            vf_clip_param=float("inf"),
            vf_loss_coeff=0.02,  # Policy and values share a network; errors are large.
            grad_clip=0.5,
            use_kl_loss=False,
        )
        .rl_module(model_config=model_config)
        .debugging(seed=seed)
    )
    algo = config.build_algo()
    algo.fit(total_steps=steps)
    result = algo.evaluate(episodes=20)
    algo.stop()
    return result.episode_return_mean


def main() -> None:
    """Trains both networks for as many steps and compares them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200_000, help="of each run")
    args = parser.parse_args()

    started = time.perf_counter()
    networks = {
        "mlp": tfl.DefaultModelConfig(fcnet_hiddens=[64, 64]),
        "lstm": tfl.DefaultModelConfig(
            fcnet_hiddens=[32], use_lstm=True, lstm_cell_size=64, max_seq_len=16
        ),
    }
    reached = {}
    for name, model_config in networks.items():
        reached[name] = mean_return(model_config, seed=args.seed, steps=args.steps)
        print(f"{name}: mean return {reached[name]:.1f} of 500")
    print(
        f"result: mlp={reached['mlp']:.1f} lstm={reached['lstm']:.1f} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
