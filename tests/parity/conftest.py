"""What the tests of parity share: the recordings, and how near is near enough."""

import json
import pathlib

import gymnasium as gym
import keras
import numpy as np
import pytest

from tflearner.algorithms.ppo import PPOConfig, PPOTfLearner
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module_spec import RLModuleSpec

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


class SteppingLearner(PPOTfLearner):
    """Takes plain steps down the gradient; run eagerly it keeps what they consist of.

    Attributes:
        steps: Of each gradient step "gradients", "clipped" and the "weights" after it,
            {parameter reference: array}.
        batches: The batch of each step.
    """

    def build(self):
        self.steps, self.batches = [], []
        super().build()

    def configure_optimizers_for_module(self, module_id, config=None):
        config = config or self.config.get_config_for_module(module_id)
        params = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=keras.optimizers.SGD(),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

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
                for p in self.get_parameters(self.module)
            }

    def by_parameter(self, numbers, module_id):
        """Returns the arrays of a module's parameters in order."""
        params = self.get_parameters(self.module[module_id])
        return [np.asarray(numbers[self.get_param_ref(p)]) for p in params]


@pytest.fixture(scope="session")
def in_our_form():
    """Returns a function from recorded numbers to {RLlib's name: array in our form}."""

    def convert(numbers, parameters):
        ends = np.cumsum([np.prod(shape, dtype=int) for _, shape in parameters])
        parts = np.split(numbers, ends[:-1])
        arrays = {
            # A Linear layer of torch multiplies with its transposed weight.
            name: part.reshape(shape).T
            for (name, shape), part in zip(parameters, parts, strict=True)
        }
        return dict(sorted(arrays.items(), key=lambda item: rank(item[0])))

    def rank(name):
        # Torch puts log standard deviations in front of the layers of their head.
        return name.startswith("vf."), name.endswith("log_std")

    return convert


@pytest.fixture(scope="session")
def make_learner(in_our_form):
    """Returns a function that makes a learner as it was recorded.

    It takes the settings of a case, its first weights by module, and how to run.
    """

    def make(settings, weights, **how):
        spec = RLModuleSpec(
            module_class=PPOTfRLModule,
            model_config=DefaultModelConfig(**settings["model"]),
        )
        kind, size = settings["action"]
        actions = gym.spaces.Discrete(size)
        if kind == "box":
            actions = gym.spaces.Box(-1.0, 1.0, (size,), np.float32)
        config = PPOConfig(observation_space=OBSERVATIONS, action_space=actions)
        config.rl_module(rl_module_spec=spec)
        config.training(**settings["training"], learner_class=SteppingLearner)
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
            arrays = in_our_form(weights[mid], parameters).values()
            keys = learner.module[mid].get_state()
            learner.module[mid].set_state(dict(zip(keys, arrays, strict=True)))
        return learner

    return make
