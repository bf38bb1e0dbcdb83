"""Names of RLlib's learner: what raises says what to use, the rest still works."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.errors import UsageError
from tflearner.learner.tf_learner import TfLearner
from tflearner.testing import learner_digest

GIVEN_UP = {
    "additional_update_for_module": "before_gradient_based_update",
    "save_state": r"get_state\(\)",
    "load_state": r"set_state\(state\)",
    "get_module_state": r"module\.get_state\(\)",
    "set_module_state": r"module\.set_state\(state\)",
    "get_optimizer_state": r'get_state\(components="optimizer"\)',
    "set_optimizer_state": r'set_state\(\{"optimizer": state\}\)',
}


class Mean(TfLearner):
    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return tf.add_n([tf.reduce_mean(x**2) for x in fwd_out.values()])


@pytest.fixture(scope="module")
def learner(make_learner):
    """Two modules that no test of this module changes for good."""
    return make_learner(Mean, policies=["a", "b"], run_eagerly=True)


@pytest.mark.parametrize("name", GIVEN_UP)
def test_what_was_given_up_says_what_to_use(learner, name):
    before = learner_digest(learner)
    for arguments in ((), ("state", 3)):
        text = rf"Mean\.{name}\(\): .* given up.*Hint: use .*{GIVEN_UP[name]}"
        with pytest.raises(UsageError, match=text):
            getattr(learner, name)(*arguments, module_id="a")
    assert learner_digest(learner) == before
    assert getattr(Mean, name).__name__ == name and getattr(Mean, name).__doc__


def test_what_was_given_up_raises_before_build_too(make_config):
    with pytest.raises(UsageError, match=r"PPOTfLearner\.save_state\(\)"):
        PPOTfLearner(config=make_config()).save_state("path")


def test_hints_can_be_followed(learner):
    optimizer_state = learner.get_state(components="optimizer")["optimizer"]
    assert learner.set_state({"optimizer": optimizer_state})["applied"] == ["optimizer"]
    learner.module.set_state(learner.module.get_state())


def test_subclass_may_define_such_a_method_itself(make_config):
    class Own(PPOTfLearner):
        def save_state(self, path):
            return path

    assert Own(config=make_config()).save_state("here") == "here"


def outputs_of(learner, make_batch):
    batch = make_batch(learner)
    return {"fwd_out": learner.module.forward_train(batch), "batch": batch}


def test_compute_loss_warns_and_adds_the_sum(learner, make_batch):
    given = outputs_of(learner, make_batch)
    with pytest.warns(DeprecationWarning, match="use compute_losses") as warned:
        losses = learner.compute_loss(**given)
    assert warned[0].filename == __file__
    wanted = learner.compute_losses(**given)
    assert [*wanted] == ["a", "b"] and [*losses] == ["a", "b", ALL_MODULES]
    np.testing.assert_allclose(losses["a"], wanted["a"])
    np.testing.assert_allclose(losses[ALL_MODULES], wanted["a"] + wanted["b"])


def test_compute_loss_keeps_a_sum_that_is_there(make_learner, make_batch):
    class WithSum(Mean):
        def compute_losses(self, *, fwd_out, batch):
            return super().compute_losses(fwd_out=fwd_out, batch=batch) | {
                ALL_MODULES: tf.constant(7.0)
            }

    learner = make_learner(WithSum, run_eagerly=True)
    with pytest.warns(DeprecationWarning):
        losses = learner.compute_loss(**outputs_of(learner, make_batch))
    assert float(losses[ALL_MODULES]) == 7.0


def test_views_show_what_is_registered(learner):
    params = learner.get_parameters(learner.module)
    assert [*learner._params] == [learner.get_param_ref(p) for p in params]
    assert all(learner._params[learner.get_param_ref(p)] is p for p in params)
    names = ["a_default_optimizer", "b_default_optimizer"]
    assert learner._module_optimizers == {"a": names[:1], "b": names[1:]}
    assert learner._named_optimizers == {
        name: learner.get_optimizer(mid) for name, mid in zip(names, "ab")
    }
    refs = [
        learner.get_param_ref(p) for p in learner.get_parameters(learner.module["b"])
    ]
    assert learner._optimizer_parameters[learner.get_optimizer("b")] == refs


def test_views_follow_what_is_registered_and_removed(make_learner):
    learner = make_learner(Mean, run_eagerly=True, policies=["default_policy", "x"])
    own, optimizer = keras.Variable([1.0]), keras.optimizers.SGD()
    learner.register_optimizer(
        module_id="x", optimizer_name="second", optimizer=optimizer, params=[own]
    )
    ref = learner.get_param_ref(own)
    assert learner._named_optimizers["x_second"] is optimizer
    assert learner._optimizer_parameters[optimizer] == [ref]
    assert learner._params[ref] is own
    learner._params.clear()  # A view of this moment, not the registry itself.
    assert ref in learner._params
    learner.remove_module(DEFAULT_MODULE_ID)
    assert learner._module_optimizers == {"x": ["x_default_optimizer", "x_second"]}
    assert [*learner._params][-1] == ref
