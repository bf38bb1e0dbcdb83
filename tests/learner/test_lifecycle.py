"""From construction to the first update."""

import pytest

from tflearner import constants
from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.errors import ConfigError, UsageError
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.rl_module_spec import MultiRLModuleSpec

CALLS = {
    "update": lambda learner: learner.update({"obs": [1.0]}),
    "update_from_batch": lambda learner: learner.update_from_batch({}),
    "update_from_episodes": lambda learner: learner.update_from_episodes([]),
    "add_module": lambda learner: learner.add_module(module_id="p", module_spec=None),
    "remove_module": lambda learner: learner.remove_module("default_policy"),
    "get_state": lambda learner: learner.get_state(),
    "set_state": lambda learner: learner.set_state({}),
}


def test_build_twice_builds_once(make_learner):
    learner = make_learner()
    module = learner.module[constants.DEFAULT_MODULE_ID]
    optimizer, connector = learner.get_optimizer(), learner._learner_connector
    pieces = len(connector)
    learner.build()
    assert learner.module[constants.DEFAULT_MODULE_ID] is module
    assert learner.get_optimizer() is optimizer
    assert learner._learner_connector is connector and len(connector) == pieces


@pytest.mark.parametrize("name", CALLS)
def test_every_call_before_build_is_a_usage_error(make_config, name):
    learner = PPOTfLearner(config=make_config())
    with pytest.raises(UsageError, match=r"PPOTfLearner.*not built.*call build\(\)"):
        CALLS[name](learner)
    assert learner.module is None


def test_given_module_is_used_itself(make_config, make_learner):
    module = make_learner().module[constants.DEFAULT_MODULE_ID]
    learner = PPOTfLearner(config=make_config(), module=module)
    learner.build()
    assert learner.module[constants.DEFAULT_MODULE_ID] is module


def test_given_spec_is_built(make_config):
    spec = make_config().get_rl_module_spec()
    learner = PPOTfLearner(
        config=make_config(), module_spec=MultiRLModuleSpec({"a": spec, "b": spec})
    )
    learner.build()
    assert [*learner.module] == ["a", "b"]


def test_constructor_refuses_an_impossible_config(make_config):
    with pytest.raises(ConfigError, match="grad_clip"):
        PPOTfLearner(config=make_config(grad_clip=0.0))


def test_a_build_that_fails_can_be_repeated(make_config):
    class Failing(PPOTfLearner):
        fails = True

        def configure_optimizers_for_module(self, module_id, config=None):
            super().configure_optimizers_for_module(module_id, config)
            if self.fails:
                raise RuntimeError("on purpose")

    learner = Failing(config=make_config())
    with pytest.raises(RuntimeError, match="on purpose"):
        learner.build()
    assert learner.module is None
    learner.fails = False
    learner.build()
    assert len(learner.get_optimizers_for_module("default_policy")) == 1


def test_the_caller_keeps_its_config(make_config):
    config = make_config()
    config.freeze()
    before = repr(config)
    learner = config.build_learner()
    learner.add_module(
        module_id="new",
        module_spec=config.get_rl_module_spec(),
        config_overrides={"lr": 0.5},
        new_should_module_be_updated=["new"],
    )
    assert repr(config) == before
    assert not learner.config.is_frozen


def test_facts_about_where_it_runs(make_learner):
    learner = make_learner()
    assert learner.framework == "tf2" and not learner.distributed
    assert learner.node and learner.device.startswith(("CPU", "GPU"))


def test_frameworkless_parts_are_abstract(make_config):
    with pytest.raises(TypeError, match="compute_loss_for_module"):
        TfLearner(config=make_config())


def test_same_seed_same_weights_other_seed_others(make_learner):
    def weights(seed):
        return (
            make_learner(seed=seed).module["default_policy"].get_state()["000/kernel"]
        )

    assert (weights(3) == weights(3)).all()
    assert (weights(3) != weights(4)).any()
