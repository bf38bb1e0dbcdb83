"""What RLlib's torch IMPALA learner computes in whole updates, and the bare V-trace."""

import numpy as np
import torch
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.impala.torch.impala_torch_learner import IMPALATorchLearner
from ray.rllib.algorithms.impala.torch.vtrace_torch_v2 import vtrace_torch
from ray.rllib.core.learner.learner import Learner
from recorders import learners, ppo

STEPS = 6  # Of a trajectory, the row that closes it included.
# The log-probability of actions in rows that do not count: their importance weights
# become 0, and RLlib's targets of these rows the whole value.
CERTAIN = 80.0
AFTER_UPDATE = (
    "curr_entropy_coeff",
    "default_optimizer_learning_rate",
    "gradients_default_optimizer_global_norm",
)

# What a case of IMPALA's learner consists of; CASES names what differs. Settings have
# the names that both libraries give them.
DEFAULTS = {
    "action": ["discrete", 3],
    "model": {"fcnet_hiddens": [6], "vf_share_layers": True},
    "training": {
        "lr": 0.1,
        "gamma": 0.9,
        "grad_clip": None,
        "vf_loss_coeff": 0.5,
        "entropy_coeff": 0.01,
        "vtrace_clip_rho_threshold": 1.0,
        "vtrace_clip_pg_rho_threshold": 1.0,
    },
    "modules": {"default_policy": {"rows": 5, "overrides": {}}},
    "masked": False,  # Trajectories are masked where they are closed.
    "steps": STEPS,
    "updates": [{"timestep": t} for t in (100, 200, 300)],
}
BOX = {"action": ["box", 2]}
CASES = {
    "discrete": {},
    "discrete_separate": {"model": {"vf_share_layers": False}},
    "discrete_wide_clips": {
        "training": {
            "vtrace_clip_rho_threshold": 3.0,
            "vtrace_clip_pg_rho_threshold": 2.0,
        }
    },
    "discrete_tight_clips": {
        "training": {
            "vtrace_clip_rho_threshold": 0.6,
            "vtrace_clip_pg_rho_threshold": 0.4,
        }
    },
    "discrete_unclipped": {
        "training": {
            "vtrace_clip_rho_threshold": None,
            "vtrace_clip_pg_rho_threshold": None,
        }
    },
    "discrete_entropy": {"training": {"entropy_coeff": 0.7, "vf_loss_coeff": 0.0}},
    "discrete_schedules": {
        "training": {
            "lr": [[0, 0.1], [150, 0.4], [250, 0.02]],
            "entropy_coeff": [[0, 0.5], [400, 0.1]],
        }
    },
    "discrete_lstm": {"model": ppo.LSTM},
    "discrete_by_global_norm": {
        "training": {"grad_clip": 0.2, "grad_clip_by": "global_norm"}
    },
    "box": BOX,
    "box_separate": {**BOX, "model": {"vf_share_layers": False}},
    "box_lstm": {**BOX, "model": ppo.LSTM},
    "two_modules": {
        "modules": {
            "p0": {"rows": 5, "overrides": {}},
            "p1": {
                "rows": 4,
                "overrides": {
                    "lr": 0.05,
                    "vf_loss_coeff": 1.0,
                    "entropy_coeff": 0.1,
                    "vtrace_clip_rho_threshold": 2.0,
                },
            },
        },
    },
}
THRESHOLDS = [[1.0, 1.0], [0.7, 2.0], [3.0, 0.5], [None, None]]


class RecordingLearner(learners.Recording, IMPALATorchLearner):
    """Learns in `update()` instead of a thread of its own, from sequences [S, T]."""

    TERMS = ("total_loss", "mean_pi_loss", "mean_vf_loss", "entropy")

    def build(self):
        super().build()
        self.shutdown()  # Of the thread.

    def update(self, batch, **kwargs):
        for mid, columns in batch.policy_batches.items():
            if not self.module[mid].unwrapped().is_stateful():
                # RLlib cuts rows into trajectories of one length itself.
                lengths = columns.pop("seq_lens")
                for name, own in columns.items():
                    columns[name] = own.reshape(len(lengths) * STEPS, *own.shape[2:])
        return Learner.update(self, batch=batch, **kwargs)


class Config(IMPALAConfig):
    def __init__(self, algo_class=None):
        super().__init__(algo_class)
        self.rollout_fragment_length = STEPS


def make_batch(module, rows, case, rng):
    """Returns sequences [S, T]: pieces of episodes, and rows that close them."""
    batch = ppo.make_batch(module, rows, {**case, "masked": False}, rng)
    shape = batch["obs"].shape[:2]
    mask = np.arange(STEPS) < batch["seq_lens"][:, None] - 1
    terminateds = np.zeros(shape, bool)
    terminateds[0, batch["seq_lens"][0] - 2] = True
    if not module.is_stateful():  # An episode ends amid a trajectory, another begins.
        batch["seq_lens"][1] = STEPS
        mask[1] = np.arange(STEPS) % 3 != 2
        terminateds[1, 1] = True
    padding = np.arange(STEPS) >= batch["seq_lens"][:, None]
    behaviour = batch["action_logp"] + rng.normal(0.0, 0.5, shape).astype("f4")
    names = ("obs", "actions", "seq_lens", "state_in")
    return {name: batch[name] for name in names if name in batch} | {
        "action_logp": np.where(mask, behaviour, np.float32(CERTAIN)),
        "rewards": np.where(mask, rng.normal(size=shape), 0.0).astype(np.float32),
        "terminateds": terminateds & ~padding,
        "loss_mask": mask & ~padding,
    }


ALGORITHM = learners.Algorithm(
    config=Config,
    learner=RecordingLearner,
    after=AFTER_UPDATE,
    defaults=DEFAULTS,
    cases=CASES,
    make_batch=make_batch,
)


def record():
    """Returns settings by case, and batches, terms, gradients and weights as arrays."""
    cases, arrays = learners.record(ALGORITHM)
    formula, numbers = record_formula()
    return cases | formula, arrays | numbers


def record_formula():
    """Returns V-trace of random trajectories, all rows of which count. [S, T] each."""
    rng = np.random.default_rng(0)
    shape, gamma = (3, 7), 0.9
    columns = {
        "logp": -rng.exponential(1.0, shape).astype(np.float32),
        "behaviour_logp": -rng.exponential(1.0, shape).astype(np.float32),
        "rewards": rng.normal(size=shape).astype(np.float32),
        "values": rng.normal(size=shape).astype(np.float32),
        "terminateds": rng.random(shape) < 0.2,
        "bootstrap_values": rng.normal(size=shape[0]).astype(np.float32),
    }
    tensors = {name: torch.from_numpy(own.T.copy()) for name, own in columns.items()}
    arrays = {f"formula/{name}": own for name, own in columns.items()}
    results = [
        vtrace_torch(
            target_action_log_probs=tensors["logp"],
            behaviour_action_log_probs=tensors["behaviour_logp"],
            discounts=gamma * (1.0 - tensors["terminateds"].float()),
            rewards=tensors["rewards"],
            values=tensors["values"],
            bootstrap_values=tensors["bootstrap_values"],
            clip_rho_threshold=rho,
            clip_pg_rho_threshold=pg_rho,
        )
        for rho, pg_rho in THRESHOLDS
    ]
    targets, advantages = zip(*results, strict=True)
    arrays["formula/value_targets"] = np.stack([x.numpy().T for x in targets])
    arrays["formula/advantages"] = np.stack([x.numpy().T for x in advantages])
    return {"gamma": gamma, "thresholds": THRESHOLDS}, arrays
