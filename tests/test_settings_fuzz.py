"""Wrong values for every setting: an error of this library that names it, or it works.

The settings are read off the dataclasses, so that a new one is tried as well.
"""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

from tflearner.algorithms.dqn import DQN, DQNConfig
from tflearner.algorithms.impala import IMPALA, IMPALAConfig
from tflearner.algorithms.marwil import MARWIL, MARWILConfig
from tflearner.algorithms.off_policy import BUFFER_SETTINGS, PRIORITIZED
from tflearner.algorithms.ppo import PPO, PPOConfig
from tflearner.algorithms.sac import SAC, SACConfig
from tflearner.config import AlgorithmConfig
from tflearner.errors import TFLearnerError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.dqn import DQNModelConfig
from tflearner.modules.rl_module_spec import MultiRLModuleSpec, RLModuleSpec
from tflearner.modules.sac import SACModelConfig
from tflearner.stats import Stats
from tflearner.testing import random_episodes

CONFIGS = (
    AlgorithmConfig,
    PPOConfig,
    DQNConfig,
    SACConfig,
    IMPALAConfig,
    MARWILConfig,
)
ALGORITHMS = {
    PPOConfig: (PPO, "CartPole-v1"),
    DQNConfig: (DQN, "CartPole-v1"),
    SACConfig: (SAC, "Pendulum-v1"),
    IMPALAConfig: (IMPALA, "CartPole-v1"),
    MARWILConfig: (MARWIL, "CartPole-v1"),
}
# Errors about two settings at once may name the other one.
PAIRS = {
    "train_batch_size_per_learner": "minibatch_size",
    "learner_class": "learner",
    "n_step": "capacity",
    "v_min": "v_max",
    "framework_str": "framework",
    "strategy": "num_gpus",
    "run_eagerly": "jit_compile",
    "algorithm_config_overrides_per_module": "overrides of module",
}


class Hostile:
    """An object with which nothing can be done, not even to show it."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = object.__hash__

    def __bool__(self):
        raise RuntimeError("no truth")


def wrong_values():
    return {
        "None": None,
        "True": True,
        "3": 3,
        "-1": -1,
        "2.5": 2.5,
        "nan": float("nan"),
        "-inf": float("-inf"),
        "1e400": 10**400,
        "2**70": 2**70,
        "5000 digits": 10**5000,
        "text": "nonsense",
        "no text": "",
        "NUL": "a\0b",
        "long text": "a" * 5000,
        "bytes": b"bytes",
        "list": [],
        "nested": [[0, [1]], None],
        "numbers": [10**400, -1],
        "dict": {},
        "dict of dicts": {"p": {"lr": "x"}, 5: 5},
        "set": {1, "a"},
        "ids": ["p0", "p1"],
        "pair": (-(2**70), 2**70),
        "schedule": [[0, 2**70], [2**70, 1e30]],
        "array": np.array([1.0, 2.0]),
        "scalar array": np.array(1.0),
        "object": object(),
        "hostile": Hostile(),
        "class": int,
        "function": lambda: 1,
        "space": gym.spaces.Text(3),
        "complex": 1j,
    }


VALUES = [*wrong_values()]


def settings_of(config_class):
    return [field.name for field in dataclasses.fields(config_class)]


def raised(call, *args, **kwargs):
    """What a call raises of this library's errors; all others go through."""
    try:
        call(*args, **kwargs)
    except TFLearnerError as error:
        return error
    return None


def digest(config):
    """Which objects a config holds."""
    return {name: id(value) for name, value in config.settings().items()}


def check_names(error, name):
    text = str(error)
    assert name in text or PAIRS.get(name, name) in text, text


@pytest.mark.parametrize("config_class", CONFIGS)
def test_wrong_values_are_refused_by_name_and_change_nothing(config_class):
    for name in settings_of(config_class):
        for value in wrong_values().values():
            config = config_class()
            before = digest(config)
            error = raised(config.update_from_dict, {name: value})
            if error is not None:
                check_names(error, name)
                assert digest(config) == before
            # As an attribute, past the methods of the sections.
            setattr(config, name, value)
            before = digest(config)
            error = raised(config.validate)
            if error is not None:
                check_names(error, name)
            assert digest(config) == before


@pytest.mark.parametrize("config_class", CONFIGS)
def test_wrong_values_for_one_module_are_refused_by_name(config_class):
    for name in settings_of(config_class):
        for value in wrong_values().values():
            config = config_class()
            overrides = {"algorithm_config_overrides_per_module": {"p0": {name: value}}}
            assert raised(config.multi_agent, **overrides) is None
            error = raised(config.validate)
            if error is not None:
                check_names(error, name)


def test_what_is_refused_leaves_all_settings_as_they_are():
    for call in (
        lambda c: c.update_from_dict({"gamma": 0.5, "policies": None}),
        lambda c: c.rl_module(algorithm_config_overrides_per_module=5),
        lambda c: c.rl_module(algorithm_config_overrides_per_module={}, mdel=None),
        lambda c: c.rl_module(
            algorithm_config_overrides_per_module={"p": {"lr": 1.0}}, mdel=None
        ),
        lambda c: c.multi_agent(policies=["a", 5], policies_to_train=["a"]),
        lambda c: c.update_from_dict(5),
        lambda c: c.update_from_dict({5: 5}),
    ):
        config = PPOConfig()
        before = digest(config)
        assert raised(call, config) is not None
        assert digest(config) == before


@pytest.mark.parametrize(
    "config_class", [DefaultModelConfig, DQNModelConfig, SACModelConfig]
)
def test_wrong_settings_of_networks_are_refused_by_name(config_class):
    for name in settings_of(config_class):
        for value in wrong_values().values():
            error = raised(config_class.make, {name: value})
            if error is not None:
                check_names(error, name)
    for value in wrong_values().values():
        raised(config_class.make, value)


def test_wrong_settings_of_buffers_are_refused_by_name():
    for name in (*BUFFER_SETTINGS[PRIORITIZED], "type"):
        for value in wrong_values().values():
            config = DQNConfig()
            assert raised(config.training, replay_buffer_config={name: value}) is None
            error = raised(config.validate)
            if error is not None:
                check_names(error, name)


SPEC = RLModuleSpec(
    observation_space=gym.spaces.Box(-1, 1, (3,), np.float32),
    action_space=gym.spaces.Discrete(2),
)


def built(spec):
    return PPOConfig().rl_module(rl_module_spec=spec).get_multi_rl_module_spec().build()


@pytest.mark.parametrize("value", VALUES)
def test_wrong_parts_of_specifications_are_refused(value):
    value = wrong_values()[value]
    for part in dataclasses.fields(RLModuleSpec):
        raised(built, dataclasses.replace(SPEC, **{part.name: value}))
    for part in dataclasses.fields(MultiRLModuleSpec):
        raised(MultiRLModuleSpec, **{part.name: value})
        made = MultiRLModuleSpec(rl_module_specs={"p0": SPEC})
        setattr(made, part.name, value)
        raised(built, made)
    for call in (
        dataclasses.replace(SPEC).update,
        MultiRLModuleSpec({"p0": SPEC}).update,
        MultiRLModuleSpec({"p0": SPEC}).add_modules,
        MultiRLModuleSpec({"p0": SPEC}).remove_modules,
        MultiRLModuleSpec({"p0": SPEC}).__getitem__,
        lambda value: MultiRLModuleSpec({"p0": SPEC}).add_modules({"p0": value}),
        lambda value: MultiRLModuleSpec({"p0": SPEC}).build(seed=value),
        lambda value: PPOConfig().get_rl_module_spec(env=value),
        lambda value: PPOConfig().get_rl_module_spec(spaces=value),
        lambda value: PPOConfig().get_multi_rl_module_spec(spaces=value),
        lambda value: PPOConfig().build_learner(env=value),
        lambda value: PPOConfig().build_learner(spaces=value),
        PPOConfig().update_from_dict,
        PPOConfig().framework,
        lambda value: PPO(config=value),
    ):
        raised(call, value)


@pytest.mark.parametrize("value", VALUES)
def test_wrong_settings_of_metrics_are_refused(value):
    value = wrong_values()[value]
    for name in ("reduce", "window", "ema_coeff"):
        raised(Stats, **{name: value})
    for reduce in ("mean", "sum", "min", "max"):
        stats = Stats(1.0, reduce=reduce)
        if raised(stats.push, value) is None:
            stats.push(2.0)
            assert isinstance(stats.peek(), int | float)


def tiny(config_class):
    """Settings with which a first `train()` takes a moment."""
    env = ALGORITHMS[config_class][1]
    config = config_class().environment(env).framework(run_eagerly=True)
    config.rl_module(model_config={"fcnet_hiddens": [4]})
    if config_class is PPOConfig:
        size = {"train_batch_size_per_learner": 16, "minibatch_size": 8}
        return config.training(num_epochs=1, **size)
    if config_class is IMPALAConfig:
        config.env_runners(rollout_fragment_length=8)
        return config.training(train_batch_size_per_learner=16)
    if config_class is MARWILConfig:
        box = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
        config.offline_data(data=random_episodes(box, gym.spaces.Discrete(2)))
        return config.training(train_batch_size_per_learner=8)
    config.training(
        train_batch_size_per_learner=4,
        training_intensity=None,
        num_steps_sampled_before_learning_starts=8,
        replay_buffer_config={"capacity": 100},
    )
    return config.reporting(min_sample_timesteps_per_iteration=32)


def try_out(config):
    """Builds and trains; stops what was built."""
    made = []
    try:
        raised(lambda: made.append(config.build_algo()) or made[0].train())
    finally:
        for algo in made:
            algo.stop()


TIERS = [
    pytest.param(
        config_class,
        marks=pytest.mark.slow
        if config_class in (IMPALAConfig, MARWILConfig)
        else pytest.mark.deep,
    )
    for config_class in ALGORITHMS
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("config_class", TIERS)
def test_what_is_accepted_trains_or_ends_in_an_error_of_this_library(
    config_class, value, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_XLA_FLAGS", "")  # `compile_cache` sets it.
    wrong = {}
    for name in settings_of(config_class):
        config = tiny(config_class)
        refused = raised(config.update_from_dict, {name: wrong_values()[value]})
        if refused or raised(config.validate):
            continue
        try:
            try_out(config)
        except Exception as error:  # noqa: BLE001 - All of them are listed.
            wrong[name] = error
    assert wrong == {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config_class", TIERS)
def test_networks_that_are_accepted_train_or_end_in_an_error(config_class):
    wrong = {}
    for part in dataclasses.fields(DefaultModelConfig):
        for kind, value in wrong_values().items():
            settings = {"fcnet_hiddens": [4], part.name: value}
            if raised(DefaultModelConfig.make, settings):
                continue
            try:
                try_out(tiny(config_class).rl_module(model_config=settings))
            except Exception as error:  # noqa: BLE001 - All of them are listed.
                wrong[part.name, kind] = error
    assert wrong == {}
