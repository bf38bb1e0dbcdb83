"""Tests for `tflearner.modules.rl_module_spec`."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import ModuleError
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module import MultiRLModule
from tflearner.modules.rl_module_spec import MultiRLModuleSpec, RLModuleSpec

OBS, ACT = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(2)


class OwnCatalog(PPOCatalog):
    pass


class OwnMulti(MultiRLModule):
    pass


def make(**changes):
    settings = {
        "module_class": PPOTfRLModule,
        "observation_space": OBS,
        "action_space": ACT,
        "model_config": DefaultModelConfig(fcnet_hiddens=(4,)),
    }
    return RLModuleSpec(**settings | changes)


def kernel(module):
    return module.weights[0].numpy()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"inference_only": True, "learner_only": True},
        {"catalog_class": OwnCatalog},
        {"observation_space": gym.spaces.Discrete(3, start=1)},
    ],
)
def test_spec_of_a_built_module_is_the_spec(changes):
    spec = make(**changes)
    assert RLModuleSpec.from_module(spec.build()) == spec


@pytest.mark.parametrize("model_config", [None, {"fcnet_hiddens": (4,)}])
def test_spec_of_a_built_module_has_its_defaults_made_explicit(model_config):
    spec = make(model_config=model_config)
    want = make(model_config=DefaultModelConfig.make(model_config))
    assert RLModuleSpec.from_module(spec.build()) == want
    assert spec.model_config == model_config


@pytest.mark.parametrize("name", ["module_class", "observation_space"])
def test_missing_part_is_named(name):
    with pytest.raises(ModuleError, match=f"got None, want a {name}"):
        make(**{name: None}).build()


def test_error_in_setup_is_the_users_own():
    class Broken(PPOTfRLModule):
        def setup(self):
            raise AttributeError("my own mistake")

    with pytest.raises(AttributeError, match="my own mistake"):
        make(module_class=Broken).build()


def test_missing_parts_come_from_defaults():
    spec = RLModuleSpec(action_space=gym.spaces.Discrete(3))
    full = spec.with_defaults(make(inference_only=True))
    assert full == make(action_space=gym.spaces.Discrete(3))
    assert spec.module_class is None


def test_build_takes_a_seed():
    first, same, other = (kernel(make().build(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_a_spec_becomes_the_default_one_of_several():
    multi = make().as_multi_rl_module_spec()
    assert multi.rl_module_specs == {DEFAULT_MODULE_ID: make()}
    assert multi.as_multi_rl_module_spec() is multi


def test_several_modules():
    specs = {"p0": make(), "p1": make(observation_space=gym.spaces.Discrete(6))}
    spec = MultiRLModuleSpec(specs, OwnMulti)
    multi = spec.build()
    assert type(multi) is OwnMulti and list(multi) == ["p0", "p1"]
    assert kernel(multi["p1"]).shape == (6, 4)
    assert MultiRLModuleSpec.from_module(multi) == spec
    assert spec["p1"] is specs["p1"] and "p0" in spec and "p2" not in spec


def test_spec_of_one_module_is_that_of_the_default_module():
    module = make().build()
    assert MultiRLModuleSpec.from_module(module) == make().as_multi_rl_module_spec()


def test_modules_of_one_spec_start_differently_and_repeat():
    spec = MultiRLModuleSpec({"p0": make(), "p1": make()})
    multi, again, other = spec.build(seed=1), spec.build(seed=1), spec.build(seed=2)
    for module_id in spec.rl_module_specs:
        np.testing.assert_array_equal(
            kernel(multi[module_id]), kernel(again[module_id])
        )
        assert (kernel(multi[module_id]) != kernel(other[module_id])).any()
    assert (kernel(multi["p0"]) != kernel(multi["p1"])).any()
