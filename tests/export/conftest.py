"""The table of policies that are exported, and what an environment runner does."""

import dataclasses
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
import tree

from tflearner.algorithms.dqn import DQNConfig
from tflearner.algorithms.ppo import PPOConfig
from tflearner.algorithms.sac import SACConfig
from tflearner.columns import Columns
from tflearner.connectors.observations import MeanStdFilter
from tflearner.connectors.pipeline import EnvToModulePipeline
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules import acting, inference
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.spaces.mask_spaces import ACTION_MASK

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
VECTOR = Box(np.array([-1, -np.inf, 0, -np.inf], np.float32), np.inf, (4,), np.float32)
IMAGE = Box(0, 255, (10, 10, 1), np.uint8)
BOUNDED = Box(np.float32([-2.0, 0.0]), np.float32([3.0, 0.1]), (2,), np.float32)
NUM = 16


class Linear(TfRLModule):
    """Has `_forward` only, and no value function."""

    def setup(self):
        self.policy = keras.layers.Dense(
            int(self.action_space.n),
            kernel_initializer=keras.initializers.GlorotUniform(seed=4),
        )

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}


class Chooses(TfRLModule):
    """Takes nested observations, and puts out actions itself."""

    def setup(self):
        self.dense = keras.layers.Dense(
            3, kernel_initializer=keras.initializers.GlorotUniform(seed=4)
        )

    def _forward(self, batch, **kwargs):
        numbers, choice = batch[Columns.OBS]["numbers"], batch[Columns.OBS]["choice"]
        return {Columns.ACTIONS: tf.argmax(self.dense(numbers), -1) + choice}


def residual():
    """Returns a Keras model with a branch, and with Dropout that has to be off."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(4, activation="gelu")(inputs)
    hidden = keras.layers.Dropout(0.5)(hidden)
    return keras.Model(inputs, keras.layers.Add()([hidden, inputs]))


class Imitates(TfLearner):
    """A learner of modules without a value function."""

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        dist_class = self.module[module_id].get_train_action_dist_cls()
        dist = dist_class.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        return -tf.reduce_mean(dist.logp(batch[Columns.ACTIONS]))


@dataclasses.dataclass
class Kind:
    """One row: spaces, and a module class or settings of the default module."""

    observations: Any
    actions: Any
    settings: dict = dataclasses.field(default_factory=dict)
    module_class: type | None = None
    normalized: bool = False
    config_class: type = PPOConfig
    training: dict = dataclasses.field(default_factory=dict)

    def make(self) -> "Made":
        spaces = {
            "observation_space": self.observations,
            "action_space": self.actions,
        }
        config = self.config_class().environment(**spaces).debugging(seed=1)
        config.training(**self.training)
        env_to_module = None
        if self.normalized:
            piece = MeanStdFilter(self.observations, self.actions)
            rng = np.random.default_rng(0)
            seen = rng.normal(3.0, 5.0, (100, 4)).astype(np.float32)
            piece(batch={Columns.OBS: seen}, explore=True)
            env_to_module = EnvToModulePipeline([piece], *spaces.values())
        if self.config_class is not PPOConfig:
            config.rl_module(model_config={"fcnet_hiddens": [8]} | self.settings)
            learner = config.build_learner()
        elif self.module_class is None:
            settings = {"fcnet_hiddens": [8], "lstm_cell_size": 8} | self.settings
            config.rl_module(model_config=DefaultModelConfig(**settings))
            learner = config.build_learner()
        else:
            spec = RLModuleSpec(module_class=self.module_class, **spaces)
            learner = Imitates(config=config, module_spec=spec)
            learner.build()
        _shake(learner.module["default_policy"])
        return Made(learner, env_to_module)


def _shake(module):
    """Moves all weights from where they start, so that none is left at zero."""
    rng = np.random.default_rng(2)
    for weight in module.weights:
        weight.assign_add(rng.uniform(-0.5, 0.5, weight.shape).astype(np.float32))
    if hasattr(module, "epsilon"):
        module.epsilon.assign(0.3)


@dataclasses.dataclass
class Made:
    """A learner, and the pipeline in front of its module."""

    learner: Any
    env_to_module: Any

    @property
    def module(self):
        return self.learner.module["default_policy"].unwrapped()

    def export(self, path, **settings):
        return self.learner.export(path, env_to_module=self.env_to_module, **settings)

    def observations(self, num=NUM, seed=3):
        """Returns raw observations: random, and those of the default space normal."""
        rng = np.random.default_rng(seed)
        space = self.module.observation_space
        if isinstance(space, gym.spaces.Dict) and ACTION_MASK in space.spaces:
            mask = rng.integers(2, size=(num, 3)).astype(np.int8)
            mask[:, 1] |= ~mask.any(-1)
            numbers = rng.normal(0.0, 4.0, (num, 4)).astype(np.float32)
            return {ACTION_MASK: mask, "observations": numbers}
        if isinstance(space, gym.spaces.Dict):
            numbers = rng.normal(size=(num, 4)).astype(np.float32)
            return {"numbers": numbers, "choice": rng.integers(4, size=num)}
        if isinstance(space, Discrete):
            return rng.integers(space.n, size=num) + space.start
        if space.dtype == np.uint8:
            brightness = rng.random((num, 1, 1, 1))
            return (rng.integers(0, 256, (num, *space.shape)) * brightness).astype("u1")
        return rng.normal(0.0, 4.0, (num, *space.shape)).astype(np.float32)

    def initial_state(self, num=NUM):
        return tree.map_structure(
            lambda x: np.repeat(x[None], num, 0), self.module.get_initial_state()
        )

    def act(self, obs, state=None, rng_seed=None):
        """Returns the environment's actions and the next state, as a runner gets them.

        Args:
            obs: Raw observations.
            state: Of a module with a state.
            rng_seed: Where the random numbers start; `None` acts greedily.
        """
        batch = self._batch(obs, state)
        make = acting.make_actor if rng_seed is None else inference.TracedActor
        rng = np.random.default_rng(rng_seed)
        explore = rng_seed is not None
        outputs = make(self.module)(batch, explore=explore, rng=rng)
        outputs = self.learner.config.build_module_to_env_connector(
            self.module.observation_space, self.module.action_space
        )(
            rl_module=self.module,
            batch=outputs,
            episodes=[],
            explore=explore,
            shared_data={"rng": rng},
        )
        actions = outputs.get(Columns.ACTIONS_FOR_ENV, outputs[Columns.ACTIONS])
        return actions, outputs.get(Columns.STATE_OUT)

    @staticmethod
    def seed_of(rng_seed):
        """Returns the seed that a `TracedActor` draws from a generator. int32 [2]."""
        return np.random.default_rng(rng_seed).integers(2**31, size=2, dtype=np.int32)

    @property
    def has_values(self):
        return isinstance(self.module, ValueFunctionAPI)

    def values(self, obs, state=None):
        batch = self._batch(obs, state)
        if state is None:
            return inference.value_function_of(self.module)(batch)
        batch[Columns.OBS] = batch[Columns.OBS][:, None]
        return inference.value_function_of(self.module)(batch)[:, 0]

    def _batch(self, obs, state):
        batch = {Columns.OBS: obs}
        if self.env_to_module is not None:
            batch = self.env_to_module(
                rl_module=self.module, batch=batch, episodes=[], explore=False
            )
        return batch if state is None else batch | {Columns.STATE_IN: state}


KINDS = {
    "discrete": Kind(VECTOR, Discrete(3, start=2)),
    "continuous": Kind(VECTOR, BOUNDED, {"free_log_std": True}),
    "image": Kind(
        IMAGE, Discrete(3), {"conv_filters": [[4, 4, 2]], "fcnet_hiddens": []}
    ),
    "lstm": Kind(VECTOR, Discrete(3), {"use_lstm": True}),
    "gru": Kind(VECTOR, BOUNDED, {"use_gru": True, "vf_share_layers": False}),
    "own-model": Kind(VECTOR, Discrete(3), {"model": residual}),
    "normalized": Kind(VECTOR, Discrete(3), normalized=True),
    "linear": Kind(VECTOR, Discrete(3), module_class=Linear),
    "chooses": Kind(
        gym.spaces.Dict(numbers=VECTOR, choice=Discrete(4)),
        Discrete(6),
        module_class=Chooses,
    ),
    "dqn": Kind(VECTOR, Discrete(3, start=2), config_class=DQNConfig),
    "dqn-atoms": Kind(
        IMAGE,
        Discrete(3),
        {"conv_filters": [[4, 4, 2]]},
        config_class=DQNConfig,
        training={"num_atoms": 5, "dueling": False},
    ),
    "dqn-masked": Kind(
        gym.spaces.Dict(
            {ACTION_MASK: gym.spaces.MultiBinary(3), "observations": VECTOR}
        ),
        Discrete(3),
        config_class=DQNConfig,
    ),
    "sac": Kind(VECTOR, BOUNDED, config_class=SACConfig),
    "sac-discrete": Kind(VECTOR, Discrete(3), config_class=SACConfig),
}


PLAIN = ("lstm",)
PARAMS = [
    pytest.param(name, marks=() if name in PLAIN else pytest.mark.deep)
    for name in KINDS
]


@pytest.fixture(params=PARAMS)
def kind(request):
    """The name of each kind in turn."""
    return request.param


class Lazy(dict):
    """A value for each kind, made when it is asked for first.

    Args:
        make: Function of a kind's name returning the value.
    """

    def __init__(self, make):
        super().__init__()
        self._make = make

    def __missing__(self, key):
        self[key] = self._make(key)
        return self[key]

    def items(self):
        """Returns all pairs, which makes all values."""
        return [(name, self[name]) for name in KINDS]


@pytest.fixture(scope="session")
def kinds():
    """Every kind, made once: {name: Made}."""
    return Lazy(lambda name: KINDS[name].make())


@pytest.fixture(scope="session")
def exported(kinds, tmp_path_factory):
    """Every kind as SavedModel, written once: {name: (path, report)}."""
    root = tmp_path_factory.mktemp("exports")
    return Lazy(lambda name: (root / name, kinds[name].export(root / name)))
