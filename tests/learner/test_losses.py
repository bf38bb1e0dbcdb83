"""What a loss may return, and what is said about one that cannot be learned from."""

import pytest
import tensorflow as tf

from tflearner.errors import LossError
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.testing import learner_digest


class Switchable(TfLearner):
    """Its loss for module "p1" is whatever a test sets."""

    loss_of_p1 = None

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        good = tf.add_n([tf.reduce_mean(x**2) for x in fwd_out.values()])
        if module_id == "p1" and self.loss_of_p1 is not None:
            return self.loss_of_p1(good, batch, fwd_out)
        return good


BAD = {
    "None": (lambda good, batch, out: None, "None, want a scalar tensor"),
    "Python float": (lambda good, batch, out: 0.5, "0.5, want a scalar tensor"),
    "Python int": (lambda good, batch, out: 10, "10, want a scalar tensor"),
    "vector": (
        lambda good, batch, out: out["vf_preds"],
        r"float32 of shape \(.*\), want a float scalar.*tf.reduce_mean",
    ),
    "unknown shape": (
        lambda good, batch, out: tf.numpy_function(lambda x: x, [good], tf.float32),
        "float32 of shape .*, want a float scalar|no gradient",
    ),
    "int": (lambda good, batch, out: tf.constant(3), r"int32 of shape \(\)"),
    "not connected": (
        lambda good, batch, out: tf.reduce_mean(batch["rewards"]),
        "no gradient for any of its 6 variables.*tf.stop_gradient",
    ),
    "stopped": (lambda good, batch, out: tf.stop_gradient(good), "no gradient"),
    "NaN": (lambda good, batch, out: tf.constant(float("nan")), "no gradient"),
}


@pytest.fixture(scope="module", params=["eager", "traced"])
def learner(request, make_learner):
    return make_learner(
        Switchable, policies=["p0", "p1"], run_eagerly=request.param == "eager"
    )


@pytest.mark.parametrize("case", BAD)
def test_bad_loss_names_the_module_and_changes_nothing(learner, make_batch, case):
    learner.loss_of_p1, text = BAD[case]
    before = learner_digest(learner)
    with pytest.raises(LossError, match=f"loss for module 'p1': got {text}") as error:
        learner.update(make_batch(learner), minibatch_size=10)
    assert "Nothing was changed." in str(error.value)
    assert learner_digest(learner) == before


def test_good_loss_works_after_bad_ones(learner, make_batch):
    learner.loss_of_p1 = BAD["None"][0]
    batch = make_batch(learner)
    with pytest.raises(LossError):
        learner.update(batch, minibatch_size=10)
    learner.loss_of_p1, before = None, learner_digest(learner)
    results = learner.update(batch, minibatch_size=10)
    assert results["p1"]["total_loss"] > 0.0
    assert learner_digest(learner) != before


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        (lambda losses: {"p0": losses["p0"]}, r"losses for \['p0'\].*'p0', 'p1'"),
        (lambda losses: losses | {"p2": losses["p0"]}, "'p2'"),
        (lambda losses: losses["p0"], "Tensor"),
        (lambda losses: None, "NoneType"),
    ],
)
def test_losses_are_one_per_module(make_learner, make_batch, losses, text):
    class Own(Switchable):
        def compute_losses(self, fwd_out, batch):
            return losses(super().compute_losses(fwd_out=fwd_out, batch=batch))

    learner = make_learner(Own, policies=["p0", "p1"], run_eagerly=True)
    before = learner_digest(learner)
    with pytest.raises(LossError, match=rf"compute_losses\(\): got .*{text}"):
        learner.update(make_batch(learner))
    assert learner_digest(learner) == before


class Frozen(PPOTfRLModule):
    def setup(self):
        super().setup()
        self.trainable = False


def test_frozen_module_needs_no_gradient(make_learner, make_batch):
    policies = {"p0": None, "p1": RLModuleSpec(module_class=Frozen)}
    learner = make_learner(Switchable, policies=policies, run_eagerly=True)
    assert learner.get_optimizers_for_module("p1") == []
    before = learner.module["p1"].get_state()
    results = learner.update(make_batch(learner))
    assert results["p1"]["total_loss"] > 0.0
    for key, weight in learner.module["p1"].get_state().items():
        assert (weight == before[key]).all()


def test_losses_of_other_float_types_are_fine(make_learner, make_batch):
    learner = make_learner(Switchable, policies=["p0", "p1"], run_eagerly=True)
    learner.loss_of_p1 = lambda good, batch, out: tf.cast(good, tf.float64)
    results = learner.update(make_batch(learner))
    assert results["p1"]["num_non_finite_updates_lifetime"] == 0
