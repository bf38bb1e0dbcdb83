"""Whole updates of RLlib's torch learners: how they are run and what is kept of them."""

import collections
import copy
import dataclasses
import itertools
import zlib
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch
import tree
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.numpy import convert_to_numpy

OBSERVATION_SIZE = 4


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """What the recordings of an algorithm consist of.

    Attributes:
        config: RLlib's class of its config.
        learner: RLlib's class of its learner, with `Recording` in front.
        after: Results of a whole update.
        defaults: A case with all its settings.
        cases: What differs, by name. `like` names the case whose numbers are taken.
        make_batch: Of a module, its number of rows, the case and a generator.
        prepare: Changes the random weights of a module to what a case is about.
        cancelling: Terms that may come near to zero.
    """

    config: type
    learner: type
    after: tuple[str, ...]
    defaults: dict
    cases: dict
    make_batch: Callable
    prepare: Callable | None = None
    cancelling: tuple[str, ...] = ()

    def full_case(self, changes):
        """Returns a case with all its settings."""
        case = copy.deepcopy(self.defaults)
        for name, value in changes.items():
            merged = name in ("model", "training")
            case[name] = {**case[name], **value} if merged else copy.deepcopy(value)
        return case


class Recording:
    """Makes a learner take plain SGD and keep what its hooks are given and return.

    Attributes:
        TERMS: Names of the metrics that a step logs.
    """

    TERMS: tuple[str, ...]

    def build(self):
        self.steps = []
        super().build()

    def register_optimizer(self, *, optimizer, params, **kwargs):
        sgd = torch.optim.SGD(params, lr=1.0)  # The schedule sets the rate.
        super().register_optimizer(optimizer=sgd, params=params, **kwargs)

    def get_parameters(self, module):
        return [parameter for _, parameter in trained(module)]

    def parameters_of(self, module_id):
        """Returns names and trained parameters of a module, and what belongs to it."""
        return trained(self.module[module_id].unwrapped())

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
        self.steps[-1]["weights"] = self.weights()
        self.steps[-1]["terms"] = {
            mid: numbers([self.metrics.peek((mid, n), np.nan) for n in self.TERMS])
            for mid, _ in modules_of(self)
        }

    def weights(self):
        """Returns {module ID: all trained numbers}."""
        return {
            mid: flat([p for _, p in self.parameters_of(mid)])
            for mid, _ in modules_of(self)
        }

    def _by_module(self, gradients):
        return {
            mid: flat([gradients[p] for _, p in self.parameters_of(mid)])
            for mid, _ in modules_of(self)
        }


def modules_of(learner):
    return [
        (mid, learner.module[mid].unwrapped()) for mid in sorted(learner.module.keys())
    ]


def trained(module):
    """Returns names and parameters without target networks and second biases of LSTMs.

    Torch adds two biases where Keras has one; the second stays zero.
    """
    return [
        (name, parameter)
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and "bias_hh" not in name
    ]


def of_targets(module):
    """Returns names and parameters of the target networks."""
    return [(n, p) for n, p in module.named_parameters() if not p.requires_grad]


def flat(tensors):
    """Returns the numbers of all tensors one after the other, in a copy."""
    return np.concatenate([x.detach().numpy().ravel().copy() for x in tensors])


def numbers(values):
    """Returns numbers and scalar tensors as one array."""
    return np.float32([convert_to_numpy(x) for x in values])


def names_and_shapes(parameters):
    return [[name, list(parameter.shape)] for name, parameter in parameters]


def action_space(action):
    kind, size = action
    if kind == "discrete":
        return gym.spaces.Discrete(size)
    return gym.spaces.Box(-1.0, 1.0, (size,), np.float32)


def make_learner(algorithm, case, rng):
    """Returns a built learner with random weights."""
    observations = gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32)
    actions = action_space(case["action"])
    config = (
        algorithm.config()
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
                mid: algorithm.config.overrides(**own["overrides"])
                for mid, own in case["modules"].items()
                if own["overrides"]
            },
        )
    spec = config.get_multi_rl_module_spec(
        spaces={mid: (observations, actions) for mid in ids}, inference_only=False
    )
    learner = algorithm.learner(config=config, module_spec=spec)
    learner.build()
    for _, module in modules_of(learner):
        for parameter in module.parameters():
            parameter.data.zero_()
        for _, parameter in trained(module) + of_targets(module):
            values = rng.normal(0.0, 0.5, tuple(parameter.shape)).astype(np.float32)
            parameter.data.copy_(torch.from_numpy(values))
        if algorithm.prepare is not None:
            algorithm.prepare(module, case)
    return learner


def record_case(algorithm, case, rng):
    """Returns the case with what its learner looks like, and its arrays."""
    learner = make_learner(algorithm, case, rng)
    modules = modules_of(learner)
    batches = {
        mid: algorithm.make_batch(module, case["modules"][mid]["rows"], case, rng)
        for mid, module in modules
    }
    weights = {mid: [values] for mid, values in learner.weights().items()}
    targets = collections.defaultdict(list)
    keep_targets(modules, targets)
    after, td_errors = collections.defaultdict(list), collections.defaultdict(list)
    steps_per_update = []
    for update in case["updates"]:
        update = dict(update)
        timesteps = {"num_env_steps_sampled_lifetime": update.pop("timestep")}
        before = len(learner.steps)
        batch = MultiAgentBatch(
            {mid: SampleBatch(copy.deepcopy(own)) for mid, own in batches.items()},
            env_steps=max(len(own["obs"]) for own in batches.values()),
        )
        results = learner.update(batch=batch, timesteps=timesteps, **update)
        keep_targets(modules, targets)
        steps_per_update.append(len(learner.steps) - before)
        for mid, own in results.items():
            if mid in batches:
                stats = [own.get(name) for name in algorithm.after]
                after[mid].append(
                    numbers([np.nan if x is None else x.peek() for x in stats])
                )
                if "td_error" in own:
                    td_errors[mid].append(np.concatenate(own["td_error"].peek()))

    arrays = {}
    for mid, _ in modules:
        for kind in ("terms", "gradients", "clipped"):
            arrays[f"{mid}/{kind}"] = np.stack([s[kind][mid] for s in learner.steps])
        weights[mid] += [step["weights"][mid] for step in learner.steps]
        arrays[f"{mid}/weights"] = np.stack(weights[mid])
        arrays[f"{mid}/after"] = np.stack(after[mid])
        for kind, kept in (("targets", targets), ("td_errors", td_errors)):
            if mid in kept:
                arrays[f"{mid}/{kind}"] = np.stack(kept[mid])
        for path, values in tree.flatten_with_path(batches[mid]):
            arrays["/".join([mid, "batch", *path])] = values
    parameters = {
        mid: names_and_shapes(learner.parameters_of(mid)) for mid, _ in modules
    }
    case = case | {"parameters": parameters, "steps_per_update": steps_per_update}
    if targets:
        case["targets"] = {
            mid: names_and_shapes(of_targets(module)) for mid, module in modules
        }
    return case, arrays


def keep_targets(modules, kept):
    """Appends all numbers of target networks to lists by module."""
    for mid, module in modules:
        if of_targets(module):
            kept[mid].append(flat([p for _, p in of_targets(module)]))


def is_well_conditioned(algorithm, case, arrays):
    """Returns whether no loss term, gradient or weight comes near to zero.

    Sums that cancel leave nothing but rounding, and no two libraries round alike.
    """
    terms = algorithm.learner.TERMS
    for mid, parameters in case["parameters"].items():
        sizes = [int(np.prod(shape)) for _, shape in parameters]
        ends = np.cumsum(sizes)[:-1]
        parts = np.split(arrays[f"{mid}/terms"], len(terms), axis=1)
        parts = [x for x, n in zip(parts, terms) if n not in algorithm.cancelling]
        for kind in ("gradients", "weights"):
            parts += np.split(arrays[f"{mid}/{kind}"], ends, axis=1)
        for part in parts:
            largest = np.abs(part).max(axis=1)
            if np.any((largest > 0.0) & (largest < 0.02)):
                return False
    return True


def record(algorithm):
    """Returns settings by case, and batches, terms, gradients and weights as arrays."""
    cases, arrays = {}, {}
    for name, changes in algorithm.cases.items():
        for attempt in itertools.count():
            # Of the name: other cases keep their numbers when one is added.
            seed = [zlib.crc32(changes.get("like", name).encode()), attempt]
            rng = np.random.default_rng(seed)
            case, own = record_case(algorithm, algorithm.full_case(changes), rng)
            if is_well_conditioned(algorithm, case, own):
                break
        cases[name] = case | {"seed": seed}
        arrays |= {f"{name}/{key}": array for key, array in own.items()}
    terms, after = algorithm.learner.TERMS, algorithm.after
    return {"terms": terms, "after": after, "cases": cases}, arrays
