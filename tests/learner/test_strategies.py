"""Learning on several devices gives the weights that one device gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPO, PPOTfLearner
from tflearner.checkpoint.matching import match
from tflearner.errors import ConfigError, ExportError, OptimizerError, UsageError
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.default_model_config import DefaultModelConfig

# Of gradients whose parts are added up in another order.
ATOL = 1e-6

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "adam": lambda: keras.optimizers.Adam(0.01),
}


def mirrored(num_devices):
    devices = [f"CPU:{i}" for i in range(num_devices)]
    # TensorFlow's collectives refuse two strategies of unlike sizes in one process.
    cross_device_ops = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops)


class OwnOptimizer(PPOTfLearner):
    """PPO with the optimizer that `learner_config_dict` names."""

    def configure_optimizers_for_module(self, module_id, config=None):
        make = self.config.learner_config_dict["optimizer"]
        params = self.get_parameters(self.module[module_id])
        self.register_optimizer(module_id=module_id, optimizer=make(), params=params)


def weights_of(learner):
    state = learner.get_state(components=["rl_module", "optimizer"])
    return tf.nest.flatten([state["rl_module"], state["optimizer"]])


def assert_same(learner, other, atol=ATOL):
    for ours, theirs in zip(weights_of(learner), weights_of(other), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol)


# Every pair of: devices, optimizer, clipping, modules.
@pytest.mark.parametrize(
    ("num_devices", "optimizer", "clip_by", "module_ids"),
    [
        (2, "sgd", None, ["p0"]),
        *[
            pytest.param(*case, marks=pytest.mark.deep)
            for case in [
                (2, "adam", "value", ["p0", "p1"]),
                (4, "sgd", "norm", ["p0", "p1"]),
                (4, "adam", "global_norm", ["p0"]),
                (2, "sgd", "global_norm", ["p0", "p1"]),
                (4, "sgd", "value", ["p0"]),
                (2, "adam", "norm", ["p0"]),
                (4, "adam", None, ["p0", "p1"]),
            ]
        ],
    ],
)
def test_replicas_give_the_weights_of_one_device(
    make_learner, make_batch, num_devices, optimizer, clip_by, module_ids
):
    def run(**settings):
        learner = make_learner(
            OwnOptimizer,
            **settings,
            policies=module_ids,
            grad_clip=None if clip_by is None else 0.01,
            grad_clip_by=clip_by or "value",
            learner_config_dict={"optimizer": OPTIMIZERS[optimizer]},
        )
        rows = dict(zip(module_ids, (24, 13)))
        results = learner.update(
            make_batch(learner, **rows),
            num_epochs=2,
            minibatch_size=8,
            shuffle_batch_per_epoch=True,
        )
        return learner, results

    one, results_of_one = run(run_eagerly=True)
    several, results = run(strategy=mirrored(num_devices))
    assert_same(several, one)
    for module_id in module_ids:
        assert results[module_id].keys() == results_of_one[module_id].keys()
        for name, value in results_of_one[module_id].items():
            if name != "vf_explained_var":  # It is that of the parts, averaged.
                assert results[module_id][name] == pytest.approx(value, abs=1e-5), name
    (line,) = several.describe_updates()
    assert f"plain loop on {num_devices} devices" in line


class Weighing(PPOTfLearner):
    """Logs with every reduction."""

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        rows = batch["rewards"]
        for name, value in (
            ("mean", tf.reduce_mean(rows)),
            ("sum", tf.reduce_sum(rows)),
            ("min", tf.reduce_min(rows)),
            ("max", tf.reduce_max(rows)),
        ):
            self.metrics.log_value((module_id, name), value, reduce=name, window=1)
        return super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )


@pytest.mark.parametrize(
    "run_eagerly", [pytest.param(False, marks=pytest.mark.deep), True]
)
def test_parts_of_unlike_size_weigh_as_many_rows_as_they_have(
    make_learner, make_batch, run_eagerly
):
    settings = {"run_eagerly": run_eagerly, "lr": 0.01}
    one = make_learner(Weighing, **settings)
    several = make_learner(Weighing, strategy=mirrored(2), **settings)
    batch = make_batch(one, 7)["default_policy"]  # 3 rows and 4 of them.
    results = [learner.update(batch)["default_policy"] for learner in (one, several)]
    for name in ("mean", "sum", "min", "max", "total_loss", "policy_loss"):
        assert results[1][name] == pytest.approx(results[0][name], rel=1e-5), name
    assert_same(several, one)


def test_rows_of_one_device_that_are_not_finite_stop_the_step_on_all(
    make_learner, make_batch
):
    class Roots(TfLearner):
        def compute_loss_for_module(self, *, batch, fwd_out, **kwargs):
            return tf.reduce_mean(fwd_out["vf_preds"] * tf.sqrt(batch["rewards"]))

    learner = make_learner(Roots, strategy=mirrored(2), batch_checks="off")
    before = weights_of(learner)
    batch = make_batch(learner, 8)["default_policy"]
    batch["rewards"] = np.float32([1, 1, 1, 1, 1, 1, 1, -1])
    own = learner.update(batch)["default_policy"]
    assert own["num_non_finite_updates_lifetime"] == 1
    for now, then in zip(weights_of(learner), before, strict=True):
        np.testing.assert_array_equal(now, then)
    batch["rewards"][:] = 1.0
    own = learner.update(batch)["default_policy"]
    assert own["num_non_finite_updates_lifetime"] == 1
    assert any((a != b).any() for a, b in zip(weights_of(learner), before))


@pytest.mark.deep
def test_modules_come_and_go_and_state_moves_between_numbers_of_devices(
    make_learner, make_config, make_batch, tmp_path
):
    several = make_learner(strategy=mirrored(2), lr=0.01)
    spec = make_config().get_rl_module_spec()
    several.add_module(module_id="p1", module_spec=spec)
    batch = make_batch(several, default_policy=8, p1=8)
    several.update(batch, minibatch_size=4)
    several.save_to_path(tmp_path)

    one = PPOTfLearner.from_checkpoint(tmp_path)
    assert one.config.strategy is None and one._replicas.num == 1
    assert_same(one, several, atol=0)
    for learner in (one, several):
        learner.update(batch, minibatch_size=4)
    assert_same(one, several)
    several.restore_from_path(tmp_path)
    one.restore_from_path(tmp_path)
    assert_same(one, several, atol=0)
    assert not match(
        one.get_state("optimizer"), several.get_state("optimizer")
    ).problems
    several.remove_module("p1")
    several.update({"default_policy": batch["default_policy"]}, minibatch_size=4)


@pytest.mark.deep
def test_algorithm_runs_evaluates_and_exports_on_several_devices(tmp_path):
    algo = PPO(
        "CartPole-v1",
        strategy=mirrored(2),
        num_envs_per_env_runner=2,
        train_batch_size_per_learner=64,
        minibatch_size=16,
        num_epochs=1,
        model_config=DefaultModelConfig(fcnet_hiddens=[8]),
        seed=0,
    )
    algo.fit(128, verbose=0)
    assert algo.evaluate(episodes=2).episode_return_mean >= 8.0
    report = algo.export(tmp_path / "policy")
    assert report.max_difference < 1e-5
    with pytest.raises(ExportError, match="on 2 devices.*single device"):
        algo.export(tmp_path / "learns", include_update=True)
    algo.stop()


# Bad input.


@pytest.mark.parametrize(
    ("rows", "settings", "text"),
    [
        (20, {"minibatch_size": 5}, "minibatch_size: got 5, want a multiple of 2.*6"),
        (20, {"minibatch_size": 1}, "minibatch_size: got 1, want a multiple of 2.*2"),
        (1, {}, "minibatches of 1 rows.*one for each of 2 devices"),
    ],
)
def test_minibatches_that_devices_cannot_share_are_refused(
    make_learner, make_batch, rows, settings, text
):
    learner = make_learner(strategy=mirrored(2))
    before = weights_of(learner)
    with pytest.raises(UsageError, match=text):
        learner.update(make_batch(learner, rows), **settings)
    for now, then in zip(weights_of(learner), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"num_gpus_per_learner": 2}, "got 0 GPUs.*want GPU 0, 1.*on the CPU"),
        ({"num_gpus_per_learner": 1, "local_gpu_idx": 3}, "want GPU 3"),
        ({"num_gpus_per_learner": -1}, "num_gpus_per_learner.*-1"),
        ({"local_gpu_idx": -1}, "local_gpu_idx.*-1"),
        ({"strategy": mirrored, "jit_compile": True}, "jit_compile=True.*exchange"),
        ({"strategy": "mirrored"}, "got str, want one of MirroredStrategy"),
        (
            {"strategy": tf.distribute.get_strategy, "num_gpus_per_learner": 1},
            "both strategy and num_gpus",
        ),
    ],
)
def test_devices_that_do_not_exist_are_refused(make_learner, settings, text):
    if settings.get("strategy") is mirrored:
        settings = settings | {"strategy": mirrored(2)}
    with pytest.raises(ConfigError, match=text):
        make_learner(**settings)


@pytest.mark.deep
def test_zero_gpus_are_the_cpu(make_learner, make_batch):
    learner = make_learner(
        OwnOptimizer,
        learner_config_dict={"optimizer": OPTIMIZERS["sgd"]},
        num_gpus_per_learner=0,
        jit_compile="auto",
    )
    assert learner.device.endswith("CPU:0") and not learner.distributed
    learner.update(make_batch(learner), minibatch_size=5)
    assert "XLA around the loop (dense layers)" in learner.describe_updates()[0]


def test_variables_made_outside_of_the_strategy_are_refused(make_config):
    config = make_config(strategy=mirrored(2))
    module = make_config().get_rl_module_spec().build()
    learner = PPOTfLearner(config=config, module=module)
    with pytest.raises(UsageError, match="outside of the learner's strategy.*scope"):
        learner.build()
    with config.strategy.scope():
        module = make_config().get_rl_module_spec().build()
    PPOTfLearner(config=config, module=module).build()


def test_strategy_made_after_the_variables_is_refused(make_config):
    strategy = mirrored(2)
    with strategy.scope():
        module = make_config().get_rl_module_spec().build()
    learner = PPOTfLearner(config=make_config(), module=module)
    with pytest.raises(UsageError, match="outside of the learner's strategy"):
        learner.build()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: keras.optimizers.SGD(gradient_accumulation_steps=2),
            "gradient_accumulation_steps=2 with several devices.*minibatch_size",
        ),
        (
            lambda: keras.optimizers.SGD(use_ema=True, ema_overwrite_frequency=3),
            "ema_overwrite_frequency=3 with several devices.*finalize",
        ),
        (
            lambda: keras.optimizers.SGD(clipnorm=0.1),
            "clipnorm=0.1 with several devices.*grad_clip",
        ),
    ],
)
def test_optimizers_that_cannot_step_on_several_devices_are_refused(
    make_config, make, text
):
    config = make_config(
        strategy=mirrored(2),
        learner_class=OwnOptimizer,
        learner_config_dict={"optimizer": make},
    )
    with pytest.raises(OptimizerError, match=text):
        config.build_learner()


def test_optimizer_made_outside_of_the_strategy_is_refused(make_config):
    optimizer = keras.optimizers.SGD(0.1)
    config = make_config(
        strategy=mirrored(2),
        learner_class=OwnOptimizer,
        learner_config_dict={"optimizer": lambda: optimizer},
    )
    with pytest.raises(OptimizerError, match="outside of MirroredStrategy.*scope"):
        config.build_learner()


def test_own_variable_made_outside_of_the_strategy_is_refused(make_config):
    class Own(PPOTfLearner):
        def configure_optimizers_for_module(self, module_id, config=None):
            own = keras.Variable(1.0) if outside is None else outside
            self.register_optimizer(
                module_id=module_id, optimizer=keras.optimizers.SGD(), params=[own]
            )

    outside = keras.Variable(1.0)
    config = make_config(strategy=mirrored(2), learner_class=Own)
    with pytest.raises(UsageError, match="outside of the learner's strategy"):
        config.build_learner()
    outside = None
    config.build_learner()


def test_checkpoints_do_not_say_where_a_run_was(make_learner, tmp_path):
    learner = make_learner(num_gpus_per_learner=0, compile_cache=None, local_gpu_idx=1)
    learner.config.learners(num_gpus_per_learner=2)
    learner.config.framework(compile_cache=tmp_path / "cache")
    learner.save_to_path(tmp_path / "saved")
    again = PPOTfLearner.from_checkpoint(tmp_path / "saved")
    wanted = ("num_gpus_per_learner", "local_gpu_idx", "compile_cache")
    assert again.restore_report.dropped == wanted
    config = again.config
    assert config.num_gpus_per_learner is None and config.local_gpu_idx == 0
    assert config.compile_cache is None


def test_strategies_that_are_not_supported_are_refused(make_learner):
    strategy = tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"])
    with pytest.raises(ConfigError, match="CentralStorageStrategy.*MirroredStrategy"):
        make_learner(strategy=strategy)
