"""What RLlib's torch MARWIL learner computes in whole updates, as MARWIL and as BC."""

from ray.rllib.algorithms.bc import BCConfig
from ray.rllib.algorithms.marwil import MARWILConfig
from ray.rllib.algorithms.marwil.torch.marwil_torch_learner import MARWILTorchLearner
from recorders import learners, ppo

AFTER_UPDATE = (
    "default_optimizer_learning_rate",
    "gradients_default_optimizer_global_norm",
)

# What a case of MARWIL's learner consists of; CASES names what differs. Settings have
# the names that both libraries give them.
DEFAULTS = {
    "action": ["discrete", 3],
    "model": {"fcnet_hiddens": [6], "vf_share_layers": False},
    "training": {
        "lr": 0.1,
        "beta": 1.0,
        "vf_coeff": 0.5,
        "moving_average_sqd_adv_norm_start": 9.0,
        "moving_average_sqd_adv_norm_update_rate": 0.1,
    },
    "modules": {"default_policy": {"rows": 20, "overrides": {}}},
    "masked": False,
    "steps": None,  # A number makes sequences of as many steps.
    "updates": [{"timestep": t} for t in (100, 200, 300)],
}
BOX = {"action": ["box", 2]}
CASES = {
    "discrete": {},
    "discrete_shared": {"model": {"vf_share_layers": True}},
    "discrete_low_beta": {"training": {"beta": 0.3, "vf_coeff": 2.0}},
    "discrete_fast_average": {
        "training": {"moving_average_sqd_adv_norm_update_rate": 0.9}
    },
    "discrete_masked": {"masked": True},
    "discrete_lstm": {"model": ppo.LSTM, "steps": 4},
    "discrete_schedule": {"training": {"lr": [[0, 0.1], [150, 0.3], [250, 0.02]]}},
    "discrete_minibatches": {"updates": ppo.IN_MINIBATCHES, "masked": True},
    "discrete_by_global_norm": {
        "training": {"grad_clip": 0.2, "grad_clip_by": "global_norm"}
    },
    "box": BOX,
    "box_masked": {**BOX, "masked": True, "model": {"vf_share_layers": True}},
    "box_free_log_std": {**BOX, "model": {"free_log_std": True}},
    "two_modules": {
        "modules": {
            "p0": {"rows": 20, "overrides": {}},
            "p1": {
                "rows": 13,
                "overrides": {
                    "lr": 0.05,
                    "beta": 0.5,
                    "vf_coeff": 1.0,
                    "moving_average_sqd_adv_norm_start": 4.0,
                    "moving_average_sqd_adv_norm_update_rate": 0.3,
                },
            },
        },
        "updates": ppo.IN_MINIBATCHES,
    },
}
BC_DEFAULTS = {
    **DEFAULTS,
    "model": {"fcnet_hiddens": [6]},
    "training": {"lr": 0.1},
}
BC_CASES = {
    "discrete": {},
    "discrete_masked": {"masked": True},
    "discrete_minibatches": {"updates": ppo.IN_MINIBATCHES, "masked": True},
    "discrete_heads_relu": {
        "model": {"fcnet_activation": "relu", "head_fcnet_hiddens": [5]}
    },
    "discrete_lstm": {
        "model": {"use_lstm": True, "lstm_cell_size": 5, "fcnet_hiddens": [6]},
        "steps": 4,
    },
    "box": BOX,
    "box_by_norm": {**BOX, "training": {"grad_clip": 0.1, "grad_clip_by": "norm"}},
}


class RecordingLearner(learners.Recording, MARWILTorchLearner):
    TERMS = (
        "total_loss",
        "policy_loss",
        "vf_loss",
        "vf_explained_variance",
        "moving_avg_sqd_adv_norm",
    )


class RecordingBCLearner(learners.Recording, MARWILTorchLearner):
    TERMS = ("total_loss", "policy_loss")

    @classmethod
    def rl_module_required_apis(cls):
        return []


def make_batch(module, rows, case, rng):
    """Returns a train batch; value targets come before the module's values."""
    batch = ppo.make_batch(module, rows, case, rng)
    names = ("obs", "actions", "value_targets", "loss_mask", "seq_lens", "state_in")
    return {name: batch[name] for name in names if name in batch}


MARWIL = learners.Algorithm(
    config=MARWILConfig,
    learner=RecordingLearner,
    after=AFTER_UPDATE,
    defaults=DEFAULTS,
    cases=CASES,
    make_batch=make_batch,
    cancelling=("vf_explained_variance",),
)
BC = learners.Algorithm(
    config=BCConfig,
    learner=RecordingBCLearner,
    after=AFTER_UPDATE,
    defaults=BC_DEFAULTS,
    cases=BC_CASES,
    make_batch=make_batch,
)


def record():
    """Returns what MARWIL records, and what BC does: settings and arrays of each."""
    return learners.record(MARWIL), learners.record(BC)
