"""The process around the library: it works there, or one sentence says why not."""

import os
import pathlib
import subprocess
import sys
import types

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from tflearner.algorithms.ppo import PPO
from tflearner.errors import ConfigError, ModuleError
from tflearner.modules import acting
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.networks import keras_backend
from tflearner.testing import random_batch

PROGRAMS = pathlib.Path(__file__).parent / "programs"
ROOT = PROGRAMS.parents[1]
ME = "default_policy"
SMALL = {
    "train_batch_size_per_learner": 16,
    "minibatch_size": 16,
    "run_eagerly": True,
    "model_config": DefaultModelConfig(fcnet_hiddens=[4]),
    "seed": 1,
}


def refused(call, error, text):
    """What is refused is refused in one sentence, with a remedy."""
    with pytest.raises(error, match=text) as raised:
        call()
    assert " Hint: " in str(raised.value) and "\n" not in str(raised.value)


# Before Keras is imported.


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Returns a function that sets up what a process is like without Keras."""

    def set_up(*, optimize=0, file=None, **environment):
        flags = types.SimpleNamespace(optimize=optimize)
        without_keras = types.SimpleNamespace(modules={}, flags=flags)
        monkeypatch.setattr(keras_backend, "sys", without_keras)
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        if file is not None:
            (tmp_path / "keras.json").write_text(file)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return without_keras

    return set_up


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", "TensorFlow"])
def test_other_backends_of_keras_are_refused(fresh, backend):
    fresh(KERAS_BACKEND=backend)
    text = f"KERAS_BACKEND: got the Keras backend '{backend}', want 'tensorflow'"
    refused(keras_backend.check, ConfigError, text)
    fresh(file=f'{{"backend": "{backend}"}}')
    refused(keras_backend.check, ConfigError, f"keras.json: got .*'{backend}'")


def test_a_backend_that_keras_runs_on_already_is_refused(fresh):
    of_jax = types.SimpleNamespace(backend=lambda: "jax")
    fresh().modules["keras"] = types.SimpleNamespace(config=of_jax)
    refused(keras_backend.check, ConfigError, "'jax'.*start a new process")


@pytest.mark.parametrize("file", [None, "{oops", "[]", "{}", '{"floatx": "float32"}'])
def test_what_keras_takes_for_tensorflow_is_taken(fresh, file):
    fresh(file=file, KERAS_BACKEND="")
    keras_backend.check()
    fresh(file='{"backend": "jax"}', KERAS_BACKEND="tensorflow")
    keras_backend.check()


def test_a_process_without_docstrings_is_refused(fresh):
    fresh(optimize=2)
    refused(keras_backend.check, ConfigError, "python -OO")
    fresh(optimize=1)
    keras_backend.check()


@pytest.mark.parametrize("name", ["PPO", "TfLearner", "History", "PPOCatalog"])
def test_every_door_asks_before_keras_is_imported(name):
    code = (
        f"import tflearner as tfl\ntry: tfl.{name}\n"
        "except tfl.TFLearnerError as error: print(error)\n"
        "import sys; print('keras' in sys.modules)"
    )
    printed = run([sys.executable, "-c", code], KERAS_BACKEND="jax")
    assert "'jax', want 'tensorflow'" in printed and printed.endswith("False\n")


@pytest.mark.deep
def test_ppo_loads_no_other_algorithm(tmp_path):
    code = (
        f"import sys, tflearner as tfl\n"
        f"sys.path.insert(0, {str(PROGRAMS)!r})\nimport whole_life\n"
        f"print(whole_life.build().export({str(tmp_path / 'policy.keras')!r}))\n"
        f"print([name for name in sys.modules if name.startswith('tflearner')"
        f" and name.endswith(('.dqn', '.sac', 'off_policy'))])"
    )
    *_, report, loaded = run([sys.executable, "-c", code]).splitlines()
    assert report.startswith("wrote") and loaded == "[]"


# What TensorFlow and Keras are set to.


def shapes_of_version_1(monkeypatch):
    tf.compat.v1.disable_v2_tensorshape()


def safe_conversion(monkeypatch):
    monkeypatch.setattr(ops, "_dtype_conversion_mode", ops.PromoMode.SAFE)


def floatx(name):
    return lambda monkeypatch: keras.config.set_floatx(name)


def policy(name):
    return lambda monkeypatch: keras.config.set_dtype_policy(name)


SETTINGS = {
    "shapes": (shapes_of_version_1, "tensor shapes of version 1"),
    "conversion": (safe_conversion, "conversion of dtypes"),
    "floatx64": (floatx("float64"), "floatx.*got 'float64', want 'float32'"),
    "floatx16": (floatx("float16"), "floatx.*got 'float16', want 'float32'"),
    "float16": (policy("float16"), "got 'float16', want a policy with weights of"),
    "bfloat16": (policy("bfloat16"), "got 'bfloat16', want a policy with weights of"),
    "float64": (policy("float64"), "got 'float64', want a policy with weights of"),
    "int8": (policy("int8_from_float32"), "got 'int8_from_float32', want a policy"),
}


@pytest.fixture
def given_back():
    """Gives the process' settings back as they were."""
    before = keras.config.dtype_policy(), keras.config.floatx()
    yield
    keras.config.set_dtype_policy(before[0])
    keras.config.set_floatx(before[1])
    tf.compat.v1.enable_v2_tensorshape()


@pytest.fixture(scope="module")
def algo():
    algo = PPO("CartPole-v1", **SMALL)
    yield algo
    algo.stop()


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_modules_cannot_work_under_are_refused(
    monkeypatch, given_back, algo, case
):
    change, text = SETTINGS[case]
    batch = random_batch(algo.get_module(), 16)
    change(monkeypatch)
    for call in (
        lambda: PPO("CartPole-v1", **SMALL),
        lambda: algo.learner.update(batch),
        algo.train,
    ):
        refused(call, ConfigError, text)


def test_graph_mode_is_refused_and_changes_nothing(algo, tmp_path):
    batch = random_batch(algo.get_module(), 16)
    steps = algo.num_env_steps_sampled_lifetime
    env = algo.env_runner.env
    calls = (
        lambda: PPO("CartPole-v1", **SMALL),
        lambda: algo.learner.update(batch),
        lambda: algo.evaluate(1),
        lambda: algo.export(tmp_path / "policy"),
        lambda: algo.save(tmp_path / "saved"),
        lambda: acting.make_actor(algo.get_module()),
        algo.train,
    )
    for call in calls:
        with tf.Graph().as_default():
            refused(call, ConfigError, "graph mode, want eager execution")
    traced = tf.function(lambda: algo.train() and None, autograph=False)
    refused(traced, ConfigError, "call this outside of tf.function")
    assert algo.num_env_steps_sampled_lifetime == steps
    assert algo.env_runner.env is env and not [*tmp_path.iterdir()]
    algo.train()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_own_layers_with_other_weights_are_refused(dtype):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, dtype=dtype)])
    settings = SMALL | {"model": model, "model_config": None}
    text = f"weight '.*kernel': got {dtype}, want float32"
    refused(lambda: PPO("CartPole-v1", **settings), ModuleError, text)


def test_own_layers_that_do_not_learn_may_have_other_weights():
    frozen = keras.layers.Dense(4, dtype="bfloat16", trainable=False)
    model = keras.Sequential([keras.Input((4,)), frozen, keras.layers.Dense(4)])
    algo = PPO("CartPole-v1", **SMALL | {"model": model, "model_config": None})
    results = algo.learner.update(random_batch(algo.get_module(), 16))
    assert np.isfinite(results[ME]["total_loss"])
    algo.stop()


def test_layers_of_keras_2_are_refused():
    layers = pytest.importorskip("tf_keras").layers
    model = layers.Dense(4)

    class Own(TfRLModule):
        def setup(self):
            self.parts = [keras.layers.Dense(4), model]

    settings = SMALL | {"model_config": None}
    for call in (
        lambda: PPO("CartPole-v1", **settings, model=model),
        lambda: PPO("CartPole-v1", **settings, model=lambda: model),
        lambda: Own(gym.spaces.Box(-1.0, 1.0, (4,)), gym.spaces.Discrete(2)),
    ):
        refused(
            call, ModuleError, "a Dense of Keras 2, want a layer or model of Keras 3"
        )


# The whole life, in processes of their own.


def run(command, **environment):
    """Returns what a program prints; fails where it does."""
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return done.stdout.decode(errors="replace")


V1 = "import tensorflow as tf; tf.compat.v1."
CONFIG = "import tensorflow as tf; tf."
KERAS = "import keras; keras.config."
NUMPY = "tensorflow as tf; tf.experimental.numpy.experimental_enable_numpy_behavior"
REFUSED = {
    "jax": {"env": {"KERAS_BACKEND": "jax"}},
    "OO": {"options": ["-OO"]},
    "eager execution": {"first": f"{V1}disable_eager_execution()"},
    "v2 behaviour": {"first": f"{V1}disable_v2_behavior()"},
    "v2 shapes": {"first": f"{V1}disable_v2_tensorshape()"},
    "floatx float64": {"first": f"{KERAS}set_floatx('float64')"},
    "floatx float16": {"first": f"{KERAS}set_floatx('float16')"},
    "float16": {"first": f"{KERAS}set_dtype_policy('float16')"},
    "bfloat16": {"first": f"{KERAS}set_dtype_policy('bfloat16')"},
    "float64": {"first": f"{KERAS}set_dtype_policy('float64')"},
    "safe": {"first": f"import {NUMPY}(dtype_conversion_mode='safe')"},
    "all": {"first": f"import {NUMPY}(dtype_conversion_mode='all')"},
    "graph": {"first": "import tensorflow as tf", "around": "tf.Graph().as_default()"},
}
WORK = {
    "legacy Keras": {"env": {"TF_USE_LEGACY_KERAS": "1"}},
    "O": {"options": ["-O"]},
    "warnings": {"options": ["-W", "error"]},
    "ascii": {"env": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}},
    "no home": {"env": {"HOME": "/nonexistent"}},
    "numpy": {"first": f"import {NUMPY}()"},
    "variables": {"first": f"{V1}disable_resource_variables()"},
    "control flow": {"first": f"{V1}disable_control_flow_v2()"},
    "eager": {"first": f"{CONFIG}config.run_functions_eagerly(True)"},
    "numerics": {"first": f"{CONFIG}debugging.enable_check_numerics()"},
    "determinism": {"first": f"{CONFIG}config.experimental.enable_op_determinism()"},
    "errors of NumPy": {"first": "import numpy; numpy.seterr(all='raise')"},
    "channels": {"first": f"{KERAS}set_image_data_format('channels_first')"},
    "tracebacks": {"first": f"{KERAS}disable_traceback_filtering()"},
    "device": {"first": "import tensorflow as tf", "around": "tf.device('/CPU:0')"},
    "tape": {"first": "import tensorflow as tf", "around": "tf.GradientTape()"},
    "mixed_bfloat16": {"first": f"{KERAS}set_dtype_policy('mixed_bfloat16')"},
}


def whole_life(tmp_path, *, env=None, options=(), first="", around=""):
    code = (
        f"{first}\nimport contextlib, sys; sys.path.insert(0, {str(PROGRAMS)!r})\n"
        f"import whole_life\nwith {around or 'contextlib.nullcontext()'}:\n"
        f"    whole_life.main({str(tmp_path)!r})"
    )
    command = [sys.executable, *options, "-c", code]
    return run(command, **env or {}).splitlines()[-1]


@pytest.mark.deep
@pytest.mark.parametrize("case", REFUSED)
def test_odd_processes_are_told_what_to_do(tmp_path, case):
    last = whole_life(tmp_path, **REFUSED[case])
    assert last.startswith("ConfigError: ") and " Hint: " in last


# A case takes some 16 s: these are in the slow tier.
SELDOM = (
    *("no home", "variables", "numerics", "errors of NumPy"),
    *("tracebacks", "device", "tape"),
)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=pytest.mark.slow if c in SELDOM else pytest.mark.deep)
        for c in WORK
    ],
)
def test_odd_processes_work(tmp_path, case):
    assert whole_life(tmp_path, **WORK[case]) == "worked"
