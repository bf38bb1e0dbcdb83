"""Times Stable-Baselines3's own `PPO.train`, as it is."""

import gymnasium
import torch
import worker
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger


def main() -> None:
    """Fills the rollout buffer once, then times `train` on it."""
    s = worker.settings()
    model = PPO(
        "MlpPolicy",
        gymnasium.make("CartPole-v1"),
        n_steps=s["rows"],
        batch_size=s["minibatch_size"],
        n_epochs=s["num_epochs"],
        learning_rate=s["lr"],
        clip_range=s["clip_param"],
        ent_coef=s["entropy_coeff"],
        vf_coef=s["vf_loss_coeff"],
        max_grad_norm=s["grad_clip"],
        policy_kwargs={"net_arch": {"pi": s["hiddens"], "vf": s["hiddens"]}},
        seed=0,
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    fill(model.rollout_buffer, worker.make_shape_batch(s))

    def attempt(num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        model.train()

    first = worker.time_first(model.train)
    num_threads = worker.fastest(s["threads"], attempt)
    torch.set_num_threads(num_threads)
    worker.report(
        ["stable-baselines3", "torch", "gymnasium", "numpy"],
        threads=num_threads,
        **worker.time_updates(model.train, s["seconds"]) | first,
    )


def fill(buffer, batch) -> None:
    """Writes the rows where `collect_rollouts` would: arrays are [R, 1, ...]."""
    buffer.observations[:, 0] = batch["obs"]
    buffer.actions[:, 0, 0] = batch["actions"]
    buffer.log_probs[:, 0] = batch["logp"]
    buffer.values[:, 0] = batch["values"]
    buffer.advantages[:, 0] = batch["advantages"]
    buffer.returns[:, 0] = batch["value_targets"]
    buffer.pos, buffer.full = len(batch["obs"]), True


if __name__ == "__main__":
    main()
