"""What RLlib's torch SAC learner computes in whole updates."""

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.sac.sac_catalog import SACCatalog
from ray.rllib.algorithms.sac.torch.default_sac_torch_rl_module import (
    DefaultSACTorchRLModule,
)
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.core.models.configs import MLPEncoderConfig
from ray.rllib.core.models.torch.encoder import TorchMLPEncoder
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from recorders import dqn, learners

TERMS = (
    "total_loss",
    "policy_loss",
    "qf_loss",
    "qf_twin_loss",
    "alpha_loss",
    "alpha_value",
    "log_alpha_value",
    "target_entropy",
    "logps",
    "qf_mean",
    "qf_min",
    "qf_max",
    "td_error_mean",
)
AFTER_UPDATE = (
    "policy_learning_rate",
    "qf_learning_rate",
    "alpha_learning_rate",
    "gradients_policy_global_norm",
    "gradients_qf_global_norm",
    "gradients_qf_twin_global_norm",
    "gradients_alpha_global_norm",
    "num_target_updates",
    "last_target_update_ts",
)

# What a case of SAC's learner consists of; CASES names what differs. Settings have the
# names that both libraries give them.
DEFAULTS = {
    "action": ["box", 2],
    "model": {"fcnet_hiddens": [6]},
    "training": {
        "actor_lr": 0.1,
        "critic_lr": 0.2,
        "alpha_lr": 0.05,
        "gamma": 0.9,
        "twin_q": True,
        "initial_alpha": 0.6,
        "target_entropy": "auto",
        "grad_clip": None,
        "tau": 0.2,
        "target_network_update_freq": 0,
    },
    "modules": {"default_policy": {"rows": 16, "overrides": {}}},
    "max_n_step": 3,
    "weighted": True,
    # What the random weights of the policy's head for means and for log standard
    # deviations are multiplied with.
    "policy_scales": [1.0, 1.0],
    "updates": [{"timestep": t} for t in (100, 200, 300)],
}
# RLlib's own target entropy for discrete actions is -1, which no policy reaches.
DISCRETE = {"action": ["discrete", 3], "training": {"target_entropy": 0.8}}
CASES = {
    "box": {},
    "box_one_critic": {"training": {"twin_q": False}},
    "box_one_action": {"action": ["box", 1]},
    "box_low_alpha": {"training": {"initial_alpha": 0.05}},
    "box_high_alpha": {"training": {"initial_alpha": 3.0, "actor_lr": 0.02}},
    "box_target_entropy": {"training": {"target_entropy": 0.7}},
    "box_unweighted": {"weighted": False, "max_n_step": 1},
    "box_many_steps": {"training": {"gamma": 0.7}, "max_n_step": 6},
    "box_beyond_log_std_bounds": {
        "policy_scales": [1.0, 8.0],
        "training": {"actor_lr": 0.02},
    },
    "box_saturated": {"policy_scales": [8.0, 1.0], "training": {"actor_lr": 0.02}},
    "box_two_layers_relu": {
        "model": {"fcnet_hiddens": [6, 5], "fcnet_activation": "relu"}
    },
    "box_heads": {"model": {"head_fcnet_hiddens": [5]}},
    "box_hard_target": {"training": {"tau": 1.0, "target_network_update_freq": 150}},
    "box_schedules": {
        "training": {
            "actor_lr": [[0, 0.1], [250, 0.02]],
            "critic_lr": [[0, 0.1], [150, 0.4], [250, 0.02]],
            "alpha_lr": [[0, 0.2], [300, 0.0]],
        }
    },
    "box_by_value": {"training": {"grad_clip": 0.05, "grad_clip_by": "value"}},
    "box_by_norm": {"training": {"grad_clip": 0.1, "grad_clip_by": "norm"}},
    "box_by_global_norm": {
        "training": {"grad_clip": 0.4, "grad_clip_by": "global_norm"}
    },
    "discrete": DISCRETE,
    "discrete_two_layers_relu": {
        **DISCRETE,
        "model": {"fcnet_hiddens": [6, 5], "fcnet_activation": "relu"},
    },
    "discrete_low_alpha": {
        **DISCRETE,
        "training": {"target_entropy": 0.3, "initial_alpha": 0.1, "gamma": 0.7},
        "weighted": False,
    },
    "discrete_by_global_norm": {
        **DISCRETE,
        "training": {
            "target_entropy": 0.8,
            "grad_clip": 0.2,
            "grad_clip_by": "global_norm",
        },
    },
    "two_modules": {
        "modules": {
            "p0": {"rows": 16, "overrides": {}},
            "p1": {
                "rows": 11,
                "overrides": {
                    "actor_lr": 0.05,
                    "critic_lr": 0.1,
                    "alpha_lr": 0.2,
                    "gamma": 0.5,
                    "initial_alpha": 2.0,
                    "target_entropy": 0.5,
                    "tau": 1.0,
                    "target_network_update_freq": 150,
                    "grad_clip": 0.3,
                    "grad_clip_by": "global_norm",
                },
            },
        },
    },
}


class RecordingLearner(learners.Recording, SACTorchLearner):
    TERMS = TERMS

    def parameters_of(self, module_id):
        log_alpha = ("log_alpha", self.curr_log_alpha[module_id])
        return [*super().parameters_of(module_id), log_alpha]


# Networks and noise.


class ConcatenatingEncoder(TorchMLPEncoder):
    """Takes observations and actions as one vector."""

    def _forward(self, inputs, **kwargs):
        both = torch.cat([inputs["obs"], inputs["actions"]], dim=-1)
        return {ENCODER_OUT: self.net(both)}


class KnownNormal(torch.distributions.Normal):
    """Moves noise that is given instead of drawing it."""

    noise = None  # Of actions that gradients go through.
    next_noise = None

    def rsample(self, sample_shape=()):
        return self.loc + self.scale * KnownNormal.noise

    def sample(self, sample_shape=()):
        with torch.no_grad():
            return self.loc + self.scale * KnownNormal.next_noise


class KnownSquashedGaussian(TorchSquashedGaussian):
    def _get_torch_distribution(self, loc, scale):
        return KnownNormal(loc, scale, validate_args=False)


class Catalog(SACCatalog):
    """Gives critics one network instead of two whose outputs a third one joins."""

    def _build_qf_encoder_continuous(self, framework):
        *hiddens, last = self._model_config_dict["fcnet_hiddens"]
        activation = self._model_config_dict["fcnet_activation"]
        size = self.observation_space.shape[0] + self.action_space.shape[0]
        config = MLPEncoderConfig(
            input_dims=[size],
            hidden_layer_dims=hiddens,
            hidden_layer_activation=activation,
            output_layer_dim=last,
            output_layer_activation=activation,
        )
        return ConcatenatingEncoder(config)

    def get_action_dist_cls(self, framework):
        if isinstance(self.action_space, gym.spaces.Box):
            return KnownSquashedGaussian
        return super().get_action_dist_cls(framework)


class Module(DefaultSACTorchRLModule):
    """RLlib's module, with the noise of its actions from the batch."""

    def _forward_train_continuous(self, batch):
        KnownNormal.noise, KnownNormal.next_noise = batch["noise"], batch["next_noise"]
        return super()._forward_train_continuous(batch)


class Config(SACConfig):
    def get_default_rl_module_spec(self):
        return RLModuleSpec(module_class=Module, catalog_class=Catalog)


# Cases.


def scale_policy(module, case):
    """Sets how far means and log standard deviations of actions reach."""
    for scale, rows in zip(case["policy_scales"], halves_of_head(module)):
        rows.data.mul_(scale)


def halves_of_head(module):
    """Returns the weights for means and those for log standard deviations."""
    weights = [p for n, p in module.pi.named_parameters() if n.endswith("weight")]
    return weights[-1].chunk(2)


def make_batch(module, rows, case, rng):
    """Returns a train batch with the noise of both actions that are drawn for a row."""
    batch = {
        "obs": rng.normal(size=(rows, learners.OBSERVATION_SIZE)).astype(np.float32),
        "new_obs": rng.normal(size=(rows, learners.OBSERVATION_SIZE)).astype("f4"),
    }
    if isinstance(module.action_space, gym.spaces.Discrete):
        batch["actions"] = rng.integers(module.action_space.n, size=rows)
    else:
        shape = (rows, *module.action_space.shape)
        batch["actions"] = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
        batch["noise"] = rng.normal(size=shape).astype(np.float32)
        batch["next_noise"] = rng.normal(size=shape).astype(np.float32)
    return batch | dqn.make_row_columns(rows, case, rng)


ALGORITHM = learners.Algorithm(
    config=Config,
    learner=RecordingLearner,
    after=AFTER_UPDATE,
    defaults=DEFAULTS,
    cases=CASES,
    make_batch=make_batch,
    prepare=scale_policy,
)


def record():
    """Returns settings by case, and batches, terms, gradients and weights as arrays."""
    return learners.record(ALGORITHM)
