"""What RLlib's torch PPO learner computes in whole updates."""

import gymnasium as gym
import numpy as np
import torch
import tree
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from recorders import learners

TERMS = (
    "total_loss",
    "policy_loss",
    "vf_loss",
    "vf_loss_unclipped",
    "vf_explained_var",
    "entropy",
    "mean_kl_loss",
)
AFTER_UPDATE = (
    "curr_kl_coeff",
    "curr_entropy_coeff",
    "default_optimizer_learning_rate",
    "gradients_default_optimizer_global_norm",
)

# What a case of PPO's learner consists of; CASES names what differs. Settings have the
# names that both libraries give them.
DEFAULTS = {
    "action": ["discrete", 3],
    "model": {"fcnet_hiddens": [6], "vf_share_layers": True},
    "training": {
        "lr": 0.1,
        "clip_param": 0.2,
        "vf_clip_param": 4.0,
        "vf_loss_coeff": 0.5,
        "entropy_coeff": 0.01,
        "kl_coeff": 0.3,
        "kl_target": 0.02,
    },
    "modules": {"default_policy": {"rows": 20, "overrides": {}}},
    "masked": False,
    "steps": None,  # A number makes sequences of as many steps.
    "updates": [{"timestep": t} for t in (100, 200, 300)],
}
LSTM = {"use_lstm": True, "lstm_cell_size": 5, "fcnet_hiddens": [6]}
BOX = {"action": ["box", 2]}
SEPARATE = {"fcnet_hiddens": [6, 5], "vf_share_layers": False}
IN_MINIBATCHES = [
    {"timestep": t, "num_epochs": 2, "minibatch_size": 8} for t in (100, 200)
]
CASES = {
    "discrete": {},
    "discrete_kl_off": {"training": {"use_kl_loss": False}},
    # With the numbers of "discrete", whose KL is 0.0248 to 0.0252.
    "discrete_kl_grows": {"like": "discrete", "training": {"kl_target": 0.0118}},
    "discrete_kl_is_high": {"like": "discrete", "training": {"kl_target": 0.013}},
    "discrete_kl_is_low": {"like": "discrete", "training": {"kl_target": 0.045}},
    "discrete_kl_shrinks": {"like": "discrete", "training": {"kl_target": 0.055}},
    "discrete_masked": {"masked": True},
    "discrete_masked_kl_off": {"masked": True, "training": {"use_kl_loss": False}},
    "discrete_separate_relu": {"model": {**SEPARATE, "fcnet_activation": "relu"}},
    "discrete_heads": {"model": {"head_fcnet_hiddens": [5]}},
    "discrete_three_layers": {"model": {"fcnet_hiddens": [5, 4, 3]}},
    "discrete_layernorm": {"model": {"fcnet_use_layernorm": True}},
    "discrete_lstm": {"model": LSTM, "steps": 4},
    "discrete_tight_clips": {"training": {"clip_param": 0.02, "vf_clip_param": 0.3}},
    "discrete_wide_clips": {"training": {"clip_param": 5.0, "vf_clip_param": 1e4}},
    "discrete_entropy": {"training": {"entropy_coeff": 0.7, "vf_loss_coeff": 0.0}},
    "discrete_schedules": {
        "training": {
            "lr": [[0, 0.1], [150, 0.4], [250, 0.02]],
            "entropy_coeff": [[0, 0.5], [300, 0.0]],
        }
    },
    "discrete_by_value": {"training": {"grad_clip": 0.05, "grad_clip_by": "value"}},
    "discrete_by_norm": {"training": {"grad_clip": 0.1, "grad_clip_by": "norm"}},
    "discrete_by_global_norm": {
        "training": {"grad_clip": 0.2, "grad_clip_by": "global_norm"}
    },
    "discrete_below_global_norm": {
        "training": {"grad_clip": 50.0, "grad_clip_by": "global_norm"}
    },
    "discrete_minibatches": {"updates": IN_MINIBATCHES, "masked": True},
    "discrete_epochs": {"updates": [{"timestep": t, "num_epochs": 3} for t in (1, 2)]},
    "box": BOX,
    "box_masked_kl_off": {**BOX, "masked": True, "training": {"use_kl_loss": False}},
    "box_separate": {**BOX, "model": {**SEPARATE, "fcnet_activation": "silu"}},
    "box_lstm_separate": {
        **BOX,
        "model": {**LSTM, "vf_share_layers": False},
        "steps": 5,
        "masked": True,
    },
    "box_free_log_std": {**BOX, "model": {"free_log_std": True}},
    "box_bounded_log_std": {**BOX, "model": {"log_std_clip_param": 0.3}},
    "box_by_value": {**BOX, "training": {"grad_clip": 0.3, "grad_clip_by": "value"}},
    "box_by_norm": {
        **BOX,
        "masked": True,
        "training": {"grad_clip": 0.1, "grad_clip_by": "norm"},
    },
    "box_by_global_norm": {
        **BOX,
        "updates": IN_MINIBATCHES,
        "training": {"grad_clip": 0.2, "grad_clip_by": "global_norm"},
    },
    "two_modules": {
        "modules": {
            "p0": {"rows": 20, "overrides": {}},
            "p1": {
                "rows": 13,
                "overrides": {
                    "lr": 0.05,
                    "clip_param": 0.4,
                    "kl_coeff": 1.0,
                    "kl_target": 1.0,
                    "entropy_coeff": 0.1,
                    "grad_clip": 0.1,
                    "grad_clip_by": "global_norm",
                },
            },
        },
        "updates": IN_MINIBATCHES,
    },
}


class RecordingLearner(learners.Recording, PPOTorchLearner):
    TERMS = TERMS


def make_batch(module, rows, case, rng):
    """Returns a train batch of an older policy that is near the module's.

    Near, so that probability ratios fall on either side of every clip. Rows that are
    masked out hold large numbers, which would show in every result.
    """
    shape = (rows,) if case["steps"] is None else (rows, case["steps"])
    obs = rng.normal(size=(*shape, learners.OBSERVATION_SIZE)).astype(np.float32)
    batch = {"obs": obs} | make_states(module, rows, rng)
    with torch.no_grad():
        outputs = module.forward_inference(convert_to_torch_tensor(batch))
    inputs = outputs["action_dist_inputs"].numpy()
    inputs = inputs + rng.normal(0.0, 0.4, inputs.shape).astype(np.float32)
    old = module.get_exploration_action_dist_cls().from_logits(torch.from_numpy(inputs))
    if isinstance(module.action_space, gym.spaces.Discrete):
        actions = rng.integers(module.action_space.n, size=shape)
    else:
        mean, log_std = np.split(inputs, 2, axis=-1)
        actions = mean + np.exp(log_std) * rng.normal(size=mean.shape)
        actions = actions.astype(np.float32)
    batch |= {
        "actions": actions,
        "action_dist_inputs": inputs,
        "action_logp": old.logp(torch.from_numpy(actions)).numpy(),
        "advantages": (0.3 + rng.normal(size=shape)).astype(np.float32),
        "value_targets": (1.5 + 2.0 * rng.normal(size=shape)).astype(np.float32),
    }
    mask = np.ones(shape, bool)
    if case["masked"]:
        mask = rng.random(shape) < 0.7
        for name, value in (("obs", 9.0), ("advantages", 50.0), ("value_targets", -70)):
            batch[name][~mask] = value
    if case["steps"] is not None:
        batch["seq_lens"] = rng.integers(1, case["steps"] + 1, size=rows).astype("i4")
        padding = np.arange(case["steps"]) >= batch["seq_lens"][:, None]
        mask &= ~padding
        for name, values in batch.items():
            if np.shape(values)[:2] == shape:
                values[padding] = 0
    if not mask.all():
        batch["loss_mask"] = mask
    return batch


def make_states(module, rows, rng):
    """Returns the column of states in front of sequences, if the module has states."""
    if not module.is_stateful():
        return {}
    return {
        "state_in": tree.map_structure(
            lambda x: rng.normal(0.0, 0.5, (rows, *x.shape)).astype(np.float32),
            module.get_initial_state(),
        )
    }


ALGORITHM = learners.Algorithm(
    config=PPOConfig,
    learner=RecordingLearner,
    after=AFTER_UPDATE,
    defaults=DEFAULTS,
    cases=CASES,
    make_batch=make_batch,
    cancelling=("vf_explained_var",),
)


def record():
    """Returns settings by case, and batches, terms, gradients and weights as arrays."""
    return learners.record(ALGORITHM)
