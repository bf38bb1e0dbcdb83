"""Times RLlib's own `Learner.update` on a ready batch, with its PyTorch PPO."""

import logging
import warnings

import gymnasium as gym
import numpy as np
import torch
import worker
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch


def build_learner(s: dict):
    """Returns RLlib's PPO learner with all modules, in this process."""
    spec = RLModuleSpec(
        observation_space=gym.spaces.Box(-np.inf, np.inf, tuple(s["obs_shape"])),
        action_space=gym.spaces.Discrete(s["num_actions"]),
        model_config=DefaultModelConfig(
            fcnet_hiddens=s["hiddens"],
            fcnet_activation=s["activation"],
            vf_share_layers=s["share_layers"],
        ),
    )
    specs = {name: spec for name in names_of_modules(s)}
    config = (
        PPOConfig()
        .framework("torch")
        .training(
            lr=s["lr"],
            train_batch_size_per_learner=s["rows"],
            minibatch_size=s["minibatch_size"],
            num_epochs=s["num_epochs"],
            clip_param=s["clip_param"],
            grad_clip=s["grad_clip"],
            grad_clip_by="global_norm",
            vf_loss_coeff=s["vf_loss_coeff"],
            vf_clip_param=float("inf"),
            entropy_coeff=s["entropy_coeff"],
            use_kl_loss=False,
        )
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .multi_agent(policies=set(specs), policy_mapping_fn=lambda *a, **k: "module_0")
        .debugging(seed=0)
    )
    learner = config.build_learner(
        spaces={
            name: (own.observation_space, own.action_space)
            for name, own in specs.items()
        }
    )
    learner.build()
    return learner


def names_of_modules(s: dict) -> list[str]:
    """Returns the ids of the modules."""
    return [f"module_{i}" for i in range(s["num_modules"])]


def main() -> None:
    """Times whole updates, the standardising of the advantages included."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    s = worker.settings()
    learner = build_learner(s)
    rows = worker.make_shape_batch(s)
    num_lifetime = 0

    def one_update(num_epochs: int = s["num_epochs"]) -> dict:
        nonlocal num_lifetime
        num_lifetime += s["rows"]
        columns = {
            "obs": rows["obs"],
            "actions": rows["actions"],
            "action_logp": rows["logp"],
            "action_dist_inputs": rows["logits"],
            "advantages": worker.standardized(rows["advantages"]),
            "value_targets": rows["value_targets"],
        }
        batches = {name: SampleBatch(columns) for name in names_of_modules(s)}
        return learner.update(
            batch=MultiAgentBatch(batches, env_steps=s["rows"]),
            timesteps={"num_env_steps_sampled_lifetime": num_lifetime},
            num_epochs=num_epochs,
            minibatch_size=s["minibatch_size"],
            shuffle_batch_per_epoch=True,
        )

    def attempt(num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        one_update(num_epochs=1)

    first = worker.time_first(one_update)
    num_threads = worker.fastest(s["threads"], attempt)
    torch.set_num_threads(num_threads)
    worker.report(
        ["ray", "torch", "gymnasium", "numpy"],
        threads=num_threads,
        **worker.time_updates(one_update, s["seconds"]) | first,
    )


if __name__ == "__main__":
    main()
