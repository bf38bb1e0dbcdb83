"""Modules that come and go in mid-training."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.errors import (
    ConfigError,
    ModuleBuildError,
    ModuleError,
    UnknownModuleError,
)
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.testing import learner_digest

PARTS = ("rl_module", "optimizer")


@pytest.fixture(scope="module")
def spec(make_config):
    return make_config().get_rl_module_spec()


@pytest.fixture
def learner(make_learner):
    return make_learner(run_eagerly=True)


def assert_same(state, wanted):
    tf.nest.map_structure(np.testing.assert_array_equal, state, wanted)


# Adding.


def test_added_module_learns_beside_the_others(learner, spec, make_batch):
    before = learner.get_state(PARTS)
    returned = learner.add_module(module_id="new", module_spec=spec)
    assert [*returned.rl_module_specs] == [DEFAULT_MODULE_ID, "new"]
    after = learner.get_state(PARTS)
    for part in PARTS:
        assert_same(after[part][DEFAULT_MODULE_ID], before[part][DEFAULT_MODULE_ID])
    results = learner.update(make_batch(learner))
    assert results["new"]["weights_seq_no"] == 1
    assert results["new"]["curr_kl_coeff"] != 0.2
    results = learner.update(make_batch(learner, default_policy=20))
    assert results[DEFAULT_MODULE_ID]["weights_seq_no"] == 2


def test_added_module_follows_its_own_config(learner, spec, make_batch):
    learner.add_module(
        module_id="new",
        module_spec=spec,
        config_overrides={"lr": 0.25, "kl_coeff": 7.0, "use_kl_loss": False},
    )
    assert float(learner.get_optimizer("new").learning_rate.numpy()) == 0.25
    assert float(learner._coefficients["new"].kl.numpy()) == 7.0
    results = learner.update(make_batch(learner))
    assert "curr_kl_coeff" in results[DEFAULT_MODULE_ID]
    assert "curr_kl_coeff" not in results["new"]


def test_parameter_counts_follow(learner, spec, make_batch):
    size = learner.update({})[ALL_MODULES]["num_trainable_parameters"]
    learner.add_module(module_id="new", module_spec=spec)
    results = learner.update({})
    assert results["new"]["num_trainable_parameters"] == size
    assert results[ALL_MODULES]["num_trainable_parameters"] == 2 * size
    learner.remove_module("new")
    assert learner.update({})[ALL_MODULES]["num_trainable_parameters"] == size


def test_spec_for_acting_only_is_built_for_learning(learner, spec, make_batch):
    acting = dataclasses.replace(spec, inference_only=True)
    learner.add_module(module_id="new", module_spec=acting)
    assert not learner.module["new"].inference_only
    assert acting.inference_only
    learner.update(make_batch(learner, new=10))


def test_who_learns_from_now_on(learner, spec, make_batch):
    learner.add_module(
        module_id="new", module_spec=spec, new_should_module_be_updated=["new"]
    )
    assert learner.should_module_be_updated("new")
    assert not learner.should_module_be_updated(DEFAULT_MODULE_ID)
    learner.remove_module("new", new_should_module_be_updated=[DEFAULT_MODULE_ID])
    assert learner.should_module_be_updated(DEFAULT_MODULE_ID)


class Unready(PPOTfLearner):
    """Registers an optimizer and then fails, for all modules but the first."""

    def configure_optimizers_for_module(self, module_id, config=None):
        super().configure_optimizers_for_module(module_id, config)
        if module_id != DEFAULT_MODULE_ID:
            raise RuntimeError("no optimizer today")


BAD = {
    "no id": ({"module_id": ""}, ModuleError, "''.*empty"),
    "number": ({"module_id": 3}, ModuleError, "3.*not a string"),
    "slash": ({"module_id": "a/b"}, ModuleError, "'a/b'"),
    "reserved": ({"module_id": ALL_MODULES}, ModuleError, "reserved"),
    "taken": ({"module_id": DEFAULT_MODULE_ID}, ModuleError, "exists already"),
    "no spec": ({"module_spec": None}, ModuleError, "None, want an RLModuleSpec"),
    "class": ({"module_spec": PPOTfLearner}, ModuleError, "want an RLModuleSpec"),
    "dict": ({"module_spec": {}}, ModuleError, "want an RLModuleSpec"),
    "unknown setting": (
        {"config_overrides": {"lrr": 1.0}},
        ConfigError,
        "'lrr'.*did you mean 'lr'",
    ),
    "bad setting": ({"config_overrides": {"grad_clip": -1}}, ConfigError, "grad_clip"),
    "optimizer": ({}, RuntimeError, "no optimizer today"),
}


@pytest.mark.parametrize("case", BAD)
def test_failed_addition_changes_nothing(make_learner, spec, make_batch, case):
    changes, error, text = BAD[case]
    own = Unready if error is RuntimeError else None
    learner = make_learner(own, run_eagerly=True)
    before = learner_digest(learner)
    with pytest.raises(error, match=text):
        learner.add_module(**{"module_id": "new", "module_spec": spec} | changes)
    assert learner_digest(learner) == before
    assert [*learner.module] == [DEFAULT_MODULE_ID]
    assert len([*learner._optimizers.values()]) == 1
    if own is None:
        learner.add_module(module_id="new", module_spec=spec)


def test_module_whose_setup_fails_is_not_added(learner, spec):
    class Broken(spec.module_class):
        def setup(self):
            raise KeyError("a user's bug")

    before = learner_digest(learner)
    broken = dataclasses.replace(spec, module_class=Broken)
    with pytest.raises(ModuleBuildError, match="a user's bug"):
        learner.add_module(module_id="new", module_spec=broken)
    assert learner_digest(learner) == before


# Removing.


def names_the_removed(node):
    if isinstance(node, dict):
        return any("gone" in str(k) or names_the_removed(v) for k, v in node.items())
    return "gone" in repr(node) if isinstance(node, (str, list, tuple, set)) else False


def test_removed_module_leaves_no_trace(learner, spec, make_batch):
    learner.add_module(
        module_id="gone",
        module_spec=spec,
        config_overrides={"lr": 0.5},
        new_should_module_be_updated=[DEFAULT_MODULE_ID, "gone"],
    )
    learner.update(make_batch(learner))
    returned = learner.remove_module("gone")
    assert [*returned.rl_module_specs] == [DEFAULT_MODULE_ID]
    assert "gone" not in repr(learner.config)
    assert not names_the_removed(learner.get_state())
    assert not names_the_removed(vars(learner))
    assert not names_the_removed(learner.update(make_batch(learner)))
    with pytest.raises(UnknownModuleError, match="'gone'"):
        learner.update({"gone": make_batch(learner)[DEFAULT_MODULE_ID]})


def test_module_that_comes_back_is_a_new_one(learner, spec, make_batch):
    learner.add_module(module_id="new", module_spec=spec, config_overrides={"lr": 0.5})
    first = learner.module["new"].get_state()["000/kernel"]
    learner.update(make_batch(learner))
    learner.remove_module("new")
    learner.add_module(module_id="new", module_spec=spec)
    assert float(learner.get_optimizer("new").learning_rate.numpy()) < 0.5
    assert (learner.module["new"].get_state()["000/kernel"] != first).any()
    results = learner.update(make_batch(learner))
    assert results["new"]["num_module_steps_trained_lifetime"] == 20


def test_unknown_module_cannot_be_removed(learner):
    before = learner_digest(learner)
    with pytest.raises(KeyError, match="'x'.*default_policy"):
        learner.remove_module("x")
    assert learner_digest(learner) == before


def test_last_module_may_go_and_another_come(learner, spec, make_batch):
    batch = make_batch(learner)
    learner.remove_module(DEFAULT_MODULE_ID)
    with pytest.raises(UnknownModuleError):
        learner.update(batch)
    learner.add_module(module_id="new", module_spec=spec)
    assert learner.update(make_batch(learner))["new"]["weights_seq_no"] == 1


@pytest.mark.parametrize("method", ["add_module", "remove_module"])
def test_a_wrong_trainable_set_changes_nothing(make_learner, method):
    learner = make_learner()
    before = learner_digest(learner)
    arguments = {"module_id": "default_policy"}
    if method == "add_module":
        spec = RLModuleSpec.from_module(learner.module["default_policy"])
        arguments = {"module_id": "p1", "module_spec": spec}
    with pytest.raises(ConfigError, match="policies_to_train"):
        getattr(learner, method)(**arguments, new_should_module_be_updated=5)
    assert learner_digest(learner) == before
