"""Trains one of tflearner's algorithms on CartPole-v1, where no example does."""

import tempfile
import time

import worker

import tflearner as tfl


def main() -> None:
    """Prints, like an example, what a demand asks for."""
    s = worker.settings()
    started = time.perf_counter()
    make = {"ppo_defaults": ppo_defaults, "impala_old_weights": impala_old_weights}
    algo = make[s["demand"]](s["seed"])
    longest_iteration = 1_000
    with tempfile.TemporaryDirectory() as folder:
        history = algo.fit(
            total_steps=s["max_env_steps"] - longest_iteration,
            verbose=0,
            log_dir=folder,
        )
    env_steps = algo.num_env_steps_sampled_lifetime
    if s["demand"] == "ppo_defaults":
        reached = max(history.history["episode_return"])
    else:
        reached = algo.evaluate(episodes=20).episode_return_mean
    algo.stop()
    print(
        f"training: mean_return={reached:.1f} "
        f"env_steps={env_steps} seconds={time.perf_counter() - started:.1f}"
    )


def ppo_defaults(seed: int) -> tfl.PPO:
    """Returns PPO with no setting but the seed."""
    return tfl.PPO("CartPole-v1", seed=seed)


def impala_old_weights(seed: int) -> tfl.IMPALA:
    """Returns IMPALA that acts with weights up to 8 updates old."""
    return tfl.IMPALA(
        "CartPole-v1",
        num_envs_per_env_runner=10,
        gym_env_vectorize_mode="vector_entry_point",
        lr=3e-3,
        entropy_coeff=0.0,
        broadcast_interval=8,
        model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": False},
        seed=seed,
    )


if __name__ == "__main__":
    main()
