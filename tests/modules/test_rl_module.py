"""Tests for `tflearner.modules.rl_module`."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import ModuleError, SpaceError, UnknownModuleError
from tflearner.modules.rl_module import (
    MultiRLModule,
    RLModule,
    action_dist_class,
    validate_module_id,
)
from tflearner.networks.distributions import Categorical, DiagGaussian

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete


class Fake(RLModule):
    """Adds its one weight to the observations."""

    def setup(self):
        self.num_setups = getattr(self, "num_setups", 0) + 1
        self.weight = 0.0

    def _forward(self, batch, scale=1.0, **kwargs):
        return {"out": scale * (batch["obs"] + self.weight)}

    def check_state(self, state):
        if set(state) != {"weight"}:
            raise ModuleError("Fake.set_state()", str(sorted(state)), "weight")

    def get_state(self, components=None, *, not_components=None):
        return {"weight": self.weight}

    def set_state(self, state):
        self.weight = state["weight"]


class Stateful(Fake):
    def get_initial_state(self):
        return {"h": np.zeros(2)}


@pytest.fixture
def multi():
    return MultiRLModule({"p0": Fake(), "p1": Fake()})


# One module.


def test_setup_is_called_once():
    assert Fake().num_setups == 1


def test_settings_are_attributes():
    module = Fake(
        Discrete(2),
        Box(-1, 1, (3,)),
        inference_only=True,
        learner_only=True,
        model_config={"fcnet_hiddens": (7,)},
        seed=5,
    )
    assert module.observation_space == Discrete(2)
    assert module.action_space == Box(-1, 1, (3,))
    assert module.inference_only and module.learner_only and module.seed == 5
    assert module.model_config == {"fcnet_hiddens": (7,)}


def test_own_model_settings_are_the_modules_business():
    assert Fake(model_config={"my_setting": 3}).model_config["my_setting"] == 3
    assert Fake().model_config == {}


def test_setup_cannot_be_called_again():
    with pytest.raises(RuntimeError, match=r"Fake.setup\(\) was called"):
        Fake().setup()


@pytest.mark.parametrize("mode", ["inference", "exploration", "train"])
def test_each_forward_pass_falls_back_on_forward(mode):
    module = Fake()
    forward = getattr(module, f"forward_{mode}")
    assert forward({"obs": 2.0}, scale=3.0) == {"out": 6.0}
    setattr(module, f"_forward_{mode}", lambda batch: {"own": mode})
    assert forward({}) == {"own": mode}
    assert sum("own" in f({"obs": 0}) for f in all_forwards(module)) == 1


def all_forwards(module):
    return module.forward_inference, module.forward_exploration, module.forward_train


def test_module_for_acting_refuses_to_train():
    module = Fake(inference_only=True)
    with pytest.raises(RuntimeError, match="Fake was built with inference_only=True"):
        module.forward_train({"obs": 1.0})
    assert module.forward_inference({"obs": 1.0}) == {"out": 1.0}


@pytest.mark.parametrize(
    ("space", "want"), [(Discrete(2), Categorical), (Box(-1, 1, ()), DiagGaussian)]
)
def test_action_distributions_follow_the_space(space, want):
    module = Fake(action_space=space)
    for mode in ("train", "exploration", "inference"):
        assert getattr(module, f"get_{mode}_action_dist_cls")() is want


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (gym.spaces.Text(3), "action space: got Text"),
        (gym.spaces.Dict({"arm": gym.spaces.Text(3)}), "leaf 'arm': got Text"),
        (None, "action space: got None"),
    ],
)
def test_unsupported_action_space_is_named(space, name):
    with pytest.raises(SpaceError, match=f"{name}.*want Discrete, Box, Multi"):
        action_dist_class(space)


def test_state_from_step_to_step():
    assert not Fake().is_stateful() and Stateful().is_stateful()
    assert MultiRLModule({"a": Fake(), "b": Stateful()}).is_stateful()


def test_a_module_becomes_the_default_one_of_several():
    module = Fake()
    multi = module.as_multi_rl_module()
    assert list(multi) == [DEFAULT_MODULE_ID] and multi[DEFAULT_MODULE_ID] is module
    assert multi.as_multi_rl_module() is multi
    assert module.unwrapped() is module


# Several modules.


def test_mapping(multi):
    assert len(multi) == 2 and list(multi) == list(multi.keys()) == ["p0", "p1"]
    assert "p0" in multi and "p2" not in multi and None not in multi
    assert list(multi.values()) == [multi["p0"], multi["p1"]]
    assert dict(multi.items()) == {"p0": multi["p0"], "p1": multi["p1"]}
    assert multi.get("p2") is None and multi.get("p1", 3) is multi["p1"]


def test_modules_are_kept_and_not_rebuilt():
    module = Fake()
    assert MultiRLModule({"p0": module})["p0"] is module


def test_a_subclass_sets_up_once_with_its_modules():
    class Several(MultiRLModule):
        def setup(self):
            self.sizes = [*getattr(self, "sizes", []), len(self)]

    assert Several({"p0": Fake()}).sizes == [1]
    assert Several().inference_only is False


def test_unknown_module_is_a_key_error_with_the_known_ids(multi):
    with pytest.raises(KeyError) as info:
        multi["p"]
    assert isinstance(info.value, UnknownModuleError)
    assert "want one of ['p0', 'p1']" in str(info.value)
    assert "did you mean" in str(info.value)


def test_add_and_remove(multi):
    module = Fake()
    multi.add_module("p2", module)
    assert multi["p2"] is module and len(multi) == 3
    multi.remove_module("p0")
    assert list(multi) == ["p1", "p2"]


def test_removing_an_unknown_module(multi):
    with pytest.raises(UnknownModuleError, match="'p7'.*want one of"):
        multi.remove_module("p7")
    multi.remove_module("p7", raise_err_if_not_found=False)
    assert len(multi) == 2


def test_an_id_is_taken_once(multi):
    before, other = multi["p0"], Fake()
    with pytest.raises(ModuleError, match="'p0'.*exists already.*override=True"):
        multi.add_module("p0", other)
    assert multi["p0"] is before
    multi.add_module("p0", other, override=True)
    assert multi["p0"] is other and list(multi) == ["p0", "p1"]


def test_ids_differ_in_more_than_case(multi):
    with pytest.raises(ModuleError, match="'P0': got an id that differs from 'p0'"):
        multi.add_module("P0", Fake())
    assert list(multi) == ["p0", "p1"]


@pytest.mark.parametrize("module", [Fake, None, {"module": 1}])
def test_only_modules_are_added(multi, module):
    with pytest.raises(ModuleError, match="'p2': got <class .*want an RLModule"):
        multi.add_module("p2", module)
    assert "p2" not in multi


def test_foreach_module(multi):
    assert multi.foreach_module(lambda mid, module: (mid, module)) == [*multi.items()]
    weights = multi.foreach_module(lambda mid, m: m.weight, return_dict=True)
    assert weights == {"p0": 0.0, "p1": 0.0}


def test_forward_passes_run_the_modules_of_the_batch(multi):
    multi["p1"].weight = 10.0
    for forward in all_forwards(multi):
        assert forward({"p1": {"obs": 1.0}}) == {"p1": {"out": 11.0}}
        both = forward({"p0": {"obs": 1.0}, "p1": {"obs": 2.0}}, scale=2.0)
        assert both == {"p0": {"out": 2.0}, "p1": {"out": 24.0}}
        with pytest.raises(UnknownModuleError):
            forward({"p2": {"obs": 1.0}})


def test_state_round_trip(multi):
    multi["p0"].weight, multi["p1"].weight = 1.0, 2.0
    state = multi.get_state()
    other = MultiRLModule({"p0": Fake(), "p1": Fake()})
    other.set_state(state)
    assert other.get_state() == state == {"p0": {"weight": 1.0}, "p1": {"weight": 2.0}}


@pytest.mark.parametrize(
    ("components", "not_components", "want"),
    [
        (None, None, {"p", "p0", "p1"}),
        ("p0", None, {"p0"}),
        (["p0", "p1"], "p1", {"p0"}),
        (None, "p0", {"p", "p1"}),
        (None, {"p0", "p1"}, {"p"}),
        ([], None, set()),
    ],
)
def test_state_of_some_modules(multi, components, not_components, want):
    multi.add_module("p", Fake())
    assert set(multi.get_state(components, not_components=not_components)) == want


def test_part_of_a_state_replaces_part_of_the_weights(multi):
    multi.set_state({"p1": {"weight": 5.0}})
    assert multi.get_state() == {"p0": {"weight": 0.0}, "p1": {"weight": 5.0}}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"p1": {"bias": 1.0}}, ModuleError), ({"p2": {}}, UnknownModuleError)],
)
def test_state_that_does_not_fit_changes_nothing(multi, wrong, error):
    state = {"p0": {"weight": 5.0}} | wrong
    for method in (multi.check_state, multi.set_state):
        with pytest.raises(error):
            method(state)
    assert multi["p0"].weight == 0.0


# Ids.


@pytest.mark.parametrize(
    "module_id", ["p0", "default_policy", "Ära 1", "a.b", "x" * 255]
)
def test_valid_ids(module_id):
    assert validate_module_id(module_id) and validate_module_id(module_id, error=True)


@pytest.mark.parametrize(
    ("module_id", "reason"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("a/b", "a name with one of"),
        ("a\\b", "a name with one of"),
        ("a?", "a name with one of"),
        ("a\0", "unprintable"),
        ("a\n", "unprintable"),
        ("..", "ending in a space or dot"),
        ("a ", "ending in a space or dot"),
        ("x" * 300, "300 characters long, at most 255"),
        ("__all_modules__", "reserved"),
        (3, "int, not a string"),
        (None, "NoneType, not a string"),
    ],
)
def test_invalid_ids(multi, module_id, reason):
    assert validate_module_id(module_id) is False
    with pytest.raises(ModuleError, match=f"module id .*: invalid: .*{reason}"):
        validate_module_id(module_id, error=True)
    with pytest.raises(ModuleError, match=reason):
        multi.add_module(module_id, Fake())


@pytest.mark.parametrize("name", ["rl_module", "optimizer", "weights_seq_no"])
def test_names_of_parts_of_a_state_name_no_module(name):
    assert not validate_module_id(name)
    with pytest.raises(ModuleError, match="reserved for a part of a learner's state"):
        MultiRLModule({name: Fake()})
