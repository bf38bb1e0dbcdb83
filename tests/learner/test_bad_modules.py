"""Modules that cannot be used: what is said, and that nothing was changed.

The numbers in front of the cases are those of the catalogue of bad inputs.
"""

import dataclasses

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.errors import (
    BatchError,
    ConfigError,
    ModuleBuildError,
    ModuleError,
    OptimizerError,
    TFLearnerError,
    UnknownModuleError,
)
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.rl_module import RLModule
from tflearner.modules.rl_module_spec import MultiRLModuleSpec, RLModuleSpec
from tflearner.testing import learner_digest, random_batch


@pytest.fixture(scope="module")
def learner(make_learner):
    """A learner that has learned, and that no test of this module changes."""
    learner = make_learner(run_eagerly=True)
    learner.update(random_batch(learner.module[DEFAULT_MODULE_ID], 20))
    return learner


@pytest.fixture(scope="module")
def spec(make_config):
    return make_config().get_rl_module_spec()


def assert_refused(learner, call, error, text):
    """Checks class and text of the error, and that it keeps its promise."""
    before, objects = learner_digest(learner), dict(learner.module.items())
    optimizers = [*learner._optimizers.values()]
    with pytest.raises(error, match=text) as raised:
        call()
    assert type(raised.value) is error
    assert "Nothing was changed." in str(raised.value)
    assert learner_digest(learner) == before
    assert dict(learner.module.items()) == objects
    assert [*learner._optimizers.values()] == optimizers
    return raised.value


class Raising(PPOTfRLModule):
    def setup(self):
        raise ZeroDivisionError("my own mistake")


class RaisingLate(PPOTfRLModule):
    def _forward_train(self, batch, **kwargs):
        raise ZeroDivisionError("my own mistake")


class NoArguments(PPOTfRLModule):
    def __init__(self):
        pass


class Abstract(RLModule):
    """Without `get_state` and `set_state`."""


class Outputs(PPOTfRLModule):
    """What it puts out for training is whatever a case below makes of it."""

    def _forward_train(self, batch, **kwargs):
        return self.change(super()._forward_train(batch, **kwargs))


def putting_out(function):
    return type("Odd", (Outputs,), {"change": lambda self, outputs: function(outputs)})


def resized(size):
    return putting_out(
        lambda outputs: {**outputs, Columns.ACTION_DIST_INPUTS: tf.zeros([2, *size])}
    )


FOUR_ACTIONS = gym.spaces.Discrete(4)

# Name -> (arguments beside the right ones, changes of the specification, error, text)
BAD_ADDITIONS = {
    "M23 existing id": (
        {"module_id": DEFAULT_MODULE_ID},
        {},
        ModuleError,
        "'default_policy': got an id that exists already.*remove the module first",
    ),
    **{
        f"M24 {module_id!r:.20}": (
            {"module_id": module_id},
            {},
            ModuleError,
            f"module id .*: invalid: {reason}",
        )
        for module_id, reason in [
            ("", "empty"),
            (" ", "empty"),
            ("a/b", "a name with one of"),
            ("..", "a name ending in a space or dot"),
            ("a\0", "a name with one of .* or an unprintable character"),
            ("x" * 300, "300 characters long, at most 255"),
            (ALL_MODULES, "reserved"),
            (None, "NoneType, not a string"),
            (["p"], "list, not a string"),
        ]
    },
    "M24 differs in case alone": (
        {"module_id": "Default_Policy"},
        {},
        ModuleError,
        "'Default_Policy': got an id that differs from 'default_policy' in case",
    ),
    **{
        f"M25 {name}": (
            {"module_spec": wrong},
            {},
            ModuleError,
            f"module 'new': got .*{text}.*, want an RLModuleSpec",
        )
        for name, wrong, text in [
            ("class", PPOTfRLModule, "PPOTfRLModule"),
            ("None", None, "None"),
            ("dict", {"module_class": PPOTfRLModule}, "module_class"),
        ]
    },
    "M25 no class": (
        {},
        {"module_class": None},
        ModuleError,
        "got None, want a module_class",
    ),
    "M25 no space": (
        {},
        {"observation_space": None},
        ModuleError,
        "got None, want a observation_space",
    ),
    "M26 setup": (
        {},
        {"module_class": Raising},
        ModuleBuildError,
        "Raising: got ZeroDivisionError: my own mistake, want a module that can be",
    ),
    "M26 forward": (
        {},
        {"module_class": RaisingLate},
        ModuleBuildError,
        "RaisingLate: got ZeroDivisionError: my own mistake",
    ),
    "M26 constructor": (
        {},
        {"module_class": NoArguments},
        ModuleBuildError,
        "NoArguments: got TypeError: .*unexpected keyword",
    ),
    "M26 abstract": (
        {},
        {"module_class": Abstract},
        ModuleBuildError,
        "Abstract: got TypeError: .*abstract",
    ),
    "M26 settings": (
        {},
        {"model_config": {"fcnet_hidden": [3]}},
        ConfigError,
        "'fcnet_hidden'.*did you mean 'fcnet_hiddens'",
    ),
    "M27 lacks an output": (
        {},
        {"module_class": putting_out(lambda o: {Columns.VF_PREDS: o["vf_preds"]})},
        ModuleError,
        r"forward_train\(\): got outputs \['vf_preds'\], want \['action_dist_inputs'\]",
    ),
    "M27 no dict": (
        {},
        {"module_class": putting_out(lambda o: o[Columns.ACTION_DIST_INPUTS])},
        ModuleError,
        r"module 'new', forward_train\(\): got outputs .*Tensor",
    ),
    "M27 None": (
        {},
        {"module_class": putting_out(lambda o: None)},
        ModuleError,
        r"module 'new', forward_train\(\): got outputs .*NoneType",
    ),
    "M28 width": (
        {},
        {"module_class": resized([3]), "action_space": FOUR_ACTIONS},
        ModuleError,
        r"'action_dist_inputs': got \('B', 3\), want \('B', 4\) for Discrete\(4\)",
    ),
    "M28 no width": (
        {},
        {"module_class": resized([]), "action_space": FOUR_ACTIONS},
        ModuleError,
        r"output 'action_dist_inputs': got \('B',\), want \('B', 4\)",
    ),
    "M28 an axis too many": (
        {},
        {"module_class": resized([7, 4]), "action_space": FOUR_ACTIONS},
        ModuleError,
        r"output 'action_dist_inputs': got \('B', 7, 4\), want \('B', 4\)",
    ),
}


@pytest.mark.parametrize("case", BAD_ADDITIONS)
def test_bad_addition_is_refused_and_changes_nothing(learner, spec, case):
    arguments, changes, error, text = BAD_ADDITIONS[case]
    module_spec = dataclasses.replace(spec, **changes)
    arguments = {"module_id": "new", "module_spec": module_spec} | arguments
    raised = assert_refused(
        learner, lambda: learner.add_module(**arguments), error, text
    )
    assert isinstance(raised, ValueError)
    assert isinstance(raised.__cause__, Exception) == (error is ModuleBuildError)


@pytest.mark.parametrize("changes", [{"module_class": Raising}, {"module_class": None}])
def test_bad_addition_does_not_change_what_is_added_afterwards(
    make_learner, spec, changes
):
    def kernel(fails_before):
        learner = make_learner(run_eagerly=True)
        if fails_before:
            wrong = dataclasses.replace(spec, **changes)
            with pytest.raises(ModuleError):
                learner.add_module(module_id="new", module_spec=wrong)
        learner.add_module(module_id="new", module_spec=spec)
        return learner.module["new"].get_state()["000/kernel"]

    assert (kernel(False) == kernel(True)).all()


@pytest.mark.parametrize(
    ("module_class", "text"),
    [
        (putting_out(lambda outputs: {}), r"M27|got outputs \[\], want"),
        (resized([3]), r"got \('B', 3\), want \('B', 2\)"),
    ],
)
def test_learner_is_not_built_with_such_modules_either(make_config, module_class, text):
    spec = dataclasses.replace(
        make_config().get_rl_module_spec(), module_class=module_class
    )
    learner = PPOTfLearner(config=make_config(), module_spec=spec)
    with pytest.raises(ModuleError, match=text):
        learner.build()
    assert learner.module is None and not [*learner._optimizers.values()]


def test_a_restored_learner_adds_the_module_that_the_original_would_add(
    make_learner, spec
):
    original, restored = make_learner(), make_learner()
    original.add_module(module_id="first", module_spec=spec)
    original.remove_module("first")
    restored.set_state(original.get_state(), force=True)
    kernels = []
    for learner in (original, restored):
        learner.add_module(module_id="new", module_spec=spec)
        kernels.append(learner.module["new"].get_state()["000/kernel"])
    assert (kernels[0] == kernels[1]).all()


# Where a specification, or a module, may be given.
DOORS = {
    "module_spec=": lambda wrong, config: PPOTfLearner(
        config=config(), module_spec=wrong
    ).build(),
    "module=": lambda wrong, config: PPOTfLearner(
        config=config(), module=wrong
    ).build(),
    "rl_module_spec=": lambda wrong, config: config(
        rl_module_spec=wrong
    ).build_learner(),
    "policies=": lambda wrong, config: config(policies={"p": wrong}).build_learner(),
    "MultiRLModuleSpec": lambda wrong, config: MultiRLModuleSpec({"p": wrong}).build(),
    "MultiRLModuleSpec of": lambda wrong, config: MultiRLModuleSpec(
        {"p": RLModuleSpec(wrong)}, observation_space=FOUR_ACTIONS
    ).build(),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "wrong",
    [PPOTfRLModule, {"module_class": PPOTfRLModule}, 3, "PPOTfRLModule"],
    ids=["class", "dict", "number", "name"],
)
def test_what_is_no_spec_is_refused_at_every_door(make_config, door, wrong):  # M25
    if door == "MultiRLModuleSpec of" and wrong is PPOTfRLModule:
        wrong = RLModuleSpec  # A class, but of no module.
    with pytest.raises(TFLearnerError, match=r"got .*, want .*(RLModule|module)"):
        DOORS[door](wrong, make_config)


@pytest.mark.parametrize("policies", ["p0", 3, [3], {"a/b"}])
def test_what_names_no_modules_is_refused(make_config, policies):
    with pytest.raises(TFLearnerError):
        make_config(policies=policies).build_learner()


@pytest.mark.parametrize("config", [None, {}, PPOTfLearner])
def test_what_is_no_config_is_refused(config):
    with pytest.raises(TFLearnerError, match="config.*want an AlgorithmConfig"):
        PPOTfLearner(config=config)


@pytest.mark.parametrize("module_id", ["x", "", "Default_Policy", None, ALL_MODULES])
def test_unknown_module_cannot_be_removed(learner, module_id):  # M29
    raised = assert_refused(
        learner,
        lambda: learner.remove_module(module_id),
        UnknownModuleError,
        rf"module {module_id!r}: got an unknown id, want one of \['default_policy'\]",
    )
    assert isinstance(raised, KeyError) and isinstance(raised, BatchError)


def test_close_id_is_suggested(learner):  # M29
    assert_refused(
        learner,
        lambda: learner.remove_module("default_polcy"),
        UnknownModuleError,
        "did you mean 'default_policy'",
    )


@pytest.mark.parametrize("module_id", [DEFAULT_MODULE_ID, ALL_MODULES])
def test_two_optimizers_cannot_share_a_variable(learner, module_id):  # M31
    params = learner.get_parameters(learner.module[DEFAULT_MODULE_ID])
    assert_refused(
        learner,
        lambda: learner.register_optimizer(
            module_id=module_id,
            optimizer_name="second",
            optimizer=keras.optimizers.SGD(),
            params=params[2:],
        ),
        OptimizerError,
        f"optimizer 'second' of module '{module_id}': got variable 'kernel', which "
        "optimizer 'default_optimizer' of module 'default_policy' updates as well"
        ".*allow_shared=True",
    )


def test_two_optimizers_share_a_variable_on_demand(make_learner, make_batch):  # M31
    learner = make_learner(run_eagerly=True)
    params = learner.get_parameters(learner.module[DEFAULT_MODULE_ID])
    learner.register_optimizer(
        module_id=DEFAULT_MODULE_ID,
        optimizer_name="second",
        optimizer=keras.optimizers.SGD(),
        params=params[2:],
        lr_or_lr_schedule=0.5,
        allow_shared=True,
    )
    learner.update(make_batch(learner))
    steps = [
        int(optimizer.iterations.numpy())
        for _, optimizer in learner.get_optimizers_for_module(DEFAULT_MODULE_ID)
    ]
    assert steps == [1, 1]


class MakesCritic(PPOTfRLModule):
    """Makes a layer that only training uses when it is first trained."""

    def setup(self):
        super().setup()
        self.second = keras.layers.Dense(1)

    def _forward_train(self, batch, **kwargs):
        outputs = super()._forward_train(batch, **kwargs)
        return outputs | {"second": self.second(batch[Columns.ADVANTAGES][:, None])}


@pytest.mark.parametrize(
    "run_eagerly", [True, pytest.param(False, marks=pytest.mark.deep)]
)
def test_a_variable_that_training_makes_is_refused(
    make_learner, make_batch, run_eagerly
):
    spec = RLModuleSpec(module_class=MakesCritic)
    learner = make_learner(rl_module_spec=spec, run_eagerly=run_eagerly)
    before = learner.get_state(["rl_module", "optimizer"])
    for _ in range(2):
        with pytest.raises(ModuleError, match=r"'kernel'.*setup\(\).*build\(") as error:
            learner.update(make_batch(learner))
        assert "Nothing was changed." in str(error.value)
    after = learner.get_state(["rl_module", "optimizer"])
    tf.nest.map_structure(np.testing.assert_array_equal, before, after)

    class MakesItInTime(MakesCritic):
        def setup(self):
            super().setup()
            self.second.build((None, 1))

    spec = RLModuleSpec(module_class=MakesItInTime)
    learner = make_learner(rl_module_spec=spec, run_eagerly=run_eagerly)
    assert learner.update(make_batch(learner))[DEFAULT_MODULE_ID]["weights_seq_no"] == 1
