"""What RLlib's torch PPO learner computes in whole updates."""

import collections
import copy
import itertools
import zlib

import gymnasium as gym
import numpy as np
import torch
import tree
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.torch_utils import convert_to_torch_tensor

OBSERVATION_SIZE = 4
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


def full_case(changes):
    """Returns a case with all its settings."""
    case = copy.deepcopy(DEFAULTS)
    for name, value in changes.items():
        merged = name in ("model", "training")
        case[name] = {**case[name], **value} if merged else copy.deepcopy(value)
    return case


# Learners.


class RecordingLearner(PPOTorchLearner):
    """RLlib's PPO learner with plain SGD; keeps what its hooks are given and return."""

    def build(self):
        self.steps = []
        super().build()

    def configure_optimizers_for_module(self, module_id, config=None):
        params = self.get_parameters(self.module[module_id])
        config = config or self.config.get_config_for_module(module_id)
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.SGD(params, lr=1.0),  # The schedule sets the rate.
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def get_parameters(self, module):
        return [parameter for _, parameter in trained(module)]

    def compute_gradients(self, loss_per_module, **kwargs):
        gradients = super().compute_gradients(loss_per_module, **kwargs)
        # Copied before `postprocess_gradients`, which changes them in place.
        self.steps.append({"gradients": self._by_module(gradients)})
        for module_id, loss in loss_per_module.items():
            self.metrics.log_value((module_id, "total_loss"), loss, window=1)
        return gradients

    def postprocess_gradients(self, gradients_dict):
        clipped = super().postprocess_gradients(gradients_dict)
        self.steps[-1]["clipped"] = self._by_module(clipped)
        return clipped

    def apply_gradients(self, gradients_dict):
        super().apply_gradients(gradients_dict)
        self.steps[-1]["weights"] = {mid: weights_of(m) for mid, m in modules_of(self)}
        self.steps[-1]["terms"] = {
            mid: numbers([self.metrics.peek((mid, name)) for name in TERMS])
            for mid, _ in modules_of(self)
        }

    def _by_module(self, gradients):
        return {
            mid: flat([gradients[p] for _, p in trained(module)])
            for mid, module in modules_of(self)
        }


def modules_of(learner):
    return [
        (mid, learner.module[mid].unwrapped()) for mid in sorted(learner.module.keys())
    ]


def trained(module):
    """Returns names and parameters without the second biases of LSTMs.

    Torch adds two biases where Keras has one; the second stays zero.
    """
    return [(n, p) for n, p in module.named_parameters() if "bias_hh" not in n]


def weights_of(module):
    return flat([parameter for _, parameter in trained(module)])


def flat(tensors):
    """Returns the numbers of all tensors one after the other, in a copy."""
    return np.concatenate([x.detach().numpy().ravel().copy() for x in tensors])


def numbers(values):
    """Returns numbers and scalar tensors as one array."""
    return np.float32([convert_to_numpy(x) for x in values])


def action_space(action):
    kind, size = action
    if kind == "discrete":
        return gym.spaces.Discrete(size)
    return gym.spaces.Box(-1.0, 1.0, (size,), np.float32)


def make_learner(case, rng):
    """Returns a built learner with random weights."""
    observations = gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32)
    actions = action_space(case["action"])
    config = (
        PPOConfig()
        .environment(observation_space=observations, action_space=actions)
        .training(**case["training"])
        .rl_module(model_config=DefaultModelConfig(**case["model"]))
    )
    ids = list(case["modules"])
    if ids != ["default_policy"]:
        config.multi_agent(
            policies=set(ids),
            policy_mapping_fn=lambda agent_id, *args, **kwargs: agent_id,
            algorithm_config_overrides_per_module={
                mid: PPOConfig.overrides(**own["overrides"])
                for mid, own in case["modules"].items()
                if own["overrides"]
            },
        )
    spec = config.get_multi_rl_module_spec(
        spaces={mid: (observations, actions) for mid in ids}, inference_only=False
    )
    learner = RecordingLearner(config=config, module_spec=spec)
    learner.build()
    for _, module in modules_of(learner):
        for parameter in module.parameters():
            parameter.data.zero_()
        for _, parameter in trained(module):
            values = rng.normal(0.0, 0.5, tuple(parameter.shape)).astype(np.float32)
            parameter.data.copy_(torch.from_numpy(values))
    return learner


def make_batch(module, rows, case, rng):
    """Returns a train batch of an older policy that is near the module's.

    Near, so that probability ratios fall on either side of every clip. Rows that are
    masked out hold large numbers, which would show in every result.
    """
    shape = (rows,) if case["steps"] is None else (rows, case["steps"])
    obs = rng.normal(size=(*shape, OBSERVATION_SIZE)).astype(np.float32)
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


def record_case(case, rng):
    """Returns the case with what its learner looks like, and its arrays."""
    learner = make_learner(case, rng)
    modules = modules_of(learner)
    batches = {
        mid: make_batch(module, case["modules"][mid]["rows"], case, rng)
        for mid, module in modules
    }
    weights = {mid: [weights_of(module)] for mid, module in modules}
    after, steps_per_update = collections.defaultdict(list), []
    for update in case["updates"]:
        update = dict(update)
        timesteps = {"num_env_steps_sampled_lifetime": update.pop("timestep")}
        before = len(learner.steps)
        batch = MultiAgentBatch(
            {mid: SampleBatch(copy.deepcopy(own)) for mid, own in batches.items()},
            env_steps=max(len(own["obs"]) for own in batches.values()),
        )
        results = learner.update(batch=batch, timesteps=timesteps, **update)
        steps_per_update.append(len(learner.steps) - before)
        for mid, own in results.items():
            if mid in batches:
                stats = [own.get(name) for name in AFTER_UPDATE]
                after[mid].append(
                    numbers([np.nan if x is None else x.peek() for x in stats])
                )

    arrays = {}
    for mid, _ in modules:
        for kind in ("terms", "gradients", "clipped"):
            arrays[f"{mid}/{kind}"] = np.stack([s[kind][mid] for s in learner.steps])
        weights[mid] += [step["weights"][mid] for step in learner.steps]
        arrays[f"{mid}/weights"] = np.stack(weights[mid])
        arrays[f"{mid}/after"] = np.stack(after[mid])
        for path, values in tree.flatten_with_path(batches[mid]):
            arrays["/".join([mid, "batch", *path])] = values
    parameters = {mid: parameters_of(module) for mid, module in modules}
    case = case | {"parameters": parameters, "steps_per_update": steps_per_update}
    return case, arrays


def parameters_of(module):
    return [[name, list(parameter.shape)] for name, parameter in trained(module)]


def is_well_conditioned(case, arrays):
    """Returns whether no loss term, gradient or weight comes near to zero.

    Sums that cancel leave nothing but rounding, and no two libraries round alike.
    """
    for mid, parameters in case["parameters"].items():
        sizes = [int(np.prod(shape)) for _, shape in parameters]
        ends = np.cumsum(sizes)[:-1]
        parts = np.split(arrays[f"{mid}/terms"], len(TERMS), axis=1)
        del parts[TERMS.index("vf_explained_var")]
        for kind in ("gradients", "weights"):
            parts += np.split(arrays[f"{mid}/{kind}"], ends, axis=1)
        for part in parts:
            largest = np.abs(part).max(axis=1)
            if np.any((largest > 0.0) & (largest < 0.02)):
                return False
    return True


def record():
    """Returns settings by case, and batches, terms, gradients and weights as arrays."""
    cases, arrays = {}, {}
    for name, changes in CASES.items():
        for attempt in itertools.count():
            # Of the name: other cases keep their numbers when one is added.
            seed = [zlib.crc32(changes.get("like", name).encode()), attempt]
            case, own = record_case(full_case(changes), np.random.default_rng(seed))
            if is_well_conditioned(case, own):
                break
        cases[name] = case | {"seed": seed}
        arrays |= {f"{name}/{key}": array for key, array in own.items()}
    return {"terms": TERMS, "after": AFTER_UPDATE, "cases": cases}, arrays
