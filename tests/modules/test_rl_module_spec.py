"""Tests for `tflearner.modules.rl_module_spec`."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.algorithms.ppo import PPOConfig
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import ModuleBuildError, ModuleError, UnknownModuleError
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
def test_spec_of_a_built_module_has_the_settings_it_was_given(model_config):
    spec = make(model_config=model_config)
    assert RLModuleSpec.from_module(spec.build()) == spec
    assert spec.model_config == model_config


@pytest.mark.parametrize("name", ["module_class", "observation_space"])
def test_missing_part_is_named(name):
    with pytest.raises(ModuleError, match=f"got None, want a {name}"):
        make(**{name: None}).build()


def test_error_in_setup_comes_with_its_cause():
    class Broken(PPOTfRLModule):
        def setup(self):
            raise AttributeError("my own mistake")

    with pytest.raises(ModuleBuildError, match="Broken.*my own mistake") as caught:
        make(module_class=Broken).build()
    assert isinstance(caught.value.__cause__, AttributeError)


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


# Taking over parts of another one.

THREE, FIVE = gym.spaces.Discrete(3), gym.spaces.Discrete(5)


def test_parts_of_another_spec_replace_own_ones():
    spec = make()
    spec.update(RLModuleSpec(action_space=THREE, model_config={"fcnet_hiddens": (9,)}))
    assert spec == make(action_space=THREE, model_config={"fcnet_hiddens": (9,)})


def test_only_missing_parts_are_taken_without_override():
    spec = make(action_space=None)
    other = make(action_space=THREE, catalog_class=OwnCatalog, model_config={})
    spec.update(other, override=False)
    assert spec == make(action_space=THREE, catalog_class=OwnCatalog)


def test_the_other_spec_stays_as_it_is():
    other = RLModuleSpec(action_space=THREE)
    make().update(other)
    make().update(other, override=False)
    assert other == RLModuleSpec(action_space=THREE)


def test_several_specs_take_over_those_of_their_ids():
    spec = MultiRLModuleSpec({"p0": make(), "p1": make()})
    other = MultiRLModuleSpec(
        {"p1": RLModuleSpec(action_space=THREE), "p2": make(action_space=FIVE)},
        OwnMulti,
    )
    spec.update(other)
    assert spec.rl_module_specs == {
        "p0": make(),
        "p1": make(action_space=THREE),
        "p2": make(action_space=FIVE),
    }
    assert spec.multi_rl_module_class is MultiRLModule  # As in RLlib.
    assert other["p1"] == RLModuleSpec(action_space=THREE)


def test_several_specs_replace_those_of_their_ids_with_override():
    other = MultiRLModuleSpec({"p1": RLModuleSpec(action_space=THREE)})
    spec = MultiRLModuleSpec({"p0": make(), "p1": make()})
    spec.update(other, override=True)
    assert spec.rl_module_specs == {
        "p0": make(),
        "p1": RLModuleSpec(action_space=THREE),
    }


@pytest.mark.parametrize("override", [False, True])
def test_a_single_spec_completes_all(override):
    given = {"p0": make(action_space=None), "p1": make(action_space=FIVE)}
    spec = MultiRLModuleSpec(given)
    spec.update(
        RLModuleSpec(action_space=THREE, catalog_class=OwnCatalog), override=override
    )
    assert spec.rl_module_specs == {
        "p0": make(action_space=THREE, catalog_class=OwnCatalog),
        "p1": make(action_space=FIVE, catalog_class=OwnCatalog),
    }
    assert given["p0"] == make(action_space=None)  # Not the caller's.


def test_what_is_no_spec_is_refused_and_changes_nothing():
    spec = MultiRLModuleSpec({"p0": make()})
    for call in (
        lambda: spec.update(None),
        lambda: spec.add_modules({"p1": make(), "p2": PPOTfRLModule}),
    ):
        with pytest.raises(ModuleError, match="an RLModuleSpec"):
            call()
    assert spec.rl_module_specs == {"p0": make()}


# Adding and removing.


def test_specs_are_added_and_replaced():
    given = {"p0": make()}
    spec = MultiRLModuleSpec(given)
    new = {"p0": make(action_space=THREE), "p1": make()}
    spec.add_modules(new)
    assert spec.rl_module_specs == new and [*given] == ["p0"]
    assert [*spec.build()] == ["p0", "p1"]


def test_specs_are_updated_without_override():
    spec = MultiRLModuleSpec({"p0": make(action_space=None)})
    spec.add_modules({"p0": make(action_space=THREE), "p1": make()}, override=False)
    assert spec["p0"] == make(action_space=THREE) and spec["p1"] == make()
    spec.add_modules({"p0": RLModuleSpec(action_space=FIVE)}, override=False)
    assert spec["p0"] == make(action_space=FIVE)


def test_specs_are_removed():
    given = {"p0": make(), "p1": make(), "p2": make()}
    spec = MultiRLModuleSpec(given)
    spec.remove_modules(["p0", "p2"])
    assert [*spec.rl_module_specs] == ["p1"] and len(given) == 3


@pytest.mark.parametrize("ids", [["p0", "p7"], ["p7"], {"p7"}])
def test_unknown_specs_are_not_removed_nor_any_other(ids):
    spec = MultiRLModuleSpec({"p0": make(), "p1": make()})
    with pytest.raises(UnknownModuleError, match=r"'p7'.*one of \['p0', 'p1'\]"):
        spec.remove_modules(ids)
    assert [*spec.rl_module_specs] == ["p0", "p1"]


def test_an_id_alone_is_one_id():
    spec = MultiRLModuleSpec({"a": make(), "b": make(), "ab": make()})
    spec.remove_modules("ab")
    assert [*spec.rl_module_specs] == ["a", "b"]


# As dicts.


@pytest.mark.parametrize(
    "spec",
    [
        RLModuleSpec(),
        make(inference_only=True, catalog_class=OwnCatalog),
        MultiRLModuleSpec(),
        MultiRLModuleSpec({"p0": make(), "p1": RLModuleSpec()}, OwnMulti, OBS, ACT),
        MultiRLModuleSpec(make(), action_space=THREE),
    ],
    ids=["empty", "one", "none", "several", "one for all"],
)
def test_parts_make_the_spec_again(spec):
    parts = spec.to_dict()
    rebuilt = type(spec).from_dict(parts)
    assert rebuilt == spec and rebuilt is not spec
    assert rebuilt.to_dict() == parts


def test_parts_are_the_live_objects_in_a_dict_of_its_own():
    spec = make()
    parts = spec.to_dict()
    assert parts["model_config"] is spec.model_config
    assert parts["observation_space"] is OBS
    parts["observation_space"] = None
    assert spec.observation_space is OBS
    several = MultiRLModuleSpec({"p0": spec})
    several.to_dict()["rl_module_specs"].clear()
    assert "p0" in several


def test_unknown_parts_are_refused():
    with pytest.raises(TypeError, match="model_confg"):
        RLModuleSpec.from_dict({"model_confg": {}})


# One specification for all modules.


def test_one_spec_is_that_of_every_id():
    spec = MultiRLModuleSpec(make())
    assert spec["p0"] is spec["anything"] is spec.rl_module_specs


def test_one_spec_builds_nothing_before_ids_are_known():
    spec = MultiRLModuleSpec(make())
    for call in (spec.build, lambda: spec.add_modules({"p0": make()})):
        with pytest.raises(ModuleError, match=r"ids are not known.*policies=\[...\]"):
            call()


def test_one_spec_builds_every_module_of_a_config_on_its_own():
    config = PPOConfig(observation_space=OBS, action_space=ACT)
    config.rl_module(rl_module_spec=MultiRLModuleSpec(make(), OwnMulti))
    config.multi_agent(policies=["p0", "p1"])
    multi = config.get_multi_rl_module_spec().build(seed=1)
    assert type(multi) is OwnMulti and [*multi] == ["p0", "p1"]
    assert (kernel(multi["p0"]) != kernel(multi["p1"])).any()
    assert multi["p0"].weights[0] is not multi["p1"].weights[0]


def test_spaces_of_all_are_for_modules_that_name_none():
    bare = make(observation_space=None, action_space=None)
    spec = MultiRLModuleSpec(
        {"p0": bare, "p1": make(observation_space=THREE)},
        observation_space=OBS,
        action_space=FIVE,
    )
    multi = spec.build()
    assert multi["p0"].observation_space == OBS and multi["p0"].action_space == FIVE
    assert multi["p1"].observation_space == THREE
    assert multi["p1"].action_space == ACT
    assert bare.observation_space is None


@pytest.mark.parametrize(
    ("flags", "wanted"), [([], False), ([True, True], True), ([True, False], False)]
)
def test_all_are_for_acting_or_not(flags, wanted):
    specs = {f"p{i}": make(inference_only=flag) for i, flag in enumerate(flags)}
    assert MultiRLModuleSpec(specs).inference_only is wanted


def test_a_module_for_acting_stays_one_when_parts_of_it_change():
    spec = make(inference_only=True, learner_only=True)
    spec.update(RLModuleSpec(model_config={"fcnet_hiddens": [3]}))
    assert spec.inference_only and not spec.learner_only
    assert spec.model_config == {"fcnet_hiddens": [3]}
