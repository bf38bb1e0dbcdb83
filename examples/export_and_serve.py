"""Trains a policy, exports it, and lets a program without this library act with it.

The policy learns from normalised observations. The normaliser is inside the export, and
so is what turns the network's output into actions: the program below knows TensorFlow
and the environment, nothing else, and plays 20 episodes with raw observations.
"""

import argparse
import os
import subprocess
import sys
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)

import tflearner as tfl

SERVER = """
import sys
import gymnasium as gym
import numpy as np
import tensorflow as tf

policy = tf.saved_model.load(sys.argv[1])
envs = gym.make_vec("CartPole-v1", num_envs=20, vectorization_mode="vector_entry_point")
obs, _ = envs.reset(seed=int(sys.argv[2]))
returns, running = np.zeros(20), np.ones(20, bool)
while running.any():
    actions = policy.act_greedy(obs).numpy()
    obs, rewards, terminated, truncated, _ = envs.step(actions)
    returns += rewards * running
    running &= ~(terminated | truncated)
assert "tflearner" not in sys.modules
print(returns.mean())
"""


def main() -> None:
    """Trains, exports, and prints what a fresh process reaches with the export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40_000)
    args = parser.parse_args()

    started = time.perf_counter()
    algo = tfl.PPO(
        "CartPole-v1",
        env_to_module_connector=tfl.MeanStdFilter,
        model_config=tfl.DefaultModelConfig(
            fcnet_hiddens=[64, 64], vf_share_layers=False
        ),
        num_envs_per_env_runner=8,
        gym_env_vectorize_mode="vector_entry_point",
        train_batch_size_per_learner=1000,
        minibatch_size=125,
        num_epochs=10,
        lr=[[0, 1e-3], [args.steps, 1e-4]],
        lambda_=0.95,
        vf_clip_param=float("inf"),
        grad_clip=0.5,
        use_kl_loss=False,
        seed=args.seed,
    )
    algo.fit(total_steps=args.steps)
    report = algo.export("runs/export_and_serve/policy")
    algo.stop()
    print(report)

    server = subprocess.run(
        [sys.executable, "-c", SERVER, str(report.path), str(args.seed)],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    print(
        f"result: mean_return={float(server.stdout.split()[-1]):.1f} episodes=20 "
        f"served_by=tensorflow largest_difference={report.max_difference:.1g} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
