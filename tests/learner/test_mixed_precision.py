"""Learners of modules that compute in half precision: same law, fewer digits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOConfig, PPOTfLearner
from tflearner.columns import Columns
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module_spec import RLModuleSpec

ME = "default_policy"
PARTS = ("rl_module", "optimizer")
FIRST_SCALE = 2.0**15
# Of a gradient, relative to its norm.
ERRORS = {"bfloat16": 2e-2, "float16": 2e-3}
every_dtype = pytest.mark.parametrize("dtype", ERRORS)
NORM = "gradients_default_optimizer_global_norm"


@pytest.fixture(autouse=True)
def global_policy():
    """Gives the global dtype policy back as it was."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


class Sgd(PPOTfLearner):
    """Steps by the gradient itself, so that steps are compared as gradients are."""

    def configure_optimizers_for_module(self, module_id, config=None):
        params = self.get_parameters(self.module[module_id])
        optimizer = keras.optimizers.SGD(1.0)
        if "float16" in self.module[module_id].compute_dtypes():
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params)


class Multiplied(PPOTfLearner):
    """Multiplies losses by a number that the test sets."""

    def build(self):
        super().build()
        self.factor = self._get_tensor_variable(1.0)

    def compute_loss_for_module(self, *, module_id, **kwargs):
        loss = super().compute_loss_for_module(module_id=module_id, **kwargs)
        return loss * self.factor if module_id in (ME, "p0") else loss


@pytest.fixture
def build(make_learner):
    """Returns a function from a dtype, a class and settings to a learner."""

    def make(dtype, learner_class=None, **settings):
        name = "float32" if dtype == "float32" else f"mixed_{dtype}"
        keras.config.set_dtype_policy(name)
        return make_learner(learner_class, **settings)

    return make


def weights(learner, module_id=ME):
    return learner.get_state("rl_module")["rl_module"][module_id]


def steps(learner, batch, **how):
    """The change of all weights by an update, as one vector, and its results."""
    before = weights(learner)
    results = learner.update(batch, **how)[ME]
    after = weights(learner)
    changes = [np.ravel(after[key] - before[key]) for key in before]
    return np.concatenate(changes), results


def scale_of(learner, module_id=ME):
    return float(learner.get_optimizer(module_id).dynamic_scale.numpy())


def set_weights_of(learner, other):
    learner.set_state(other.get_state("rl_module"), force=True)


# Training.


@pytest.mark.deep_but_first
@pytest.mark.parametrize(
    ("dtype", "jit_compile"), [("float16", False), ("bfloat16", True)]
)
def test_training_lowers_the_loss(build, make_batch, dtype, jit_compile):
    learner = build(dtype, lr=1e-2, jit_compile=jit_compile)
    batch = make_batch(learner, 32)
    first = learner.update(batch)[ME]["total_loss"]
    last = learner.update(batch, num_epochs=60)[ME]["total_loss"]
    assert last < 0.8 * first
    module = learner.module[ME]
    assert {weight.dtype for weight in module.weights} == {"float32"}
    outputs = module.forward_train({Columns.OBS: batch[ME][Columns.OBS]})
    assert {x.dtype for x in outputs.values()} == {tf.float32}
    assert {array.dtype for array in weights(learner).values()} == {np.dtype("f4")}


@every_dtype
def test_a_step_is_that_of_float32_within_rounding(build, make_batch, dtype):
    full, half = (build(d, Sgd, run_eagerly=True) for d in ("float32", dtype))
    set_weights_of(half, full)
    batch = make_batch(full, 64)
    wanted, _ = steps(full, batch)
    got, _ = steps(half, batch)
    error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    assert 0.0 < error < ERRORS[dtype]


@every_dtype
def test_all_is_keyed_by_the_refs_of_float32_variables(build, make_batch, dtype):
    class Split(PPOTfLearner):
        """One optimizer for the value head, one for the rest."""

        def configure_optimizers_for_module(self, module_id, config=None):
            module = self.module[module_id]
            heads = module.vf.trainable_variables
            rest = [*module.encoder.trainable_variables, *module.pi.trainable_variables]
            for name, params in (("vf", heads), ("rest", rest)):
                self.register_optimizer(
                    module_id=module_id,
                    optimizer_name=name,
                    optimizer=keras.optimizers.Adam(),
                    params=params,
                    lr_or_lr_schedule=0.01,
                )

    learner = build(dtype, Split, run_eagerly=True)
    module = learner.module[ME]
    params = learner.get_parameters(module)
    by_ref = {learner.get_param_ref(param): param for param in params}
    assert by_ref.keys() == module.weight_keys().keys()
    optimizer = learner.get_optimizer(ME, "vf")
    own = learner.filter_param_dict_for_optimizer(by_ref, optimizer)
    assert [*own] == [v.value.ref() for v in module.vf.trainable_variables]
    before = weights(learner)
    learner.update(make_batch(learner))
    for key, weight in weights(learner).items():
        assert (weight != before[key]).any(), key


# Loss scaling.


def test_optimizers_scale_losses_for_float16_alone(build):
    scaling = keras.optimizers.LossScaleOptimizer
    for dtype in ("float32", "bfloat16", "float16"):
        optimizer = build(dtype).get_optimizer(ME)
        assert isinstance(optimizer, scaling) == (dtype == "float16"), dtype
    assert scale_of(build("float16")) == FIRST_SCALE


@pytest.mark.parametrize(
    ("dtype", "clip_by"),
    [("bfloat16", "global_norm"), ("float16", "global_norm"), ("float16", "value")],
)
def test_clipping_acts_on_unscaled_gradients(build, make_batch, dtype, clip_by):
    clip = 1e-2 if clip_by == "value" else 0.05
    settings = {"grad_clip": clip, "grad_clip_by": clip_by, "log_gradients": True}
    settings["run_eagerly"] = True
    full, half = (build(d, Sgd, **settings) for d in ("float32", dtype))
    set_weights_of(half, full)
    batch = make_batch(full, 64)
    wanted, by_float32 = steps(full, batch)
    got, results = steps(half, batch)
    assert results[NORM] == pytest.approx(by_float32[NORM], rel=ERRORS[dtype])
    assert results[NORM] > 2 * clip  # There is something to clip.
    assert np.linalg.norm(got - wanted) < 2 * ERRORS[dtype] * np.linalg.norm(wanted)
    if clip_by == "value":
        assert np.abs(got).max() == pytest.approx(clip, rel=1e-4)
    if clip_by == "global_norm":
        assert np.linalg.norm(got) == pytest.approx(clip, rel=1e-3)


def test_small_gradients_need_the_loss_scale(build, make_batch):
    """Gradients of 1e-7 and less are lost in float16, unless losses are scaled."""

    class Tiny(Sgd):
        def compute_loss_for_module(self, **kwargs):
            return 1e-6 * super().compute_loss_for_module(**kwargs)

    class Unscaled(Tiny):
        def configure_optimizers_for_module(self, module_id, config=None):
            self.register_optimizer(
                module_id=module_id,
                optimizer=keras.optimizers.SGD(1.0),
                params=self.get_parameters(self.module[module_id]),
            )

    errors = {}
    settings = {"log_gradients": True, "run_eagerly": True}
    full = build("float32", Tiny, **settings)
    start, batch = full.get_state("rl_module"), make_batch(full, 64)
    wanted = full.update(batch)[ME][NORM]
    for cls in (Tiny, Unscaled):
        half = build("float16", cls, **settings)
        half.set_state(start, force=True)
        errors[cls] = abs(half.update(batch)[ME][NORM] / wanted - 1.0)
    assert errors[Tiny] < 2e-3 and errors[Unscaled] > 5e-3, errors


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (4, {}),
        pytest.param(
            4,
            {"grad_clip": 1.0, "grad_clip_by": "global_norm", "jit_compile": True},
            marks=pytest.mark.deep,
        ),
        # Gradients of one head for one row are infinite, nowhere NaN.
        (1, {"grad_clip": 1.0, "grad_clip_by": "value", "vf_loss_coeff": 0.0}),
    ],
)
def test_ten_overflowing_steps_lower_the_scale_ten_times(
    build, make_batch, size, settings
):
    learner = build("float16", Multiplied, lr=1e-2, **settings)
    batch = make_batch(learner, 10 * size)
    learner.update(batch, minibatch_size=size)  # Now there are slots to keep.
    before = learner.get_state(PARTS)
    learner.factor.assign(1e30)
    results = learner.update(batch, minibatch_size=size)[ME]
    assert results["num_non_finite_updates_lifetime"] == 10
    assert scale_of(learner) == FIRST_SCALE / 2.0**10
    after = learner.get_state(PARTS)
    np.testing.assert_equal(after["rl_module"], before["rl_module"])
    slots, slots_before = (
        state["optimizer"][ME]["default_optimizer"] for state in (after, before)
    )
    changed = {key for key in slots if (slots[key] != slots_before[key]).any()}
    # The loss scale, and the number of steps since its last change.
    assert len(changed) == 2 and all(key.startswith("other/") for key in changed)
    learner.factor.assign(1.0)
    results = learner.update(batch, minibatch_size=size)[ME]
    assert results["num_non_finite_updates_lifetime"] == 10
    assert scale_of(learner) == FIRST_SCALE / 2.0**10
    for key, weight in weights(learner).items():
        moved = (weight != before["rl_module"][ME][key]).any()
        assert moved or settings.get("vf_loss_coeff") == 0.0, key


def test_a_float32_module_never_notices_one_that_overflows(build, make_batch):
    """Loss scales are powers of two, so that scaling costs others no digit."""

    def trained(*module_ids):
        learner = build("float32", Multiplied, policies=["p1"], run_eagerly=True)
        spec = RLModuleSpec.from_module(learner.module["p1"])
        keras.config.set_dtype_policy("mixed_float16")
        learner.add_module(module_id="p0", module_spec=spec)
        learner.factor.assign(1e30)
        batch = make_batch(learner, p1=20, p0=20)
        batch = {module_id: batch[module_id] for module_id in module_ids}
        learner.update(batch, minibatch_size=10)
        return learner

    beside, alone = trained("p0", "p1"), trained("p1")
    assert scale_of(beside, "p0") == FIRST_SCALE / 2.0**2
    assert scale_of(alone, "p0") == FIRST_SCALE
    np.testing.assert_equal(weights(beside, "p1"), weights(alone, "p1"))
    np.testing.assert_equal(weights(beside, "p0"), weights(alone, "p0"))


# Checkpoints.


def test_a_checkpoint_keeps_the_loss_scale(build, make_batch, tmp_path):
    learner = build("float16", Multiplied, lr=1e-2, run_eagerly=True)
    batch = make_batch(learner, 20)
    learner.factor.assign(1e30)
    learner.update(batch, minibatch_size=4)
    learner.factor.assign(1.0)
    learner.update(batch, minibatch_size=4)
    learner.save_to_path(tmp_path)
    other = build("float16", Multiplied, lr=1e-2, run_eagerly=True)
    other.restore_from_path(tmp_path)
    assert scale_of(other) == scale_of(learner) == FIRST_SCALE / 2.0**5
    for each in (learner, other):
        each.update(batch, minibatch_size=4)
    np.testing.assert_equal(other.get_state(PARTS), learner.get_state(PARTS))


@every_dtype
def test_weights_of_float32_learners_fit(build, tmp_path, dtype):
    full = build("float32")
    full.save_to_path(tmp_path)
    half = build(dtype, seed=2)
    half.restore_from_path(tmp_path, component="rl_module")
    np.testing.assert_equal(weights(half), weights(full))


# Whole runs.


def test_an_algorithm_acts_and_learns(capsys):
    keras.config.set_dtype_policy("mixed_float16")
    config = PPOConfig().environment("CartPole-v1").debugging(seed=1)
    config.env_runners(num_envs_per_env_runner=4).framework(jit_compile=False)
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=(16,)))
    config.training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=2)
    algorithm = config.build_algo()
    results = algorithm.train()["learners"][ME]
    assert np.isfinite(results["total_loss"])
    # The first minibatch's ratios are 1, the others moved a little.
    assert abs(results["mean_kl_loss"]) < 0.05
    algorithm.summary()
    assert "one TensorFlow function, in float16" in capsys.readouterr().out
    algorithm.stop()
