"""What a loss may return, and what is said about one that cannot be learned from."""

import dataclasses

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.dqn import DQNConfig
from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.algorithms.sac import SACConfig
from tflearner.columns import Columns
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import BatchError, LossError
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.apis import SelfSupervisedLossAPI, TargetNetworkAPI
from tflearner.modules.rl_module import RLModule
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.testing import learner_digest, random_transitions


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


class ThirdTimeUnlucky(TfLearner):
    calls = 0

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        self.calls += 1
        if self.calls == 3:
            return None
        return tf.reduce_mean(fwd_out[Columns.ACTION_DIST_INPUTS] ** 2)


def test_a_loss_that_fails_late_is_not_said_to_have_changed_nothing(
    make_learner, make_batch
):
    learner = make_learner(ThirdTimeUnlucky, run_eagerly=True)
    with pytest.raises(
        LossError, match="2 minibatches were trained on before"
    ) as error:
        learner.update(make_batch(learner), minibatch_size=5)
    assert "Nothing was changed" not in str(error.value)


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


# Modules that bring their own loss.


class Dreamer(TfRLModule, SelfSupervisedLossAPI):
    """Learns to put out its observations; knows nothing of actions."""

    def setup(self):
        self.network = keras.layers.Dense(self.observation_space.shape[0])
        self._calls = []  # The arguments of its losses.

    def _forward(self, batch, **kwargs):
        return {"dream": self.network(batch[Columns.OBS])}

    def compute_self_supervised_loss(self, **kwargs):
        self._calls.append(kwargs)
        learner, fwd_out = kwargs["learner"], kwargs["fwd_out"]
        error = tf.reduce_mean((fwd_out["dream"] - kwargs["batch"][Columns.OBS]) ** 2)
        learner.metrics.log_value((kwargs["module_id"], "dream_error"), error, window=1)
        return error


class Refusing(TfLearner):
    """Has no loss of its own."""

    def compute_loss_for_module(self, *, module_id, **kwargs):
        raise AssertionError(f"no loss for {module_id!r} is wanted")


class Demanding(Refusing):
    """Trains nothing but modules that bring their loss: others lack an interface."""

    @classmethod
    def rl_module_required_apis(cls):
        return [TargetNetworkAPI]

    def get_required_columns(self, module_id):
        return (Columns.OBS, Columns.ACTIONS, "rewards")

    def get_required_outputs(self, module_id):
        return (Columns.ACTION_DIST_INPUTS,)


def dreamers(*module_ids):
    return dict.fromkeys(module_ids, RLModuleSpec(module_class=Dreamer))


@pytest.mark.parametrize("learner_class", [Refusing, Demanding, PPOTfLearner])
def test_any_learner_trains_a_module_that_brings_its_loss(
    make_learner, make_batch, learner_class
):
    learner = make_learner(
        learner_class, policies=dreamers("d"), run_eagerly=True, lr=0.1
    )
    batch = {Columns.OBS: make_batch(learner)["d"][Columns.OBS]}  # And nothing else.
    errors = [learner.update(batch)["d"] for _ in range(8)]
    assert errors[-1]["dream_error"] == errors[-1]["total_loss"]
    assert errors[-1]["total_loss"] < 0.7 * errors[0]["total_loss"]


def test_own_loss_gets_what_the_learners_loss_would_get(make_learner, make_batch):
    learner = make_learner(
        Refusing,
        policies=dreamers("d"),
        run_eagerly=True,
        algorithm_config_overrides_per_module={"d": {"lr": 0.5}},
    )
    batch = make_batch(learner)["d"]
    learner.update(batch)
    (call,) = learner.module["d"]._calls
    assert set(call) == {"learner", "module_id", "config", "batch", "fwd_out"}
    assert call["learner"] is learner and call["module_id"] == "d"
    assert call["config"].lr == 0.5 and set(call["batch"]) == set(batch)
    assert set(call["fwd_out"]) == {"dream"}


@pytest.mark.deep_but_first
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_own_loss_is_trained_beside_the_algorithms(
    make_learner, make_batch, run_eagerly
):
    learner = make_learner(
        PPOTfLearner, policies={"p0": None} | dreamers("d"), run_eagerly=run_eagerly
    )
    before = learner.get_state("rl_module")["rl_module"]
    batch = make_batch(learner)
    batch["d"] = {Columns.OBS: batch["d"][Columns.OBS][:7]}
    results = learner.update(batch, minibatch_size=5)
    assert "policy_loss" in results["p0"] and "dream_error" in results["d"]
    assert "policy_loss" not in results["d"] and "curr_kl_coeff" not in results["d"]
    assert results["d"]["weights_seq_no"] == 1
    after = learner.get_state("rl_module")["rl_module"]
    for mid in ("p0", "d"):
        assert (after[mid]["000/kernel"] != before[mid]["000/kernel"]).any()


def test_own_loss_comes_and_goes_in_mid_training(make_learner, make_batch):
    learner = make_learner(PPOTfLearner, run_eagerly=True)
    spec = RLModuleSpec.from_module(learner.module[DEFAULT_MODULE_ID])
    learner.add_module(
        module_id="d",
        module_spec=dataclasses.replace(spec, module_class=Dreamer, model_config=None),
    )
    results = learner.update(make_batch(learner))
    assert "dream_error" in results["d"]
    state = learner.get_state()
    learner.set_state(state, force=True)
    learner.remove_module("d")
    assert "d" not in learner.update(make_batch(learner))


def test_observations_are_still_wanted(make_learner, make_batch):
    learner = make_learner(PPOTfLearner, policies=dreamers("d"), run_eagerly=True)
    batch = make_batch(learner)
    del batch["d"][Columns.OBS]
    before = learner_digest(learner)
    with pytest.raises(BatchError, match="'d'.*no column 'obs'"):
        learner.update(batch)
    assert learner_digest(learner) == before


def test_bad_own_loss_names_the_module(make_learner, make_batch):
    learner = make_learner(PPOTfLearner, policies=dreamers("d", "e"), run_eagerly=True)
    learner.module["e"].compute_self_supervised_loss = lambda **kwargs: None
    before = learner_digest(learner)
    with pytest.raises(LossError, match="loss for module 'e': got None, want a scalar"):
        learner.update(make_batch(learner))
    assert learner_digest(learner) == before


def test_module_without_what_the_loss_needs_rides_along(make_learner, make_batch):
    policies = {"plain": None} | dreamers("d")
    learner = make_learner(Demanding, policies=policies, run_eagerly=True)
    assert not learner.rl_module_is_compatible(learner.module["plain"])
    assert learner.get_optimizers_for_module("plain") == []
    before = learner.module["plain"].get_state()
    results = learner.update(make_batch(learner))  # Asks it for no loss.
    assert "total_loss" in results["d"] and "total_loss" not in results["plain"]
    for key, weight in learner.module["plain"].get_state().items():
        assert (weight == before[key]).all()


def test_loss_alone_does_not_make_a_module_of_another_framework_trainable(
    make_learner, make_batch
):
    class Foreign(RLModule, SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, **kwargs):
            raise AssertionError("not to be trained here")

        def get_state(self, components=None, *, not_components=None):
            return {}

        def set_state(self, state):
            pass

    policies = {"p0": None, "f": RLModuleSpec(module_class=Foreign)}
    learner = make_learner(PPOTfLearner, policies=policies, run_eagerly=True)
    results = learner.update(make_batch(learner))
    assert "total_loss" in results["p0"] and "total_loss" not in results["f"]


# What a traced loss does in Python.


class Counting(TfLearner):
    """A loss that does something to its learner, as `learner_config_dict` says."""

    def configure_optimizers_for_module(self, module_id, config=None):
        self.register_optimizer(
            module_id=module_id,
            optimizer=keras.optimizers.SGD(0.1),
            params=self.get_parameters(self.module[module_id]),
        )

    def compute_loss_for_module(self, *, fwd_out, **kwargs):
        loss = tf.reduce_mean(fwd_out["vf_preds"] ** 2)
        self.config.learner_config_dict["do"](self, loss)
        return loss


@pytest.mark.parametrize(
    ("do", "text"),
    [
        (lambda self, loss: setattr(self, "calls", 1), "changed self.calls"),
        (lambda self, loss: self.seen.append(1), "changed self.seen.*once"),
        (
            lambda self, loss: setattr(self, "loss", loss),
            "a tensor into self.loss.*log",
        ),
        (lambda self, loss: self.seen.append(loss), "a tensor into self.seen"),
        (lambda self, loss: self.counts.update(n=1), "changed self.counts"),
        (
            lambda self, loss: setattr(self.module["default_policy"], "calls", 1),
            r"changed self.module\['default_policy'\].calls",
        ),
    ],
)
def test_side_effects_of_a_traced_loss_are_one_warning(
    make_learner, make_batch, do, text
):
    learner = make_learner(Counting, learner_config_dict={"do": do})
    learner.seen, learner.counts = [], {"n": 0}
    with pytest.warns(UserWarning, match=text) as warned:
        learner.update(make_batch(learner), minibatch_size=5)
    assert len(warned) == 1
    learner.update(make_batch(learner), minibatch_size=5)  # Warnings are errors here.


def test_side_effects_of_a_loss_that_runs_line_by_line_are_its_own(
    make_learner, make_batch
):
    learner = make_learner(
        Counting,
        learner_config_dict={"do": lambda self, loss: self.seen.append(loss)},
        run_eagerly=True,
    )
    learner.seen = []
    learner.update(make_batch(learner), minibatch_size=5)
    assert len(learner.seen) == 4


# Losses of Keras layers.


def own_model(factor=0.01):
    model = keras.Sequential(
        [
            keras.layers.Dense(
                8, "tanh", kernel_regularizer=keras.regularizers.L2(factor)
            ),
            keras.layers.Dense(4, activity_regularizer=keras.regularizers.L1(factor)),
        ]
    )
    model.build((None, 4))
    return model


def test_losses_of_keras_layers_are_added(make_learner, make_batch):
    def make(**settings):
        model = {"model": own_model, "vf_share_layers": True}
        return make_learner(
            model_config=model, policies=["p0", "p1"], run_eagerly=True, **settings
        )

    class Plain(PPOTfLearner):
        """Leaves them out, and adds what they are by hand."""

        def _forward_and_losses(self, batch):
            fwd_out = self.module.forward_train(batch)
            losses = self.compute_losses(fwd_out=fwd_out, batch=batch)
            for module_id, own in batch.items():
                layers = [*self.module[module_id]._flatten_layers()]
                (first,) = (x for x in layers if getattr(x, "kernel_regularizer", 0))
                (second,) = (x for x in layers if x.activity_regularizer)
                outputs = second(first(own["obs"]))
                added = 0.01 * tf.reduce_sum(first.kernel**2)
                added += 0.01 * tf.reduce_sum(tf.abs(outputs)) / len(own["obs"])
                self.metrics.log_value((module_id, "by_hand"), added, window=1)
                losses[module_id] += added
            return fwd_out, losses

    learner, by_hand = make(), make(learner_class=Plain)
    results = learner.update(make_batch(learner))
    want = by_hand.update(make_batch(by_hand))
    for module_id in ("p0", "p1"):
        own = results[module_id]
        assert own["regularization_loss"] == pytest.approx(want[module_id]["by_hand"])
        assert own["total_loss"] == pytest.approx(want[module_id]["total_loss"])
        learnt, wanted = (x.module[module_id].get_state() for x in (learner, by_hand))
        for key, weight in learnt.items():
            assert weight == pytest.approx(wanted[key], abs=1e-6)
    assert "regularization_loss" not in want["p0"]


class AddsLoss(PPOTfRLModule):
    """Adds a loss of its own, while it acts, too."""

    def _forward(self, batch, **kwargs):
        self.add_loss(tf.constant(5.0))
        return super()._forward(batch, **kwargs)

    def _forward_train(self, batch, **kwargs):
        outputs = super()._forward_train(batch, **kwargs)
        self.add_loss(tf.reduce_mean(outputs["vf_preds"] ** 2))
        self.add_loss(tf.constant(2.0))
        return outputs


def test_losses_of_modules_are_those_of_training(make_learner, make_batch):
    spec = RLModuleSpec(module_class=AddsLoss)
    learner = make_learner(Switchable, rl_module_spec=spec)
    batch = make_batch(learner)
    learner.module[DEFAULT_MODULE_ID].forward_inference(batch[DEFAULT_MODULE_ID])
    for _ in range(2):
        values = learner.module[DEFAULT_MODULE_ID].compute_values(
            batch[DEFAULT_MODULE_ID]
        )
        own = learner.update(batch)[DEFAULT_MODULE_ID]
        want = 2.0 + float(tf.reduce_mean(values**2))
        assert own["regularization_loss"] == pytest.approx(want)


@pytest.mark.deep_but_first
@pytest.mark.parametrize("config_class", [DQNConfig, SACConfig])
def test_target_networks_have_no_losses(config_class):
    spaces = gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2)
    config = config_class(observation_space=spaces[0], action_space=spaces[1])
    config.rl_module(model_config={"model": own_model})
    config.framework(run_eagerly=True).debugging(seed=1)
    learner = config.build_learner()
    module = learner.module[DEFAULT_MODULE_ID]
    batch = random_transitions(module, 20)
    mains = [main for main, _ in module.get_target_network_pairs()]
    kernels = [w for w in module.trainable_weights if w.regularizer is not None]
    assert kernels and {id(w) for m in mains for w in m.weights} & {*map(id, kernels)}
    decay = sum(0.01 * float(tf.reduce_sum(w.value**2)) for w in kernels)
    before = learner.update(batch)[DEFAULT_MODULE_ID]["regularization_loss"]
    assert before > decay
    # What target networks put out changes nothing of it.
    learner = config.build_learner()
    for _, target in learner.module[DEFAULT_MODULE_ID].get_target_network_pairs():
        for weight in target.weights:
            weight.assign(100.0 * weight)
    after = learner.update(batch)[DEFAULT_MODULE_ID]["regularization_loss"]
    assert after == pytest.approx(before)
