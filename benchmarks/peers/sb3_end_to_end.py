"""Trains Stable-Baselines3's PPO on CartPole-v1 until it reaches the goal."""

import torch
import worker
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import safe_mean


class UntilSolved(BaseCallback):
    """Reads `ep_rew_mean` after every rollout and stops training at the goal.

    Args:
        curve: Where the points go.
    """

    def __init__(self, curve: worker.Curve):
        super().__init__()
        self.curve = curve

    def _on_rollout_end(self) -> None:
        returns = [episode["r"] for episode in self.model.ep_info_buffer]
        self.curve.add(self.num_timesteps, safe_mean(returns))

    def _on_step(self) -> bool:
        return not self.curve.solved


def build(s: dict, seed: int) -> PPO:
    """Returns SB3's PPO with its default `DummyVecEnv` on the CPU."""
    num_envs = s["num_envs"]
    return PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=num_envs, seed=seed),
        n_steps=s["rows"] // num_envs,
        batch_size=s["minibatch_size"],
        n_epochs=s["num_epochs"],
        learning_rate=s["lr"],
        gamma=s["gamma"],
        gae_lambda=s["lambda_"],
        clip_range=s["clip_param"],
        ent_coef=s["entropy_coeff"],
        vf_coef=s["vf_loss_coeff"],
        max_grad_norm=s["grad_clip"],
        policy_kwargs={"net_arch": {"pi": s["hiddens"], "vf": s["hiddens"]}},
        stats_window_size=s["window"],
        seed=seed,
        device="cpu",
    )


def main() -> None:
    """Finds the faster number of threads off the clock, then trains on it."""
    s = worker.settings()
    trial = build(s, seed=12345)

    def attempt(num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        trial.learn(s["rows"])

    num_threads = worker.fastest(s["threads"], attempt)
    torch.set_num_threads(num_threads)

    curve = worker.Curve(s["goal"])
    build(s, s["seed"]).learn(s["max_env_steps"], callback=UntilSolved(curve))
    worker.report(
        ["stable-baselines3", "torch", "gymnasium", "numpy"],
        threads=num_threads,
        **curve.result(),
    )


if __name__ == "__main__":
    main()
