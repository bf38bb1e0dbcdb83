"""Tests for `tflearner.learner.exported_update`.

Learners of several kinds are exported in mid-training and go on for some gradient
steps; one program that can import TensorFlow but not this library does the same steps
with the SavedModels.
"""

import json
import subprocess
import sys
import types

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
import tree

from tflearner.algorithms.dqn import DQNConfig
from tflearner.algorithms.sac import SACConfig
from tflearner.columns import Columns
from tflearner.engine.optimizers import param_ref
from tflearner.errors import BatchError, ExportError
from tflearner.learner import exported_update
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.apis import TargetNetworkAPI
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.networks.squashed_gaussian import SquashedGaussian
from tflearner.testing import assert_close, random_batch, random_transitions

ROWS = (20, 7, 1, 33)  # Of each step: any number will do.
DISCRETE = (gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2))
CONTINUOUS = (
    gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
    gym.spaces.Box(-2.0, 2.0, (2,), np.float32),
)

PROGRAM = """
import json, sys

for name in ("tflearner", "tensorflow_probability", "gymnasium"):
    sys.modules[name] = None  # So that importing them fails.
import numpy as np
import tensorflow as tf


def nested(arrays, spec, *path):
    if "dtype" in spec:
        return tf.constant(arrays["/".join(path)], spec["dtype"])
    return {key: nested(arrays, spec[key], *path, key) for key in spec}


def flat(columns, prefix):
    if not isinstance(columns, dict):
        return {prefix: columns}
    parts = [flat(part, f"{prefix}_{key}") for key, part in columns.items()]
    return {key: value for part in parts for key, value in part.items()}


for directory in sys.argv[2:]:
    loaded = tf.saved_model.load(f"{directory}/export")
    spec = json.load(open(f"{directory}/export/spec.json"))["update"]
    obs = np.load(f"{directory}/obs.npy")
    state = (loaded.initial_state(len(obs)),) if hasattr(loaded, "initial_state") else ()
    endpoint = loaded.value if hasattr(loaded, "value") else loaded.act_greedy
    result = {"value_before": endpoint(obs, *state).numpy()}
    for step in range(int(sys.argv[1])):
        columns = nested(np.load(f"{directory}/{step}.npz"), spec["columns"])
        if step == 1:
            metrics = loaded.signatures["update"](**flat(columns, "columns"))
        else:
            metrics = loaded.update(columns)
        result |= {f"metrics{step}/{key}": metrics[key].numpy() for key in metrics}
    result["value"] = endpoint(obs, *state).numpy()
    for name in ("trainable_variables", "optimizer_variables"):
        pairs = zip(spec[name], getattr(loaded, name), strict=True)
        result |= {f"{name}/{key}": variable.numpy() for key, variable in pairs}
    for name in [name for name in ("advantages", "rewards") if name in columns][:1]:
        sick = loaded.update(columns | {name: columns[name] * np.nan})
        result["num_sick"] = sick["num_non_finite_updates_lifetime"].numpy()
        for key, variable in zip(spec["trainable_variables"], loaded.trainable_variables):
            result[f"after_sick/{key}"] = variable.numpy()
    np.savez(f"{directory}/result.npz", **result)
"""


class Cloning(TfLearner):
    """An own loss with a coefficient, a counter, and a metric that is logged twice."""

    def build(self):
        super().build()
        self.coefficient = self._get_tensor_variable(0.5)
        self.num_steps = self._get_tensor_variable(0)

    def configure_optimizers_for_module(self, module_id, config=None):
        self.register_optimizer(
            module_id=module_id,
            optimizer=keras.optimizers.SGD(momentum=0.9),
            params=self.get_parameters(self.module[module_id]),
            lr_or_lr_schedule=0.05,
        )

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        inputs = fwd_out[Columns.ACTION_DIST_INPUTS]
        dist_class = self.module[module_id].get_train_action_dist_cls()
        logp = dist_class.from_logits(inputs).logp(batch[Columns.ACTIONS])
        self.num_steps.assign_add(1)
        for value in (3.0, 4.0):
            self.metrics.log_value((module_id, "twice", "sum"), value, reduce="sum")
            self.metrics.log_value((module_id, "last"), value, window=1)
        self.metrics.log_value((module_id, "mean"), tf.reduce_mean(logp), window=1)
        return -self.coefficient * tf.reduce_mean(logp)


KINDS = {
    "ppo": {"policies": ["p0", "p1"], "grad_clip": 0.5},
    "own": {"spaces": CONTINUOUS, "learner_class": Cloning, "free_log_std": True},
    "lstm": {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 3},
    "dqn": {"config_class": DQNConfig, "target_network_update_freq": 0, "tau": 0.3},
    "sac": {"config_class": SACConfig, "spaces": CONTINUOUS, "tau": 0.3},
}
WITHOUT_VALUES = ("dqn", "sac")


def own_module(learner):
    return [*learner.module][-1]


def make_of_kind(make_config, spaces=None, learner_class=None, **settings):
    names = ("use_lstm", "lstm_cell_size", "max_seq_len", "free_log_std")
    model = {name: settings.pop(name) for name in names if name in settings}
    settings |= {"lr": 1e-2, "learner_class": learner_class}
    if "config_class" in settings:
        return make_that_replays(spaces or DISCRETE, **settings)
    # What moves the coefficient of the KL term between updates stays behind.
    settings |= {"use_kl_loss": False}
    config = make_config(**({"spaces": spaces} if spaces else {}), **settings)
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8], **model))
    return config.build_learner()


def make_that_replays(spaces, config_class, **settings):
    config = config_class(observation_space=spaces[0], action_space=spaces[1])
    config.update_from_dict({"jit_compile": False, "seed": 1} | settings)
    return config.rl_module(model_config={"fcnet_hiddens": [8]}).build_learner()


def make_batch(module, rows, seed):
    if not isinstance(module, TargetNetworkAPI):
        return random_batch(module, rows, seed=seed)
    batch = random_transitions(module, rows, seed=seed)
    if isinstance(module.action_space, gym.spaces.Box):
        rng = np.random.default_rng(seed)
        for name in (Columns.NOISE, Columns.NEXT_NOISE):  # Or the two draw their own.
            batch[name] = rng.standard_normal((rows, 2), np.float32)
    return batch


def save_columns(path, columns):
    pairs = tree.flatten_with_path(dict(columns))
    np.savez(path, **{"/".join(key): value for key, value in pairs})


def train_here(learner, directory):
    """Exports after two updates, and takes the steps that the program will take."""
    module_id = own_module(learner)
    module = learner.module[module_id].unwrapped()

    def batch(rows, seed):
        return make_batch(module, rows, seed)

    for seed in (100, 101):
        learner.update_from_batch({module_id: batch(16, seed)})
    directory.mkdir()
    obs = np.random.default_rng(0).uniform(-1, 1, (9, 4)).astype(np.float32)
    np.save(directory / "obs.npy", obs)
    report = learner.export(
        directory / "export", module_id=module_id, include_update=True
    )
    metrics = []
    for step, rows in enumerate(ROWS):
        save_columns(directory / f"{step}.npz", batch(rows, step))
        results = learner.update_from_batch({module_id: batch(rows, step)})
        metrics.append(results[module_id])
    columns = {Columns.OBS: obs}
    if module.is_stateful():
        columns = {
            Columns.OBS: obs[:, None],
            Columns.STATE_IN: tree.map_structure(
                lambda x: np.repeat(x[None], len(obs), axis=0),
                module.get_initial_state(),
            ),
        }
    state = learner.get_state()
    keys = module.weight_keys()
    trained = [keys[param_ref(param)] for param in learner.get_parameters(module)]
    if isinstance(module, TargetNetworkAPI):
        inputs = module.forward_inference(columns)[Columns.ACTION_DIST_INPUTS]
        dist_class = module.get_inference_action_dist_cls()
        value = dist_class.deterministic_np(inputs.numpy())
        if dist_class is SquashedGaussian:
            value = 2.0 * value  # To the bounds of the space.
    else:
        value = module.compute_values(columns)
    return types.SimpleNamespace(
        learner=learner,
        report=report,
        module_id=module_id,
        weights={key: state["rl_module"][module_id][key] for key in trained},
        slots=state["optimizer"][module_id],
        metrics=metrics,
        value=np.ravel(value),
        spec=json.loads((directory / "export" / "spec.json").read_text()),
    )


@pytest.fixture(scope="module")
def trained(make_config, tmp_path_factory):
    """Returns, by kind, what was trained here and what the program made of it."""
    root = tmp_path_factory.mktemp("exports")
    here = {
        kind: train_here(make_of_kind(make_config, **settings), root / kind)
        for kind, settings in KINDS.items()
    }
    arguments = [str(len(ROWS)), *(str(root / kind) for kind in KINDS)]
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, *arguments],
        capture_output=True,
        check=False,
        text=True,
        cwd=root,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for kind, own in here.items():
        own.there = np.load(root / kind / "result.npz")
    return here


every_kind = pytest.mark.parametrize("kind", KINDS)


def largest_difference(arrays, there, name):
    assert {f"{name}/{key}" for key in arrays} <= set(there.files)
    return max(
        np.abs(value - there[f"{name}/{key}"]).max() for key, value in arrays.items()
    )


@pytest.mark.deep
@every_kind
def test_it_ends_with_the_weights_of_the_learner(trained, kind):
    own = trained[kind]
    difference = largest_difference(own.weights, own.there, "trainable_variables")
    assert difference <= 1e-6


@pytest.mark.deep
@every_kind
def test_optimizers_go_on_where_they_were(trained, kind):
    own = trained[kind]
    slots = {
        f"{optimizer}/{key}": value
        for optimizer, slots in own.slots.items()
        for key, value in slots.items()
    }
    assert largest_difference(slots, own.there, "optimizer_variables") <= 1e-6
    for optimizer in own.slots:
        iterations = own.there[f"optimizer_variables/{optimizer}/iterations"]
        assert iterations == 2 + len(ROWS)


@pytest.mark.deep
@every_kind
def test_it_reports_the_metrics_of_each_step(trained, kind):
    own = trained[kind]
    for step, metrics in enumerate(own.metrics):
        prefix = f"metrics{step}/"
        names = [n for n in own.there.files if n.startswith(prefix)]
        assert f"{prefix}total_loss" in names
        for optimizer in own.slots:
            assert f"{prefix}gradients_{optimizer}_global_norm" in names
        for name in names:
            key = name.removeprefix(prefix)
            if key in metrics and not key.endswith(("lifetime", "target_updates")):
                # The variance of a single row is 0.
                want = metrics[key]
                assert_close(own.there[name], want, rtol=1e-4, atol=1e-5)


@pytest.mark.deep
def test_what_is_logged_twice_is_reduced_as_in_the_learner(trained):
    there = trained["own"].there
    assert there["metrics0/twice/sum"] == 7.0
    assert there["metrics0/last"] == 4.0


@pytest.mark.deep
@every_kind
def test_other_endpoints_see_the_new_weights(trained, kind):
    own = trained[kind]
    assert_close(np.ravel(own.there["value"]), own.value, rtol=1e-5, atol=1e-5)
    if kind == "dqn":  # Its actions may stay the same.
        return
    if kind != "own":  # Its loss does not reach the values.
        assert np.abs(own.there["value_before"] - own.there["value"]).max() > 1e-3


@pytest.mark.deep
@pytest.mark.parametrize("kind", WITHOUT_VALUES)
def test_target_networks_follow_inside_of_it(trained, kind):
    """That later losses are those of the learner, others see to."""
    own = trained[kind]
    for step in range(len(ROWS)):
        assert own.there[f"metrics{step}/num_target_updates"] == 1.0
    assert own.metrics[-1]["num_target_updates"] == 2 + len(ROWS)


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["ppo", "lstm", *WITHOUT_VALUES])
def test_a_sick_step_changes_nothing(trained, kind):
    own = trained[kind]
    assert own.there["num_sick"] == 1.0
    assert own.there["metrics0/num_non_finite_updates_lifetime"] == 0.0
    assert largest_difference(own.weights, own.there, "after_sick") <= 1e-6


@pytest.mark.deep
@every_kind
def test_the_spec_says_what_goes_in(trained, kind):
    own = trained[kind]
    update, module = own.spec["update"], own.learner.module[own.module_id]
    keys = module.unwrapped().weight_keys()
    assert update["module_id"] == own.module_id
    trained_here = [key for key in keys.values() if key in own.weights]
    assert update["trainable_variables"] == trained_here
    assert update["columns"]["obs"]["shape"][0] is None
    batch = make_batch(module.unwrapped(), 5, 0)
    assert set(update["columns"]) == set(batch)
    names = own.spec["endpoints"]["update"]
    assert "columns_obs" in names["inputs"] and "total_loss" in names["outputs"]
    assert "update" in own.report.endpoints


@pytest.mark.deep
def test_modules_beside_it_stay_out(trained):
    own = trained["ppo"]
    assert own.module_id == "p1"
    paths = [v.path for v in own.learner.module["p1"].unwrapped().trainable_variables]
    num_slots = 2 + 2 * len(paths)
    assert len(own.spec["update"]["optimizer_variables"]) == num_slots


# What is refused.


@pytest.fixture
def learner(make_learner):
    return make_learner(run_eagerly=True)


def test_a_learner_that_never_learnt_is_refused(learner, tmp_path):
    match = "no update of module 'default_policy' so far.*example_batch="
    with pytest.raises(ExportError, match=match):
        learner.export(tmp_path / "export", include_update=True)
    assert [*tmp_path.iterdir()] == []


def test_an_example_batch_will_do(make_learner, tmp_path):
    learner = make_learner(Cloning, run_eagerly=True)
    module = learner.module["default_policy"]
    batch = random_batch(module, 6)
    del batch[Columns.REWARDS]
    learner.export(tmp_path / "export", include_update=True, example_batch=batch)
    loaded = tf.saved_model.load(str(tmp_path / "export"))
    before = [variable.numpy() for variable in loaded.trainable_variables]
    loaded.update(batch)
    after = [variable.numpy() for variable in loaded.trainable_variables]
    assert any((ours != theirs).any() for ours, theirs in zip(after, before))


def test_an_example_batch_that_does_not_fit_is_refused(learner, tmp_path):
    batch = random_batch(learner.module["default_policy"], 6)
    del batch[Columns.ADVANTAGES]
    with pytest.raises(BatchError, match="advantages"):
        learner.export(tmp_path / "export", include_update=True, example_batch=batch)


def test_an_example_batch_of_others_is_refused(make_learner, tmp_path):
    learner = make_learner(run_eagerly=True, policies=["p0", "p1"])
    batch = {"p0": random_batch(learner.module["p0"], 6)}
    with pytest.raises(ExportError, match=r"columns for \['p0'\], want .* 'p1'"):
        learner.export(
            tmp_path / "export",
            module_id="p1",
            include_update=True,
            example_batch=batch,
        )


@pytest.mark.parametrize("format", ["tflite", "keras"])
def test_other_formats_cannot_learn(learner, tmp_path, format):
    with pytest.raises(ExportError, match="want 'tf_saved_model'"):
        learner.export(tmp_path / f"export.{format}", include_update=True)


# Which columns.


def columns_of(learner, module_id):
    update = exported_update.export_update(learner, module_id)
    return set(update.spec["columns"])


def test_columns_are_those_of_the_last_update_of_the_module(make_config, make_learner):
    spec = make_config().get_rl_module_spec()
    learner = make_learner(run_eagerly=True, policies=["p0", "p1"])
    batch = {mid: random_batch(learner.module[mid], 6) for mid in learner.module}
    learner.update_from_batch(batch)
    del batch["p0"][Columns.REWARDS]
    learner.update_from_batch({"p0": batch["p0"]})
    assert Columns.REWARDS not in columns_of(learner, "p0")
    assert Columns.REWARDS in columns_of(learner, "p1")
    learner.update_from_batch(batch)
    assert columns_of(learner, "p0") == set(batch["p0"])
    learner.remove_module("p1")
    assert columns_of(learner, "p0") == set(batch["p0"])
    learner.add_module(module_id="p1", module_spec=spec)
    with pytest.raises(ExportError, match="no update of module 'p1'"):
        columns_of(learner, "p1")
