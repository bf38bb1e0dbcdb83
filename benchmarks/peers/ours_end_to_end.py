"""Trains tflearner's PPO on CartPole-v1 until it reaches the goal."""

import tensorflow as tf
import worker

from tflearner import PPO, DefaultModelConfig, PPOConfig


def build(s: dict) -> PPO:
    """Returns our PPO with gymnasium's own vector form of CartPole."""
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_envs_per_env_runner=s["num_envs"],
            gym_env_vectorize_mode="vector_entry_point",
        )
        .training(
            lr=s["lr"],
            train_batch_size_per_learner=s["rows"],
            minibatch_size=s["minibatch_size"],
            num_epochs=s["num_epochs"],
            gamma=s["gamma"],
            lambda_=s["lambda_"],
            clip_param=s["clip_param"],
            grad_clip=s["grad_clip"],
            vf_loss_coeff=s["vf_loss_coeff"],
            vf_clip_param=float("inf"),
            entropy_coeff=s["entropy_coeff"],
            use_kl_loss=False,
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=s["hiddens"],
                fcnet_activation="tanh",
                vf_share_layers=False,
            )
        )
        .reporting(metrics_num_episodes_for_smoothing=s["window"])
        .debugging(seed=s["seed"])
    )
    return config.build_algo()


def main() -> None:
    """Trains one seed, building, tracing and compiling on the clock."""
    s = worker.settings()
    # Two threads in a loop of kernels this small mostly wait for each other.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    curve = worker.Curve(s["goal"])
    algo = build(s)
    env_steps = 0
    while not curve.solved and env_steps < s["max_env_steps"]:
        result = algo.train()
        env_steps = result["num_env_steps_sampled_lifetime"]
        curve.add(env_steps, result["env_runners"]["episode_return_mean"])
    worker.report(["tensorflow", "keras", "gymnasium", "numpy"], **curve.result())


if __name__ == "__main__":
    main()
