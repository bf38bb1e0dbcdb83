"""What RLlib's torch DQN learner computes in whole updates."""

import numpy as np
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from recorders import learners

TERMS = (
    "total_loss",
    "qf_loss",
    "qf_mean",
    "qf_min",
    "qf_max",
    "td_error_mean",
)
AFTER_UPDATE = (
    "default_optimizer_learning_rate",
    "gradients_default_optimizer_global_norm",
    "num_target_updates",
    "last_target_update_ts",
)

# What a case of DQN's learner consists of; CASES names what differs. Settings have the
# names that both libraries give them.
DEFAULTS = {
    "action": ["discrete", 3],
    "model": {"fcnet_hiddens": [6]},
    "training": {
        "lr": 0.1,
        "gamma": 0.9,
        "double_q": True,
        "dueling": True,
        "td_error_loss_fn": "huber",
        "grad_clip": None,
        "tau": 1.0,
        "target_network_update_freq": 150,
    },
    "modules": {"default_policy": {"rows": 16, "overrides": {}}},
    "masked": False,
    "max_n_step": 3,
    "weighted": True,
    "updates": [{"timestep": t} for t in (100, 200, 300)],
}
SOFT = {"tau": 0.2, "target_network_update_freq": 0}
C51 = {"dueling": False, "num_atoms": 5, "v_min": -3.0, "v_max": 4.0}
CASES = {
    "dueling_double": {},
    "dueling": {"training": {"double_q": False}},
    "double": {"training": {"dueling": False}},
    "simple": {
        "training": {"dueling": False, "double_q": False},
        "max_n_step": 1,
        "weighted": False,
    },
    "mse": {"training": {"td_error_loss_fn": "mse", "lr": 0.02}},
    "mse_masked": {
        "training": {"td_error_loss_fn": "mse", "dueling": False, "lr": 0.02},
        "masked": True,
    },
    "masked": {"masked": True},
    "unweighted": {"weighted": False},
    "many_steps": {"training": {"gamma": 0.7}, "max_n_step": 6},
    "heads": {"model": {"head_fcnet_hiddens": [5]}},
    "two_layers_relu": {
        "model": {"fcnet_hiddens": [6, 5], "fcnet_activation": "relu"},
        "training": {"dueling": False},
    },
    "soft_target": {"training": SOFT},
    "soft_target_at_times": {
        "training": {"tau": 0.3, "target_network_update_freq": 100},
        "updates": [{"timestep": t} for t in (50, 100, 199, 201)],
    },
    "no_target_update": {"training": {"target_network_update_freq": 500}},
    "schedule": {"training": {"lr": [[0, 0.1], [150, 0.4], [250, 0.02]]}},
    "by_value": {"training": {"grad_clip": 0.05, "grad_clip_by": "value"}},
    "by_norm": {"training": {"grad_clip": 0.1, "grad_clip_by": "norm"}},
    "by_global_norm": {"training": {"grad_clip": 0.2, "grad_clip_by": "global_norm"}},
    "below_global_norm": {
        "training": {"grad_clip": 50.0, "grad_clip_by": "global_norm"}
    },
    "distributional_double": {"training": C51},
    "distributional": {
        "training": {**C51, **SOFT, "double_q": False, "num_atoms": 8},
        "max_n_step": 1,
    },
    # Of which every atom is moved to beyond an end for some rows.
    "distributional_narrow": {
        "training": {**C51, "v_min": -0.5, "v_max": 1.0, "num_atoms": 4},
        "model": {"head_fcnet_hiddens": [5]},
    },
    "two_modules": {
        "modules": {
            "p0": {"rows": 16, "overrides": {}},
            "p1": {
                "rows": 11,
                "overrides": {
                    "lr": 0.05,
                    "gamma": 0.5,
                    "td_error_loss_fn": "mse",
                    "grad_clip": 0.3,
                    "grad_clip_by": "global_norm",
                    **SOFT,
                },
            },
        },
    },
}


class RecordingLearner(learners.Recording, DQNTorchLearner):
    TERMS = TERMS


def make_batch(module, rows, case, rng):
    """Returns a train batch with errors on either side of 1, and terminated rows.

    Rows that are masked out hold large numbers, which would show in every result.
    """
    batch = {
        "obs": rng.normal(size=(rows, learners.OBSERVATION_SIZE)).astype(np.float32),
        "new_obs": rng.normal(size=(rows, learners.OBSERVATION_SIZE)).astype("f4"),
        "actions": rng.integers(module.action_space.n, size=rows),
    } | make_row_columns(rows, case, rng)
    if case["masked"]:
        mask = batch["loss_mask"] = rng.random(rows) < 0.7
        for name, value in (("obs", 9.0), ("new_obs", -9.0), ("rewards", 50.0)):
            batch[name][~mask] = value
    return batch


def make_row_columns(rows, case, rng):
    """Returns the columns that tell how a row looks ahead and how much it weighs."""
    terminateds = rng.random(rows) < 0.25
    weights = rng.uniform(0.2, 1.0, rows) if case["weighted"] else np.ones(rows)
    return {
        "rewards": (0.5 + 1.5 * rng.normal(size=rows)).astype(np.float32),
        "terminateds": terminateds,
        "truncateds": ~terminateds & (rng.random(rows) < 0.2),
        "n_step": rng.integers(1, case["max_n_step"] + 1, rows).astype(np.float32),
        "weights": weights.astype(np.float32),
    }


ALGORITHM = learners.Algorithm(
    config=DQNConfig,
    learner=RecordingLearner,
    after=AFTER_UPDATE,
    defaults=DEFAULTS,
    cases=CASES,
    make_batch=make_batch,
)


def record():
    """Returns settings by case, and batches, terms, gradients and weights as arrays."""
    return learners.record(ALGORITHM)
