"""Times tflearner's `update_from_batch`: one call from NumPy rows to the results."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf
import worker

from tflearner import DefaultModelConfig, MultiAgentBatch, PPOConfig, SampleBatch
from tflearner.constants import DEFAULT_MODULE_ID


def make_config(s: dict) -> PPOConfig:
    """Returns PPO's settings for one of the shapes of `update.py`."""
    return (
        PPOConfig()
        .training(
            lr=s["lr"],
            train_batch_size_per_learner=s["rows"],
            minibatch_size=s["minibatch_size"],
            num_epochs=s["num_epochs"],
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
                fcnet_activation=s["activation"],
                vf_share_layers=s["share_layers"],
                use_lstm=s["lstm_units"] > 0,
                lstm_cell_size=s["lstm_units"] or 1,
                max_seq_len=s["sequence_length"] or 20,
            )
        )
        .framework(compile_cache=s.get("compile_cache"))
        .debugging(seed=0)
    )


def build_learner(s: dict, config: PPOConfig | None = None) -> Any:
    """Returns the learner of a shape, with all of its modules."""
    config = make_config(s) if config is None else config
    obs_space = gym.spaces.Box(
        *((0, 255) if s["obs_dtype"] == "uint8" else (-np.inf, np.inf)),
        tuple(s["obs_shape"]),
        np.dtype(s["obs_dtype"]).type,
    )
    spaces = (obs_space, gym.spaces.Discrete(s["num_actions"]))
    module_ids = names_of_modules(s["num_modules"])
    if len(module_ids) > 1:
        config.multi_agent(policies=module_ids)
    return config.build_learner(spaces=dict.fromkeys(module_ids, spaces))


def names_of_modules(number: int) -> list[str]:
    """Returns the ids of so many modules; a single one has the default id."""
    return (
        [DEFAULT_MODULE_ID] if number == 1 else [f"module_{i}" for i in range(number)]
    )


def make_update(
    learner: Any, s: dict, rows: dict[str, np.ndarray] | None = None
) -> Callable[[], dict]:
    """Returns a function that makes one whole update, from NumPy to the results."""
    rows = worker.make_shape_batch(s) if rows is None else rows
    module_ids = names_of_modules(s["num_modules"])

    def one_update() -> dict:
        batch = {
            module_id: SampleBatch(
                {
                    "obs": rows["obs"],
                    "actions": rows["actions"],
                    "action_logp": rows["logp"],
                    "action_dist_inputs": rows["logits"],
                    "advantages": worker.standardized(rows["advantages"]),
                    "value_targets": rows["value_targets"],
                }
            )
            for module_id in module_ids
        }
        return learner.update_from_batch(
            MultiAgentBatch(batch, env_steps=s["rows"]),
            num_epochs=s["num_epochs"],
            minibatch_size=s["minibatch_size"],
            shuffle_batch_per_epoch=True,
        )

    return one_update


def main() -> None:
    """Times whole updates, the standardising of the advantages included."""
    s = worker.settings()
    tf.config.threading.set_intra_op_parallelism_threads(s["chosen_threads"]["ours"])
    learner = build_learner(s)
    worker.report(
        ["tensorflow", "keras", "numpy"],
        **worker.time_updates(make_update(learner, s), s["seconds"]),
        threads=s["chosen_threads"]["ours"],
        programs=learner.describe_updates(),
        num_traces=learner.num_traces,
        num_compilations=learner.num_compilations,
    )


if __name__ == "__main__":
    main()
