"""What a process says that was forked after TensorFlow was used: it would hang."""

import os
import select
import signal
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest

import tflearner as tfl
from tflearner.errors import ForkedProcessError

SETTINGS = {
    "train_batch_size_per_learner": 16,
    "minibatch_size": 16,
    "num_epochs": 1,
    "model_config": tfl.DefaultModelConfig(fcnet_hiddens=[4]),
    "jit_compile": False,
    "seed": 1,
}
BATCH = {"obs": np.zeros((4, 4), np.float32)}
SPACES = gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2)
CALLS = {
    "train": lambda algo: algo.train(),
    "fit": lambda algo: algo.fit(16, verbose=0),
    "evaluate": lambda algo: algo.evaluate(1),
    "export": lambda algo: algo.export("policy"),
    "export of a learner": lambda algo: algo.learner.export("policy.keras"),
    "update": lambda algo: algo.learner.update_from_batch(BATCH),
    "episodes": lambda algo: algo.learner.update(episodes=[]),
    "iterator": lambda algo: algo.learner.update_from_iterator([BATCH]),
    "new algorithm": lambda algo: tfl.PPO("CartPole-v1", **SETTINGS),
    "new learner": lambda algo: algo.config.build_learner(),
    "new module": lambda algo: tfl.PPOTfRLModule(*SPACES),
    "checkpoint": lambda algo: tfl.PPO.from_checkpoint(algo._last_save[1]),
}


def in_child(call, seconds=20):
    """Returns what a forked child sends before it ends, or is killed."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():  # Python 3.12 warns of a fork with threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        try:
            text = call()
        except BaseException as error:  # noqa: BLE001 - pytest is the parent's.
            text = f"raised {error!r}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    is_there = select.select([reader], [], [], seconds)[0]
    text = os.read(reader, 10_000).decode() if is_there else "nothing in time"
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return text


@pytest.fixture(scope="module")
def algo(tmp_path_factory):
    algo = tfl.PPO("CartPole-v1", **SETTINGS)
    algo.save(tmp_path_factory.mktemp("forks") / "checkpoints")
    yield algo
    algo.stop()


def test_calls_that_would_hang_say_so(algo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call_all():
        for name, call in CALLS.items():
            try:
                call(algo)
            except ForkedProcessError as error:
                assert "was forked after TensorFlow was used" in str(error), name
            else:
                return name
        algo.get_state()  # What works still does.
        algo.env_runner.sample(num_timesteps=3)
        return f"all, and made {os.listdir()}"

    assert in_child(call_all) == "all, and made []"


def test_children_of_such_a_child_say_so_too(algo):
    def call():
        return in_child(lambda: f"{type(error_of(algo.train)).__name__}", seconds=5)

    assert in_child(call) == "ForkedProcessError"
    algo.train()  # In this process all is as it was.


def error_of(call):
    try:
        call()
    except Exception as error:  # noqa: BLE001 - any.
        return error


@pytest.mark.deep
def test_a_child_of_a_process_that_only_imported_tensorflow_trains():
    code = (
        "import os, tensorflow as tf, tflearner as tfl\n"
        "if os.fork():\n"
        "    raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "algo = tfl.PPO('CartPole-v1', train_batch_size_per_learner=16,"
        " minibatch_size=16, num_epochs=1, jit_compile=False)\n"
        "algo.train()\n"
        "os._exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert done.returncode == 7
