"""What the tests of parity share: recordings, learners that follow them, comparisons.

Tests of one algorithm name it: `ALGORITHM`.
"""

import functools
import json
import pathlib

import gymnasium as gym
import keras
import numpy as np
import pytest

from tflearner.algorithms.bc import BCConfig
from tflearner.algorithms.dqn import DQNConfig
from tflearner.algorithms.impala import IMPALAConfig
from tflearner.algorithms.marwil import MARWILConfig
from tflearner.algorithms.ppo import PPOConfig
from tflearner.algorithms.sac import SACConfig
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.modules.default_model_config import DefaultModelConfig

CONFIGS = {
    "ppo": PPOConfig,
    "dqn": DQNConfig,
    "sac": SACConfig,
    "bc": BCConfig,
    "marwil": MARWILConfig,
    "impala": IMPALAConfig,
}
# RLlib's names of what has others here.
RENAMED = {"mean_pi_loss": "policy_loss", "mean_vf_loss": "vf_loss"}
# The networks as our modules have them, by RLlib's names.
ORDER = (
    *("encoder", "pi_encoder", "pi", "pi_head", "af", "vf"),
    *("qf_encoder", "qf", "qf_twin_encoder", "qf_twin", "log_alpha"),
)
DATA = pathlib.Path(__file__).parent / "data"
OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)


@pytest.fixture(scope="session")
def load():
    """Returns a function from the name of a file in `data/` to what it holds."""

    def load_file(name):
        path = DATA / name
        if path.suffix == ".json":
            return json.loads(path.read_text())
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    return load_file


@pytest.fixture(scope="session")
def assert_parity():
    """Returns a function that compares numbers with recorded ones.

    The largest difference may be `tolerance` times the largest absolute value of what
    was recorded.
    """

    def compare(actual, recorded, what="", tolerance=1e-5):
        actual, recorded = np.asarray(actual), np.asarray(recorded)
        assert actual.shape == recorded.shape, what
        apart = np.abs(actual - recorded).max(initial=0.0)
        largest = np.abs(recorded).max(initial=0.0)
        assert apart <= tolerance * largest, f"{what}: {actual} is not {recorded}"

    return compare


class Case:
    """One recorded case: its settings and its arrays."""

    def __init__(self, algorithm, recorded, name, arrays):
        self.algorithm, self.config_class = algorithm, CONFIGS[algorithm]
        self.settings = recorded["cases"][name]
        self.terms, self.after = recorded["terms"], recorded["after"]
        self.module_ids = list(self.settings["modules"])
        prefix = f"{name}/"
        self.arrays = {
            key.removeprefix(prefix): array
            for key, array in arrays.items()
            if key.startswith(prefix)
        }

    def training(self, module_id):
        """Returns the training settings of a module."""
        overrides = self.settings["modules"][module_id]["overrides"]
        return self.settings["training"] | overrides

    def is_comparable(self, name, module_id):
        """Returns whether RLlib reports the number that we do.

        The tests of each algorithm hold what differs on purpose.
        """
        training = self.training(module_id)
        if name == "mean_kl_loss":
            return training.get("use_kl_loss", True)
        if name in ("vf_explained_var", "vf_explained_variance"):
            return not self.settings["masked"] and self.settings["steps"] is None
        if name == "last_target_update_ts":
            return training["target_network_update_freq"] > 0
        if name == "logps":
            return self.settings["action"][0] == "box"
        is_sac = self.algorithm == "sac"
        return not is_sac or name not in ("qf_mean", "qf_min", "qf_max")

    def clipping(self, module_id):
        """Returns how gradients are clipped, and in which steps any was."""
        training = self.training(module_id)
        how = training.get("grad_clip_by") if training.get("grad_clip") else None
        before, after = (
            self.arrays[f"{module_id}/{kind}"] for kind in ("gradients", "clipped")
        )
        return how, (before != after).any(axis=1)

    def moves_of_targets(self, module_id):
        """Returns whether target networks "stay", are "copied" or "follow", by update."""
        tau = self.training(module_id)["tau"]
        targets = self.arrays[f"{module_id}/targets"]
        moved = (targets[1:] != targets[:-1]).any(axis=1)
        return np.where(moved, "copied" if tau == 1.0 else "follow", "stay").tolist()

    def batch(self):
        batch = {}
        for key, array in self.arrays.items():
            mid, kind, *path = key.split("/")
            if kind == "batch":
                branch = batch.setdefault(mid, {})
                for name in path[:-1]:
                    branch = branch.setdefault(name, {})
                # States of torch have an axis for layers.
                branch[path[-1]] = array[:, 0] if path[0] == "state_in" else array
        return batch

    def updates(self, learner):
        """Runs the recorded updates; yields results and the number of steps so far."""
        num_steps = 0
        counts = self.settings["steps_per_update"]
        for update, count in zip(self.settings["updates"], counts, strict=True):
            arguments = dict(update)
            now = {"num_env_steps_sampled_lifetime": arguments.pop("timestep")}
            results = learner.update_from_batch(
                self.batch(), timesteps=now, **arguments
            )
            num_steps += count
            yield results, num_steps

    def term(self, name, module_id=DEFAULT_MODULE_ID):
        """Returns a loss term as recorded, at every step."""
        return self.arrays[f"{module_id}/terms"][:, self.terms.index(name)]

    def reported(self, module_id, index, num_steps):
        """Returns {name: number} that an update reported.

        These are the loss terms of its last step, and what follows from them.
        """
        after = self.arrays[f"{module_id}/after"][: index + 1]
        terms = self.arrays[f"{module_id}/terms"][num_steps - 1]
        numbers = dict(zip(self.terms + self.after, [*terms, *after[-1]], strict=True))
        if "num_target_updates" in numbers:
            # RLlib's are of the update alone, NaN in front of the first one.
            column = self.after.index("num_target_updates")
            numbers["num_target_updates"] = np.nansum(after[:, column])
        return {
            RENAMED.get(name, name): x for name, x in numbers.items() if not np.isnan(x)
        }


@pytest.fixture(scope="session")
def recorded_cases(load):
    """Returns a function from the name of an algorithm to {name: case}."""

    @functools.cache
    def cases_of(algorithm):
        recorded, arrays = load(f"{algorithm}.json"), load(f"{algorithm}.npz")
        names = recorded["cases"]
        return {name: Case(algorithm, recorded, name, arrays) for name in names}

    return cases_of


@pytest.fixture(scope="module")
def cases(request, recorded_cases):
    """All cases of the module's `ALGORITHM`, by their names."""
    return recorded_cases(request.module.ALGORITHM)


class Stepping:
    """Makes a learner take plain steps down the gradient.

    Run eagerly it keeps what they consist of.

    Attributes:
        steps: Of each gradient step "gradients", "clipped" and the "weights" after it,
            {parameter reference: array}.
        batches: The batch of each step.
    """

    def build(self):
        self.steps, self.batches = [], []
        super().build()

    def register_optimizer(self, *, optimizer, **kwargs):
        super().register_optimizer(optimizer=keras.optimizers.SGD(), **kwargs)

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        if self.config.run_eagerly:
            self.batches.append(batch)
        return super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )

    def compute_gradients(self, loss_per_module, **kwargs):
        gradients = super().compute_gradients(loss_per_module, **kwargs)
        if self.config.run_eagerly:
            self.steps.append({"gradients": dict(gradients)})
        return gradients

    def postprocess_gradients(self, gradients_dict):
        clipped = super().postprocess_gradients(gradients_dict)
        if self.config.run_eagerly:
            self.steps[-1]["clipped"] = dict(clipped)
        return clipped

    def apply_gradients(self, gradients_dict):
        super().apply_gradients(gradients_dict)
        if self.config.run_eagerly:
            self.steps[-1]["weights"] = {
                self.get_param_ref(p): p.numpy()
                for mid in self.module
                for p in self.parameters_of(mid)
            }

    def parameters_of(self, module_id):
        """Returns the parameters of a module, and what belongs to it, in order."""
        parameters = list(self.get_parameters(self.module[module_id]))
        if hasattr(self, "curr_log_alpha"):
            parameters.append(self.curr_log_alpha[module_id])
        return parameters

    def targets_of(self, module_id):
        """Returns the variables of a module's target networks in order."""
        pairs = self.module[module_id].unwrapped().get_target_network_pairs()
        return [variable for _, target in pairs for variable in target.weights]

    def by_parameter(self, numbers, module_id):
        """Returns the arrays of a module's parameters in order."""
        refs = map(self.get_param_ref, self.parameters_of(module_id))
        return [np.asarray(numbers[ref]) for ref in refs]


@pytest.fixture(scope="session")
def in_our_form():
    """Returns a function from recorded numbers to {RLlib's name: array in our form}."""

    def convert(numbers, parameters):
        ends = np.cumsum([np.prod(shape, dtype=int) for _, shape in parameters])
        parts = np.split(numbers, ends[:-1])
        arrays = {
            # A Linear layer of torch multiplies with its transposed weight; a
            # temperature of ours has no axis.
            name: part[0] if name == "log_alpha" else part.reshape(shape).T
            for (name, shape), part in zip(parameters, parts, strict=True)
        }
        return dict(sorted(arrays.items(), key=lambda item: rank(item[0])))

    def rank(name):
        network = name.removeprefix("_").removeprefix("target_").split(".")[0]
        # Torch puts log standard deviations in front of the layers of their head.
        return ORDER.index(network), name.endswith("log_std")

    return convert


@pytest.fixture(scope="session")
def make_learner(in_our_form):
    """Returns a function that makes a learner as it was recorded.

    It takes the settings of a case, its first weights by module, those of target
    networks if there are any, and how to run.
    """

    def make(settings, weights, targets=None, config_class=PPOConfig, base=None, **how):
        kind, size = settings["action"]
        actions = gym.spaces.Discrete(size)
        if kind == "box":
            actions = gym.spaces.Box(-1.0, 1.0, (size,), np.float32)
        config = own_gammas(config_class)(
            observation_space=OBSERVATIONS, action_space=actions
        )
        base = base or config.get_default_learner_class()
        stepping = type("SteppingLearner", (Stepping, base), {})
        config.rl_module(model_config=DefaultModelConfig(**settings["model"]))
        config.training(**settings["training"], learner_class=stepping)
        config.update_from_dict({"jit_compile": False} | how)
        modules = settings["modules"]
        if [*modules] != [DEFAULT_MODULE_ID]:
            overrides = {mid: own["overrides"] for mid, own in modules.items()}
            config.multi_agent(
                policies=dict.fromkeys(modules),
                algorithm_config_overrides_per_module=overrides,
            )
        learner = config.build_learner()
        for mid, parameters in settings["parameters"].items():
            arrays = in_our_form(weights[mid], parameters)
            arrays.pop("log_alpha", None)  # Follows from the settings.
            assign(learner.get_parameters(learner.module[mid]), arrays)
        for mid, parameters in settings.get("targets", {}).items():
            assign(learner.targets_of(mid), in_our_form(targets[mid], parameters))
        return learner

    def own_gammas(config_class):
        # Ours refuses a gamma for each module, as there is one for what turns episodes
        # into rows. Recorded rows are ready.
        shared = tuple(n for n in config_class.learner_wide if n != "gamma")
        return type(config_class.__name__, (config_class,), {"learner_wide": shared})

    def assign(variables, arrays):
        for variable, array in zip(variables, arrays.values(), strict=True):
            variable.assign(array)

    return make


@pytest.fixture(scope="session")
def assert_masked_rows_are_left_out(assert_parity):
    """Returns a function that compares an update on masked rows with one without them.

    It takes a function that makes a learner, and a batch without a mask.
    """

    def check(make, batch):
        rows = np.arange(len(batch["obs"])) % 3 > 0
        masked = {name: values.copy() for name, values in batch.items()}
        for name, value in (("obs", 9.0), ("new_obs", -9.0), ("rewards", 50.0)):
            masked[name][~rows] = value
        masked["loss_mask"] = rows
        left = {name: values[rows] for name, values in batch.items()}
        learners = [make(), make()]
        for learner, own in zip(learners, (masked, left), strict=True):
            learner.update_from_batch({DEFAULT_MODULE_ID: own})
        all_of_them = zip(*(x.parameters_of(DEFAULT_MODULE_ID) for x in learners))
        for ours, wanted in all_of_them:
            assert_parity(ours.numpy(), wanted.numpy(), wanted.name)

    return check


@pytest.fixture(scope="session")
def start(make_learner):
    """Returns a function from a case, and how to run, to its learner at the start."""

    def make(case, **how):
        first = [
            {
                mid: case.arrays[f"{mid}/{kind}"][0]
                for mid in case.module_ids
                if f"{mid}/{kind}" in case.arrays
            }
            for kind in ("weights", "targets")
        ]
        return make_learner(
            case.settings, *first, config_class=case.config_class, **how
        )

    return make


# Comparisons.


@pytest.fixture(scope="session")
def assert_results(assert_parity):
    """Returns a function that compares what an update reports."""

    def compare(case, index, num_steps, results):
        for mid in case.module_ids:
            for name, recorded in case.reported(mid, index, num_steps).items():
                if not case.is_comparable(name, mid):
                    continue
                # Nothing is reported before the first update of target networks.
                default = {"num_target_updates": 0.0} if recorded == 0.0 else {}
                ours = (default | results[mid])[name]
                if name.startswith("vf_explained"):
                    # Computed as 1 - x; near 0 no digit of x would be left.
                    ours, recorded = 1.0 - ours, 1.0 - recorded
                assert_parity(ours, recorded, f"{name} of {mid} in update {index}")

    return compare


@pytest.fixture(scope="session")
def assert_steps(assert_parity, in_our_form):
    """Returns a function that compares every step a learner took, line by line."""

    def compare(case, learner):
        for index, step in enumerate(learner.steps):
            for mid, parameters in case.settings["parameters"].items():
                for kind in ("gradients", "clipped", "weights"):
                    at = index + (kind == "weights")  # The first are the initial.
                    recorded = in_our_form(case.arrays[f"{mid}/{kind}"][at], parameters)
                    ours = learner.by_parameter(step[kind], mid)
                    for x, (name, y) in zip(ours, recorded.items(), strict=True):
                        assert_parity(x, y, f"{kind} of {mid}'s {name}, step {index}")

    return compare


@pytest.fixture(scope="session")
def assert_state(assert_parity, in_our_form):
    """Returns a function that compares what a learner has become by some updates.

    Weights, those of target networks, and the errors of the last update's rows.
    """

    def compare(case, index, num_steps, learner):
        arrays = case.arrays
        for mid in case.module_ids:
            assert_equal(
                learner.parameters_of(mid),
                arrays[f"{mid}/weights"][num_steps],
                case.settings["parameters"][mid],
                f"{mid} after {num_steps} steps",
            )
            if f"{mid}/targets" in arrays:
                assert_equal(
                    learner.targets_of(mid),
                    arrays[f"{mid}/targets"][index + 1],
                    case.settings["targets"][mid],
                    f"{mid} after update {index}",
                )
            if f"{mid}/td_errors" in arrays:
                (ours,) = learner.row_outputs[mid, "td_error"]
                # RLlib tells errors of masked rows, too.
                rows = arrays.get(f"{mid}/batch/loss_mask", slice(None))
                recorded = arrays[f"{mid}/td_errors"][index]
                what = f"errors of {mid} in update {index}"
                assert_parity(ours[rows], recorded[rows], what)

    def assert_equal(variables, recorded, parameters, what):
        recorded = in_our_form(recorded, parameters)
        for x, (name, y) in zip(variables, recorded.items(), strict=True):
            assert_parity(x.numpy(), y, f"{name} of {what}")

    return compare


@pytest.fixture(scope="session")
def assert_updates(assert_results, assert_state):
    """Returns a function that runs and compares the updates of a case."""

    def compare(case, learner):
        for index, (results, num_steps) in enumerate(case.updates(learner)):
            assert_results(case, index, num_steps, results)
            assert_state(case, index, num_steps, learner)

    return compare
