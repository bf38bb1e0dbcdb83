"""From construction to the first update."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner import constants
from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.errors import ConfigError, ModuleBuildError, UsageError
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.rl_module import RLModule
from tflearner.modules.rl_module_spec import MultiRLModuleSpec

CALLS = {
    "update": lambda learner: learner.update({"obs": [1.0]}),
    "update_from_batch": lambda learner: learner.update_from_batch({}),
    "update_from_episodes": lambda learner: learner.update_from_episodes([]),
    "update_from_iterator": lambda learner: learner.update_from_iterator([]),
    "add_module": lambda learner: learner.add_module(module_id="p", module_spec=None),
    "remove_module": lambda learner: learner.remove_module("default_policy"),
    "get_state": lambda learner: learner.get_state(),
    "set_state": lambda learner: learner.set_state({}),
    "configure_optimizers": lambda learner: learner.configure_optimizers(),
    "register_optimizer": lambda learner: learner.register_optimizer(
        module_id="p", optimizer=keras.optimizers.SGD(), params=[]
    ),
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


class Failing(PPOTfLearner):
    """Fails in one of its methods, after the work of that method is done."""

    fails_in = None

    def fail_in(self, name):
        if self.fails_in == name:
            raise RuntimeError("on purpose")

    def _make_module(self):
        made = super()._make_module()
        self.fail_in("_make_module")
        return made

    def _set_up_module(self, module_id):
        super()._set_up_module(module_id)
        self.fail_in("_set_up_module")

    def configure_optimizers_for_module(self, module_id, config=None):
        super().configure_optimizers_for_module(module_id, config)
        self.fail_in("configure_optimizers_for_module")

    def _log_trainable_parameters(self):
        super()._log_trainable_parameters()
        self.fail_in("_log_trainable_parameters")


@pytest.mark.parametrize(
    "name",
    [
        "_make_module",
        "_set_up_module",
        "configure_optimizers_for_module",
        "_log_trainable_parameters",
    ],
)
def test_a_build_that_fails_half_way_can_be_repeated(make_config, make_batch, name):
    learner = Failing(config=make_config(run_eagerly=True))
    learner.fails_in = name
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            learner.build()
        assert learner.module is None and [*learner._optimizers.values()] == []
        assert learner.metrics.peek() == {}
        with pytest.raises(UsageError, match="not built"):
            learner.update({})
    learner.fails_in = None
    learner.build()
    assert len(learner.get_optimizers_for_module("default_policy")) == 1
    pieces = [type(piece) for piece in learner._learner_connector]
    assert len(pieces) == len(set(pieces))
    assert learner.update(make_batch(learner))["default_policy"]["weights_seq_no"] == 1


def test_a_module_that_cannot_be_built_says_so_each_time(make_config):
    class Broken(PPOTfRLModule):
        def setup(self):
            raise KeyError("a user's bug")

    spec = make_config().get_rl_module_spec()
    spec.module_class = Broken
    learner = PPOTfLearner(config=make_config(), module_spec=spec)
    for _ in range(2):
        with pytest.raises(ModuleBuildError, match="a user's bug"):
            learner.build()
        assert learner.module is None


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


# After the end.


@pytest.mark.parametrize("name", CALLS)
def test_every_call_after_shutdown_is_a_usage_error(make_learner, name):
    learner = make_learner(run_eagerly=True)
    weights = learner.module.get_state()
    learner.shutdown()
    with pytest.raises(UsageError, match="PPOTfLearner: a learner that was shut down"):
        CALLS[name](learner)
    tf.nest.map_structure(
        np.testing.assert_array_equal, learner.module.get_state(), weights
    )


def test_shutdown_is_for_good_and_may_be_repeated(make_config, make_learner):
    for learner in (make_learner(), PPOTfLearner(config=make_config())):
        learner.shutdown()
        learner.shutdown()
        with pytest.raises(UsageError, match="shut down"):
            learner.build()


# Back to the start.


def test_a_learner_that_was_reset_is_built_and_learns_as_a_new_one(
    make_learner, make_batch
):
    def learned(was_used):
        learner = make_learner(run_eagerly=True)
        if was_used:
            learner.update(make_batch(learner), minibatch_size=10)
            learner._reset()
            assert learner.module is None and [*learner._optimizers.values()] == []
            assert learner.metrics.peek() == {}
            with pytest.raises(UsageError, match="not built"):
                learner.get_state()
            learner.build()
        start = learner.module.get_state()["default_policy"]["000/kernel"]
        results = learner.update(make_batch(learner), minibatch_size=10)
        end = learner.module.get_state()["default_policy"]["000/kernel"]
        return start, end, results["default_policy"]

    new, used = learned(was_used=False), learned(was_used=True)
    np.testing.assert_array_equal(new[0], used[0])
    np.testing.assert_array_equal(new[1], used[1])
    assert (new[0] != new[1]).any()
    for name in ("weights_seq_no", "num_module_steps_trained_lifetime", "total_loss"):
        assert new[2][name] == used[2][name]


class Mean(TfLearner):
    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return tf.add_n([tf.reduce_mean(x**2) for x in fwd_out.values()])


def test_traces_of_before_a_reset_are_not_used_afterwards(make_learner, make_batch):
    learner = make_learner(Mean)
    for _ in range(2):
        before = learner.module.get_state()["default_policy"]
        learner.update(make_batch(learner), minibatch_size=10)
        after = learner.module.get_state()["default_policy"]
        assert (before["000/kernel"] != after["000/kernel"]).any()
        learner._reset()
        learner.build()


# Odds and ends.


def test_apply_calls_a_function_with_the_learner(make_learner):
    learner = make_learner()

    def function(*args, **kwargs):
        return args, kwargs

    assert learner.apply(function, 1, by=2) == ((learner, 1), {"by": 2})
    assert learner.apply(lambda own: own.module) is learner.module


SKIPS = {
    "no rows": lambda learner: learner.update({}),
    "no episodes": lambda learner: learner.update(episodes=[]),
    "no items": lambda learner: learner.update(data_iterators=[iter([])]),
    "empty item": lambda learner: learner.update_from_iterator([{}, {}]),
}


class Hooked(PPOTfLearner):
    def before_gradient_based_update(self, *, timesteps):
        super().before_gradient_based_update(timesteps=timesteps)
        self.calls = [*getattr(self, "calls", []), "before"]

    def after_gradient_based_update(self, *, timesteps):
        super().after_gradient_based_update(timesteps=timesteps)
        self.calls += ["after"]


@pytest.mark.parametrize("case", SKIPS)
@pytest.mark.parametrize("never", [True, False])
def test_never_skip_update_runs_the_hooks_and_nothing_else(make_learner, never, case):
    learner = make_learner(Hooked, never_skip_update=never, run_eagerly=True)
    before = learner.get_state(["rl_module", "optimizer", "learner", "weights_seq_no"])
    SKIPS[case](learner)
    assert getattr(learner, "calls", []) == (["before", "after"] if never else [])
    after = learner.get_state(["rl_module", "optimizer", "learner", "weights_seq_no"])
    tf.nest.map_structure(np.testing.assert_array_equal, before, after)
    assert learner.updated_module_ids == ()


def test_never_skip_update_moves_learning_rates(make_learner):
    learner = make_learner(
        never_skip_update=True, lr=[[0, 0.1], [100, 0.0]], run_eagerly=True
    )
    results = learner.update({}, timesteps={"num_env_steps_sampled_lifetime": 50})
    rate = results["default_policy"]["default_optimizer_learning_rate"]
    assert rate == pytest.approx(0.05)
    skipped = results["__all_modules__"]["learner_update_skipped_empty_batch_lifetime"]
    assert skipped == 1


def test_hooks_run_once_where_nothing_is_skipped(make_learner, make_batch):
    learner = make_learner(Hooked, never_skip_update=True, run_eagerly=True)
    batch = make_batch(learner)
    learner.update_from_iterator([{}, batch, {}])
    assert learner.calls == ["before", "after"]
    assert learner.updated_module_ids == ("default_policy",)


class Scripted(RLModule):
    def get_state(self, components=None, *, not_components=None):
        return {}

    def set_state(self, state):
        pass


def test_a_learner_that_can_train_nothing_says_so(make_config, caplog):
    learner = PPOTfLearner(config=make_config(), module=Scripted())
    learner.build()
    assert "PPOTfLearner can train none of its modules" in caplog.text
    assert "ValueFunctionAPI" in caplog.text


def test_a_learner_without_optimizers_says_so(make_learner, caplog):
    class Forgetful(PPOTfLearner):
        def configure_optimizers_for_module(self, module_id, config=None):
            pass

    make_learner(Forgetful)
    assert "Forgetful has no optimizer" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "5"])
def test_a_timestep_is_a_finite_number(make_learner, value):
    with pytest.raises(UsageError, match="a finite number"):
        make_learner().update({}, timesteps={"num_env_steps_sampled_lifetime": value})
