"""An own Keras model as the network: any model that ends in an embedding.

The library adds a policy head and a value head of the right size. Pass the model itself
to share it between the two, or a function returning a model to give each its own.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import keras

import tflearner as tfl


def residual_body() -> keras.Model:
    """Returns a small residual network: 4 numbers in, an embedding of 64 out."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(64, activation="swish")(inputs)
    branch = keras.layers.LayerNormalization()(hidden)
    branch = keras.layers.Dense(64, activation="swish")(branch)
    return keras.Model(inputs, keras.layers.Add()([hidden, branch]))


def main() -> None:
    """Trains with an own optimizer schedule, and evaluates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40_000)
    args = parser.parse_args()

    started = time.perf_counter()
    keras.utils.set_random_seed(args.seed)  # An own model draws its own weights.
    algo = tfl.PPO(
        "CartPole-v1",
        model=residual_body,
        model_config=tfl.DefaultModelConfig(vf_share_layers=False),
        num_envs_per_env_runner=16,
        gym_env_vectorize_mode="vector_entry_point",
        train_batch_size_per_learner=2048,
        minibatch_size=128,
        num_epochs=10,
        lr=[[0, 1e-3], [args.steps, 1e-4]],
        lambda_=0.95,
        clip_param=0.2,
        vf_clip_param=float("inf"),
        grad_clip=0.5,
        seed=args.seed,
    )
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
