"""Environments in worker processes: signals, time limits and how they end."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium.vector import AsyncVectorEnv

from tflearner.env import vector_env, worker_env
from tflearner.env.vector_stepper import VectorStepper
from tflearner.env.worker_env import WorkerVectorEnv
from tflearner.errors import EnvStepError, UsageError

ROOT = pathlib.Path(__file__).parents[2]
FOR_EVER = 10_000.0
STEP, HANG = np.array([0, 0]), np.array([0, 1])


class HangingEnv(gym.Env):
    """Hangs in `step` on action 1, and in what it is told to hang in."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, hangs_in=None):
        self.hangs_in = hangs_in
        self.is_stepped = False

    def _hang_in(self, name):
        if self.hangs_in == name and (self.is_stepped or name == "reset"):
            time.sleep(FOR_EVER)

    def reset(self, *, seed=None, options=None):
        self._hang_in("reset")
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.is_stepped = True
        if action == 1:
            time.sleep(FOR_EVER)
        return np.zeros(2, np.float32), 1.0, False, False, {}

    def close(self):
        self._hang_in("close")


def make(timeout_s=None, **env_config):
    return vector_env.make_vector_env(
        HangingEnv,
        env_config=env_config,
        num_envs=2,
        vectorize_mode="async",
        step_timeout_s=timeout_s,
    )


def test_workers_ignore_signals_and_a_late_step_names_its_environment():
    env = make(timeout_s=1.0)
    stepper = VectorStepper(env)
    try:
        stepper.reset()
        for number in (signal.SIGINT, signal.SIGTERM):
            for process in env.processes:
                os.kill(process.pid, number)
            stepper.step(STEP)
        started = time.monotonic()
        with pytest.raises(
            EnvStepError, match=r"environment 1, episode step 3: .*env_step_timeout_s=1"
        ):
            stepper.step(HANG)
        assert time.monotonic() - started < 5.0
    finally:
        vector_env.close_vector_env(env, broken=True)
    assert not any(process.is_alive() for process in env.processes)
    assert time.monotonic() - started < 10.0


@pytest.mark.deep
@pytest.mark.parametrize("hangs_in", ["reset", "close"])
@pytest.mark.parametrize("made_by", ["us", "the user"])
def test_what_hangs_is_ended_in_time(hangs_in, made_by):
    if made_by == "us":
        env = make(1.0, hangs_in=hangs_in)
    else:
        env = AsyncVectorEnv([lambda: HangingEnv(hangs_in)] * 2, context="forkserver")
    try:
        if hangs_in == "reset":
            env.reset_async()
        else:
            VectorStepper(env).reset()
            env.step(STEP)
    finally:
        started = time.monotonic()
        vector_env.close_vector_env(gym.vector.VectorWrapper(env))
    assert time.monotonic() - started < 10.0
    assert not any(process.is_alive() for process in env.processes)


@pytest.mark.deep
def test_a_late_reset_names_its_environment():
    env = make(0.5, hangs_in="reset")
    with pytest.raises(EnvStepError, match="environment 0, reset: .*timeout_s=0.5"):
        VectorStepper(env).reset()
    vector_env.close_vector_env(env, broken=True)


@pytest.mark.deep
def test_an_environment_that_always_hangs_in_close_can_be_made(monkeypatch):
    monkeypatch.setattr(worker_env, "CLOSING_S", 0.2)
    monkeypatch.setattr(HangingEnv, "close", lambda self: time.sleep(FOR_EVER))
    env = make()
    VectorStepper(env).reset()
    vector_env.close_vector_env(env)
    assert not any(process.is_alive() for process in env.processes)


# Without their parent.

STARTS_WORKERS = """
import time
import numpy as np
from tflearner.env import vector_env
from tests.env.test_worker_env import HangingEnv

if __name__ == "__main__":
    env = vector_env.make_vector_env(HangingEnv, num_envs=2, vectorize_mode="async")
    env.reset()
    print(*[process.pid for process in env.processes], flush=True)
    env.step(np.array({actions}))
    time.sleep(100.0)
"""


@pytest.mark.deep
def test_a_program_may_end_without_closing_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(STARTS_WORKERS.format(actions=[0, 0]).replace("100.0", "0.0"))
    subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=30,
        check=True,
    )


@pytest.mark.parametrize(
    ("actions", "seconds"),
    [([0, 0], 3.0), pytest.param([0, 1], 20.0, marks=pytest.mark.deep)],
    ids=["idle", "hanging"],
)
def test_workers_end_with_their_parent(tmp_path, actions, seconds):
    script = tmp_path / "script.py"
    script.write_text(STARTS_WORKERS.format(actions=actions))
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
    )
    with parent:
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=seconds)
    assert not alive


# Of a script without `if __name__ == "__main__":`.

UNGUARDED = """
import sys
import tflearner.testing
from tflearner.env import vector_env

print("the script runs", flush=True)
vector_env.make_vector_env("CartPole-v1", num_envs=2, vectorize_mode="async")
"""


@pytest.mark.deep
def test_an_unguarded_script_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert "under `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]
    assert "a call while a worker process imports this script" in done.stderr


@pytest.fixture
def in_worker(monkeypatch):
    """This process seems to be a worker that is not ready."""
    process = multiprocessing.current_process()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    monkeypatch.setattr(process, "name", f"Worker<{WorkerVectorEnv.__name__}>-1")


def imported(name, calls):
    code = compile("what()", "a_script.py", "exec")
    exec(code, {"__name__": name, "what": calls})  # noqa: S102 - as runpy does it.


def test_only_the_script_is_refused(in_worker):
    refuse = lambda: worker_env.refuse_in_import_of_script("PPO")
    imported("a_module_of_environments", refuse)
    with pytest.raises(UsageError, match="PPO: .*imports this script.*__name__"):
        imported("__mp_main__", refuse)
    with pytest.raises(UsageError, match="__name__"):
        imported("another_module", lambda: make())


def test_other_programs_workers_may_import_the_script(in_worker):
    multiprocessing.current_process().name = "ForkServerPoolWorker-1"
    imported("__mp_main__", lambda: worker_env.refuse_in_import_of_script("PPO"))
