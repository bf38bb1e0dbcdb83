"""The directory where XLA keeps what it compiled."""

import os
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from tflearner.engine import compile_cache
from tflearner.errors import ConfigError
from tflearner.learner.tf_learner import TfLearner

FLAG = "--tf_xla_persistent_cache_directory="


class Quick(TfLearner):
    """Compiles in little time."""

    def configure_optimizers_for_module(self, module_id, config=None):
        self.register_optimizer(
            module_id=module_id,
            optimizer=keras.optimizers.SGD(0.1),
            params=self.get_parameters(self.module[module_id]),
        )

    def compute_loss_for_module(self, *, fwd_out, **kwargs):
        return tf.reduce_mean(fwd_out["action_dist_inputs"])


@pytest.fixture
def flags(monkeypatch):
    """Sets TensorFlow's flags aside; returns a function that reads them."""
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_clustering_debug")
    for name, value in (
        ("_has_compiled", False),
        ("_has_warned", False),
        ("_directory", None),
    ):
        monkeypatch.setattr(compile_cache, name, value)
    return lambda: os.environ["TF_XLA_FLAGS"].split()


def test_directory_is_made_and_named_to_tensorflow(flags, make_learner, tmp_path):
    make_learner(compile_cache=tmp_path / "new" / "cache")
    assert (tmp_path / "new" / "cache").is_dir()
    assert flags() == ["--tf_xla_clustering_debug", f"{FLAG}{tmp_path}/new/cache"]
    make_learner(compile_cache=str(tmp_path / "other"))
    assert flags() == ["--tf_xla_clustering_debug", f"{FLAG}{tmp_path}/other"]


@pytest.mark.deep
def test_too_late_is_one_warning(flags, make_learner, make_batch, tmp_path):
    learner = make_learner(jit_compile="auto")
    learner.update(make_batch(learner, 8), minibatch_size=8)
    with pytest.warns(UserWarning, match="too late.*first learner") as warned:
        make_learner(compile_cache=tmp_path)
    assert len(warned) == 1 and flags() == ["--tf_xla_clustering_debug"]
    make_learner(compile_cache=tmp_path)  # Not again.


def test_directory_that_stays_empty_is_one_warning(
    flags, make_learner, make_batch, tmp_path
):
    """TensorFlow computes in this process since long."""
    learner = make_learner(Quick, jit_compile="auto", compile_cache=tmp_path)
    with pytest.warns(UserWarning, match="had started.*before TensorFlow") as warned:
        learner.update(make_batch(learner, 8), minibatch_size=8)
    assert len(warned) == 1
    learner.update(make_batch(learner, 64), minibatch_size=8)  # Compiles again.


@pytest.mark.deep
def test_the_directory_in_use_is_no_warning(flags, make_learner, make_batch, tmp_path):
    (tmp_path / "program.pb").touch()
    learner = make_learner(jit_compile="auto", compile_cache=tmp_path)
    learner.update(make_batch(learner, 8), minibatch_size=8)
    make_learner(compile_cache=tmp_path)


def test_path_with_blanks_is_refused(flags, make_learner, tmp_path):
    with pytest.raises(ConfigError, match="compile_cache.*without blanks"):
        make_learner(compile_cache=tmp_path / "my cache")
    assert flags() == ["--tf_xla_clustering_debug"] and not [*tmp_path.iterdir()]


def test_what_is_no_path_is_refused(make_learner):
    with pytest.raises(ConfigError, match="compile_cache.*got 3"):
        make_learner(compile_cache=3)


PROGRAM = """
import sys, time
import tflearner as tfl
from tflearner.testing import random_batch
import gymnasium as gym
config = tfl.PPOConfig().framework(compile_cache=sys.argv[1]).debugging(seed=0)
learner = config.build_learner(env=gym.make("CartPole-v1"))
batch = random_batch(learner.module["default_policy"], 64)
learner.update(batch, minibatch_size=16)
"""


@pytest.mark.slow
def test_second_process_finds_what_the_first_compiled(tmp_path):
    def run():
        command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        subprocess.run(command, check=True, timeout=120)
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    first = run()
    assert first and run() == first
