"""The traced loop over minibatches: what it computes, and how often it is traced."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.data.minibatches import plan_minibatches
from tflearner.engine import compiled_update
from tflearner.errors import ConfigError, UsageError
from tflearner.learner.tf_learner import TfLearner
from tflearner.testing import assert_close

MODES = {
    "eager": {"run_eagerly": True},
    "plain": {"jit_compile": False},
    "xla": {"jit_compile": True},
}
SETTINGS = {
    "minibatch_size": 8,
    "num_epochs": 3,
    "shuffle_batch_per_epoch": True,
}


class Mean(TfLearner):
    """Its optimizer has momentum and is compiled in less time than Adam."""

    def configure_optimizers_for_module(self, module_id, config=None):
        self.register_optimizer(
            module_id=module_id,
            optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
            params=self.get_parameters(self.module[module_id]),
        )

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return tf.add_n([tf.reduce_mean(x**2) for x in fwd_out.values()])


def weights(learner):
    return tf.nest.flatten(learner.get_state("rl_module")["rl_module"])


def assert_same_weights(learner, other, atol=1e-6):
    for own, wanted in zip(weights(learner), weights(other), strict=True):
        assert_close(own, wanted, rtol=0, atol=atol)


# The same numbers, however it runs.


@pytest.fixture(scope="module")
def slow(make_learner, make_batch):
    """A PPO learner updated by a plain Python loop over the plan's minibatches."""
    learner = make_learner(lr=1e-3, grad_clip=0.5)
    batch = make_batch(learner, 21)["default_policy"]
    plan = plan_minibatches(
        {"default_policy": 21},
        minibatch_size=8,
        num_epochs=3,
        shuffle=True,
        rng=np.random.default_rng(learner.config.seed),
    )
    for rows in plan.indices["default_policy"]:
        minibatch = {c: tf.constant(column[rows]) for c, column in batch.items()}
        _, losses, logged = learner._update({"default_policy": minibatch})
    results = {key[-1]: float(values[-1]) for key, values in logged.items()}
    return learner, results | {"total_loss": float(losses["default_policy"])}


@pytest.mark.parametrize(
    "mode", ["eager", "plain", pytest.param("xla", marks=pytest.mark.deep)]
)
def test_every_mode_equals_a_slow_loop(slow, make_learner, make_batch, mode):
    learner = make_learner(lr=1e-3, grad_clip=0.5, **MODES[mode])
    results = learner.update(make_batch(learner, 21), **SETTINGS)["default_policy"]
    assert_same_weights(learner, slow[0])
    for name, wanted in slow[1].items():
        assert results[name] == pytest.approx(wanted, rel=1e-4, abs=1e-5), name
    assert learner.num_traces == (mode != "eager")
    assert learner.num_compilations == (mode == "xla")


class OwnUpdate(Mean):
    """Steps on twice the observations."""

    def _update(self, batch, **kwargs):
        doubled = {mid: {**own, "obs": 2.0 * own["obs"]} for mid, own in batch.items()}
        return super()._update(doubled, **kwargs)


class OwnLosses(Mean):
    def compute_losses(self, fwd_out, batch):
        losses = super().compute_losses(fwd_out=fwd_out, batch=batch)
        return {mid: 0.0 * loss + 42.0 for mid, loss in losses.items()}


class OwnGradients(Mean):
    def compute_gradients(self, loss_per_module, **kwargs):
        computed = super().compute_gradients(loss_per_module, **kwargs)
        return {ref: tf.zeros_like(gradient) for ref, gradient in computed.items()}


class OwnPostprocessing(Mean):
    def postprocess_gradients_for_module(self, *, module_gradients_dict, **kwargs):
        return {ref: 0.0 * g for ref, g in module_gradients_dict.items()}


class OwnApplying(Mean):
    def apply_gradients(self, gradients_dict):
        assert gradients_dict


@pytest.mark.parametrize(
    "own", [OwnLosses, OwnGradients, OwnPostprocessing, OwnApplying]
)
def test_overridden_hooks_decide(make_learner, make_batch, own):
    learner, untouched = (make_learner(own, run_eagerly=True) for _ in range(2))
    results = learner.update(make_batch(learner), minibatch_size=10)
    assert_same_weights(learner, untouched, atol=0)
    if own is OwnLosses:
        assert results["default_policy"]["total_loss"] == 42.0


def test_overridden_update_decides(make_learner, make_batch):
    learner, other = make_learner(OwnUpdate), make_learner(Mean, run_eagerly=True)
    batch = make_batch(learner)
    learner.update(batch, minibatch_size=10)
    batch["default_policy"]["obs"] = 2.0 * batch["default_policy"]["obs"]
    other.update(batch, minibatch_size=10)
    assert_same_weights(learner, other)


# Bounded numbers of programs.


def test_lengths_and_order_of_columns_do_not_retrace(make_learner, make_batch):
    learner = make_learner(Mean)
    for num_rows in (5, 6, 17, 40, 1):
        batch = make_batch(learner, num_rows)["default_policy"]
        learner.update(batch, minibatch_size=5)
        learner.update(dict(reversed(batch.items())), minibatch_size=5)
    assert learner.num_traces == 1 and learner.num_compilations == 0


def test_xla_compiles_few_shapes_and_padding_changes_nothing(make_learner, make_batch):
    xla, plain = make_learner(Mean, jit_compile="auto"), make_learner(Mean)
    for num_rows in (9, 16, 11, 30, 12):
        batch = make_batch(xla, num_rows)
        one = xla.update(batch, minibatch_size=4)["default_policy"]
        two = plain.update(batch, minibatch_size=4)["default_policy"]
        assert one["total_loss"] == pytest.approx(two["total_loss"], rel=1e-5)
    assert_same_weights(xla, plain)
    # 16 rows in 4 minibatches, and 32 in 8; both hold everything in between.
    assert xla.num_traces == 1 and xla.num_compilations == 2
    assert xla.describe_updates() == [
        "default_policy: XLA around the loop (dense layers)"
    ]


def test_smaller_batches_run_in_what_is_compiled_already(
    make_learner, make_batch, caplog
):
    learner = make_learner(Mean, jit_compile="auto")
    with caplog.at_level("INFO", logger="tflearner.engine.compiled_update"):
        for num_rows in (30, 12, 20):  # 32 rows in 8 minibatches also hold 16 in 4.
            learner.update(make_batch(learner, num_rows), minibatch_size=4)
    assert learner.num_compilations == 1
    assert "XLA around the loop (dense layers)" in caplog.text


def test_full_batches_share_one_plain_program(make_learner, make_batch):
    learner = make_learner(Mean, jit_compile=True)
    for num_rows in (5, 9, 20):
        learner.update(make_batch(learner, num_rows), num_epochs=2)
    assert learner.num_traces == 1 and learner.num_compilations == 0
    (line,) = learner.describe_updates()
    assert line == "default_policy: plain loop (minibatches vary in length)"


def test_full_batch_takes_every_row_of_every_module_once(make_learner, make_batch):
    class Rows(Mean):
        def compute_loss_for_module(self, *, module_id, batch, fwd_out, **kwargs):
            rows = tf.cast(tf.shape(batch["obs"])[0], tf.float32)
            self.metrics.log_value((module_id, "rows"), rows, window=1)
            self.metrics.log_value(
                (module_id, "mean"), tf.reduce_mean(batch["rewards"]), window=1
            )
            return tf.reduce_mean(fwd_out["vf_preds"])

    learner = make_learner(Rows, policies=["p0", "p1"], run_eagerly=True)
    batch = make_batch(learner, p0=10, p1=4)
    results = learner.update(batch)
    for mid, rows in (("p0", 10), ("p1", 4)):
        assert results[mid]["rows"] == rows
        mean = batch[mid]["rewards"].mean()
        assert results[mid]["mean"] == pytest.approx(mean, rel=1e-5)


def test_adding_and_removing_modules_retraces_no_set_that_stays(
    make_config, make_learner, make_batch
):
    learner = make_learner(Mean)
    spec = make_config().get_rl_module_spec()

    def update(**rows):
        learner.update(make_batch(learner, **rows), minibatch_size=5)
        return learner.num_traces

    assert update(default_policy=9) == 1
    learner.add_module(module_id="p", module_spec=spec)
    assert update(default_policy=10) == 1
    assert update(default_policy=10, p=7) == 2
    assert update(p=7, default_policy=10) == 2  # In another order.
    assert len(learner.describe_updates()) == 2
    learner.remove_module("p")
    assert update(default_policy=11) == 2
    (line,) = learner.describe_updates()
    assert line == "default_policy: plain loop (jit_compile=False)"


@pytest.mark.deep
def test_programs_that_are_not_used_any_more_are_dropped(
    make_learner, make_batch, monkeypatch
):
    monkeypatch.setattr(compiled_update, "MOST_PROGRAMS", 2)
    learner = make_learner(Mean)
    batch = make_batch(learner, 12)
    for size in (2, 3, 2, 4):
        learner.update(batch, minibatch_size=size)
    assert learner.num_traces == 3 and len(learner.describe_updates()) == 2
    learner.update(batch, minibatch_size=2)  # Used more lately than 3.
    assert learner.num_traces == 3


def test_eager_updates_trace_nothing(make_learner, make_batch):
    learner = make_learner(Mean, run_eagerly=True)
    learner.update(make_batch(learner), minibatch_size=5)
    assert learner.num_traces == 0 and learner.describe_updates() == []


# What losses log.


class Logging(Mean):
    """Logs the first "rewards" of its minibatch with every reduction."""

    def compute_loss_for_module(self, *, module_id, batch, **kwargs):
        value = batch["rewards"][0]
        for name, settings in (
            ("mean", {"ema_coeff": 0.5}),
            ("sum", {"reduce": "sum"}),
            ("round", {"reduce": "sum", "clear_on_reduce": True}),
            ("min", {"reduce": "min"}),
            ("max", {"reduce": "max"}),
            ("last", {"window": 1}),
            ("window", {"window": 3}),
            ("list", {"reduce": None}),
        ):
            self.metrics.log_value((module_id, name), value, **settings)
        self.metrics.log_value((module_id, "list"), -value)
        self.metrics.log_value("top", 7, reduce="sum")
        self.metrics.log_value((module_id, "sign"), value > 0, window=1)
        return super().compute_loss_for_module(
            module_id=module_id, batch=batch, **kwargs
        )


@pytest.mark.parametrize("mode", ["eager", "xla"])  # XLA pads 5 minibatches to 8.
def test_logged_tensors_arrive_one_per_minibatch(make_learner, make_batch, mode):
    learner = make_learner(Logging, **MODES[mode])
    batch = make_batch(learner, 25)["default_policy"]
    batch["rewards"][::5] = x = np.float32([1.5, -2.0, 4.0, 1.0, 3.0])
    results = learner.update(batch, minibatch_size=5)
    own = results["default_policy"]
    weights = np.array([1, 1, 2, 4, 8]) / 16  # Of an average that moves half the way.
    assert own["mean"] == pytest.approx(weights @ x)
    assert own["sum"] == own["round"] == x.sum()
    assert (own["min"], own["max"], own["last"]) == (-2.0, 4.0, 3.0)
    assert own["window"] == pytest.approx(x[-3:].mean())
    assert own["list"] == np.stack([x, -x], axis=1).ravel().tolist()
    assert results["top"] == 35 and own["sign"] == 1
    own = learner.update(batch, minibatch_size=5)["default_policy"]
    assert (own["sum"], own["round"]) == (2 * x.sum(), x.sum())
    assert len(own["list"]) == 10  # Lists end with every result.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda batch: batch["rewards"], r"'odd'.*shape \(10,\).*tf.reduce_mean"),
        (lambda batch: [1.0, 2.0], r"'odd'.*shape \(2,\)"),
        (lambda batch: "text", "'odd'.*'text'.*number"),
        (lambda batch: None, "'odd'.*None.*number"),
    ],
)
@pytest.mark.parametrize("mode", ["eager", "plain"])
def test_metric_that_is_no_scalar_is_an_error(
    make_learner, make_batch, mode, value, text
):
    class Odd(Mean):
        def compute_loss_for_module(self, *, module_id, batch, **kwargs):
            self.metrics.log_value((module_id, "odd"), value(batch))
            return super().compute_loss_for_module(
                module_id=module_id, batch=batch, **kwargs
            )

    learner = make_learner(Odd, **MODES[mode])
    with pytest.raises(UsageError, match=text):
        learner.update(make_batch(learner), minibatch_size=10)


# Where XLA helps, and where it does not.


class NumPyLoss(Mean):
    """XLA cannot compile a call back into Python."""

    def compute_loss_for_module(self, *, fwd_out, **kwargs):
        values = fwd_out["vf_preds"]
        weight = tf.numpy_function(lambda v: np.float32(2.0), [values], tf.float32)
        return tf.reshape(weight, []) * tf.reduce_mean(values**2)


def test_xla_that_cannot_is_given_up_with_one_warning(make_learner, make_batch):
    learner = make_learner(NumPyLoss, jit_compile="auto")
    eager = make_learner(NumPyLoss, run_eagerly=True)
    with pytest.warns(UserWarning, match="XLA cannot compile this update") as warned:
        learner.update(make_batch(learner), minibatch_size=5)
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.update(make_batch(learner), minibatch_size=5)
    for _ in range(2):
        eager.update(make_batch(learner), minibatch_size=5)
    assert_same_weights(learner, eager)
    assert learner.num_compilations == 0
    (line,) = learner.describe_updates()
    assert line == "default_policy: plain loop (XLA cannot compile it)"


def test_xla_that_cannot_but_must_is_an_error(make_learner, make_batch):
    learner = make_learner(NumPyLoss, jit_compile=True)
    untouched = make_learner(NumPyLoss)
    with pytest.raises(ConfigError, match='XLA cannot compile.*jit_compile="auto"'):
        learner.update(make_batch(learner), minibatch_size=5)
    assert_same_weights(learner, untouched, atol=0)


class Convolving(Mean):
    def compute_loss_for_module(self, *, fwd_out, **kwargs):
        x = fwd_out["action_dist_inputs"][:, :, None, None]
        return tf.reduce_mean(tf.nn.conv2d(x, tf.ones([1, 1, 1, 1]), 1, "SAME") ** 2)


@pytest.mark.deep_but_first
@pytest.mark.parametrize("jit_compile", ["auto", True])
def test_xla_compiles_the_step_alone_where_it_convolves(
    make_learner, make_batch, jit_compile
):
    learner = make_learner(Convolving, jit_compile=jit_compile)
    plain = make_learner(Convolving)
    for num_rows in (10, 40, 17):  # One program, whatever the batch.
        batch = make_batch(learner, num_rows)
        learner.update(batch, minibatch_size=5)
        plain.update(batch, minibatch_size=5)
    (line,) = learner.describe_updates()
    assert line == "default_policy: XLA per step, plain loop (convolutions)"
    assert learner.num_traces == learner.num_compilations == 1
    assert_same_weights(learner, plain)


def test_convolutions_inside_of_a_function_are_seen(make_learner, make_batch):
    class Nested(Convolving):
        def compute_loss_for_module(self, *, fwd_out, **kwargs):
            inner = super().compute_loss_for_module
            return tf.function(lambda x: inner(fwd_out=x), autograph=False)(fwd_out)

    learner = make_learner(Nested, jit_compile="auto")
    learner.update(make_batch(learner), minibatch_size=5)
    assert "convolutions" in learner.describe_updates()[0]


@pytest.mark.deep_but_first
@pytest.mark.parametrize(
    ("num_threads", "size", "mode"),
    [(1, 2048, "plain loop (wide"), (2, 2048, "XLA"), (1, 128, "XLA")],
)
def test_wide_products_on_one_thread_are_left_to_tensorflow(
    make_learner, make_batch, monkeypatch, num_threads, size, mode
):
    class Wide(Mean):
        def compute_loss_for_module(self, *, fwd_out, **kwargs):
            values = tf.ones([5, 2048]) * fwd_out["vf_preds"][:, None]
            return tf.reduce_mean(values @ tf.ones([2048, size]))

    monkeypatch.setattr(compiled_update, "num_threads", lambda: num_threads)
    learner = make_learner(Wide, jit_compile="auto")
    learner.update(make_batch(learner, 10), minibatch_size=5)
    assert mode in learner.describe_updates()[0]


@pytest.mark.deep
def test_step_that_xla_cannot_compile_goes_on_without(make_learner, make_batch):
    class Both(Convolving, NumPyLoss):
        def compute_loss_for_module(self, **kwargs):
            return Convolving.compute_loss_for_module(
                self, **kwargs
            ) + NumPyLoss.compute_loss_for_module(self, **kwargs)

    learner, plain = make_learner(Both, jit_compile="auto"), make_learner(Both)
    with pytest.warns(UserWarning, match="XLA cannot compile this update") as warned:
        learner.update(make_batch(learner), minibatch_size=5)
    assert len(warned) == 1 and learner.num_compilations == 0
    plain.update(make_batch(plain), minibatch_size=5)
    assert_same_weights(learner, plain)


def test_two_modules_learn_together_as_they_would_alone(make_learner, make_batch):
    def run(*ids):
        learner = make_learner(policies=["p0", "p1"], lr=1e-3, run_eagerly=True)
        batch = make_batch(learner, p0=20, p1=20)
        learner.update({mid: batch[mid] for mid in ids}, minibatch_size=10)
        return {mid: learner.module[mid].get_state() for mid in ids}

    both, alone = run("p0", "p1"), run("p0") | run("p1")
    tf.nest.map_structure(lambda a, b: assert_close(a, b), both, alone)
