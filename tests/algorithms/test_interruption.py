"""Ctrl-C and SIGTERM while a run is trained."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import keras
import psutil
import pytest

import tflearner as tfl
from tflearner.algorithms import interruption as interruption_module
from tflearner.algorithms.interruption import Interruption
from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.env.env_runner import BrokenOff, StopWatch
from tflearner.errors import CheckpointError, EnvError
from tflearner.testing import CountingEnv, run_digest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "promises" / "programs" / "interrupt_fit.py"
TINY = {
    "train_batch_size_per_learner": 32,
    "minibatch_size": 16,
    "num_epochs": 1,
    "model_config": tfl.DefaultModelConfig(fcnet_hiddens=[4]),
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}
FOR_EVER = 10_000_000


@pytest.fixture(autouse=True)
def handlers(monkeypatch, tmp_path):
    """Handlers are afterwards what they were before."""
    monkeypatch.chdir(tmp_path)
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield before
    after = {s: signal.getsignal(s) for s in before}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.fixture
def algo():
    """A tiny algorithm, stopped after the test."""
    algo = tfl.PPO("CartPole-v1", **TINY)
    yield algo
    algo.stop()


def raises(*numbers, epoch=1):
    """Returns a callback that sends this process signals at the end of an epoch."""

    def on_epoch_end(now, logs):
        if now == epoch:
            for number in numbers:
                signal.raise_signal(number)

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


# The signals alone.


def test_first_signal_is_noted_and_the_second_acts(handlers):
    with Interruption() as interruption:
        assert interruption.requested is None
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    interruption.pass_on()


def test_sigterm_is_passed_on_as_its_exit_status(handlers):
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit) as raised:
        interruption.pass_on()
    assert raised.value.code == 143


def test_sigterm_goes_to_the_handler_of_the_program(handlers):
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert not seen
    interruption.pass_on()
    assert seen == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, handlers[signal.SIGTERM])


def test_handlers_are_given_back_after_an_error():
    with pytest.raises(ZeroDivisionError), Interruption():
        raise ZeroDivisionError


def test_what_sleeps_in_an_environment_is_broken_off(monkeypatch):
    monkeypatch.setattr(interruption_module, "PATIENCE_S", 0.0)
    watch = StopWatch()
    with Interruption(watch) as interruption:
        signal.raise_signal(signal.SIGTERM)
        watch.is_in_env, started = True, time.monotonic()
        with pytest.raises(BrokenOff):
            time.sleep(20.0)
        watch.is_in_env = False
        with pytest.raises(BrokenOff):
            watch.check()
        interruption.finish()
        watch.check()
        assert interruption.requested == signal.SIGTERM
    assert time.monotonic() - started < 10.0


# In `fit`.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_checkpoint_of_the_last_iteration_is_left(algo, capsys, number):
    if number == signal.SIGTERM:
        with pytest.raises(SystemExit):
            algo.fit(FOR_EVER, callbacks=[raises(number)], verbose=2)
    else:
        history = algo.fit(FOR_EVER, callbacks=[raises(number)], verbose=2)
        assert history.history["steps"] == [32, 64]
    (run,) = pathlib.Path("runs").iterdir()
    assert CheckpointDirectory(run / "checkpoints").steps() == [64]
    saved = (run / "checkpoints" / "step-000000000064").absolute()
    last_line = f"interrupted after 64 steps, saved in {saved}/"
    assert capsys.readouterr().out.splitlines()[-1] == last_line


def test_what_a_callback_just_saved_is_not_saved_again(algo, capsys):
    callbacks = [raises(signal.SIGINT), tfl.CheckpointCallback("c", every=2)]
    algo.fit(FOR_EVER, callbacks=callbacks, verbose=2)
    assert CheckpointDirectory("c").steps() == [64]
    assert "c/step-000000000064/" in capsys.readouterr().out
    (run,) = pathlib.Path("runs").iterdir()
    assert [path.name for path in run.iterdir()] == ["metrics.jsonl"]


def test_second_ctrl_c_stops_at_once_and_saves_nothing(algo, capsys):
    twice = raises(signal.SIGINT, signal.SIGINT)
    history = algo.fit(FOR_EVER, callbacks=[twice], verbose=2)
    assert history.history["steps"] == [32]
    printed = capsys.readouterr().out
    assert "interrupted after 64 steps" in printed and "saved" not in printed
    assert not [*pathlib.Path("runs").glob("*/checkpoints")]
    assert algo.train()["training_iteration"] == 3


@pytest.mark.parametrize("background", [False, True], ids=["inline", "background"])
def test_ctrl_c_with_a_disk_that_fails_ends_fit_all_the_same(
    algo, capsys, monkeypatch, background
):
    def fail(self, *args, **kwargs):
        raise CheckpointError(f"directory {self.path}", "cannot be saved to: gone")

    monkeypatch.setattr(CheckpointDirectory, "save", fail)
    saving = tfl.CheckpointCallback("c", every=2, background=background)
    callbacks = [raises(signal.SIGINT), saving]
    with pytest.warns(RuntimeWarning, match="not saved: .*gone"):
        history = algo.fit(FOR_EVER, callbacks=callbacks, verbose=2)
    assert history.history["steps"] == [32, 64]
    printed = capsys.readouterr().out
    assert "interrupted after 64 steps" in printed and "saved in" not in printed


def test_fit_works_on_another_thread(algo):
    ended = []
    thread = threading.Thread(
        target=lambda: ended.append(algo.fit(64, verbose=0).history["steps"])
    )
    thread.start()
    thread.join()
    assert ended == [[32, 64]]


class Interrupted(CountingEnv):
    """Gets a signal in its 50th step, and has something else to do there."""

    then = staticmethod(lambda: None)
    steps = 0

    def step(self, action):
        Interrupted.steps += 1
        if Interrupted.steps == 50:
            signal.raise_signal(signal.SIGINT)
            self.then()
        return super().step(action)


@pytest.fixture
def interrupted(monkeypatch):
    """Returns a function that makes a tiny algorithm; signals have effect at once."""
    monkeypatch.setattr(interruption_module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(Interrupted, "steps", 0)
    made = []

    def make(then=lambda: None, **settings):
        monkeypatch.setattr(Interrupted, "then", staticmethod(then))
        made.append(tfl.PPO(Interrupted, **TINY | settings))
        return made[-1]

    yield make
    for algo in made:
        algo.stop()


def raise_error():
    raise OSError("the simulator is gone")


@pytest.mark.parametrize(
    "then",
    [lambda: time.sleep(0.1), lambda: time.sleep(100.0), raise_error],
    ids=["long round", "long step", "broken"],
)
def test_a_round_is_broken_off_and_the_run_saved_without_it(interrupted, capsys, then):
    algo = interrupted(then, env_to_module_connector=tfl.MeanStdFilter)
    algo.train()
    started = time.monotonic()
    history = algo.fit(FOR_EVER, verbose=2)
    assert time.monotonic() - started < 10.0
    assert history.history.get("steps", []) == []
    assert "interrupted after 0 steps, saved in" in capsys.readouterr().out
    (run,) = pathlib.Path("runs").iterdir()
    again = tfl.PPO.from_checkpoint(
        run / "checkpoints", env=Interrupted, env_to_module_connector=tfl.MeanStdFilter
    )
    assert run_digest(again) == run_digest(algo)
    for each in (algo, again):
        assert each.train()["num_env_steps_sampled_lifetime"] == 64
    assert run_digest(again) == run_digest(algo)
    again.stop()


def test_an_evaluation_is_broken_off_and_the_iteration_kept(interrupted):
    algo = interrupted(
        lambda: time.sleep(100.0),
        evaluation_interval=1,
        env_config={"ends": [(1000, "terminated")]},
    )
    history = algo.fit(FOR_EVER, verbose=0)
    assert history.history["steps"] == [32]
    assert not any(name.startswith("val_") for name in history.history)
    (run,) = pathlib.Path("runs").iterdir()
    assert CheckpointDirectory(run / "checkpoints").steps() == [32]


def test_a_callback_may_sample_after_a_round_was_broken_off(interrupted):
    algo = interrupted(lambda: time.sleep(100.0))
    results = []
    evaluates = lambda logs: results.append(algo.evaluate(1))
    callback = keras.callbacks.LambdaCallback(on_train_end=evaluates)
    algo.fit(FOR_EVER, callbacks=[callback], verbose=0)
    assert results[0].num_episodes == 1


def test_an_error_without_a_signal_is_raised(algo, monkeypatch):
    def fail(*args, **kwargs):
        raise EnvError("environment 0", "an error")

    monkeypatch.setattr(algo.env_runner, "sample", fail)
    with pytest.raises(EnvError):
        algo.fit(FOR_EVER, verbose=0)


# At random moments, in processes of their own.


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(4, marks=pytest.mark.deep),
        pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_signals_at_random_moments(tmp_path, count):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps({"count": count, "seed": 0})],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])["results"]
    assert len(results) == count
    for told in results:
        assert "error" not in told and told["handlers_are_back"], told
        if len(told["signals"]) == 2:
            assert told["status"] == 0 and told["seconds"] < 1.5, told
            assert "saved" not in told["printed"]
        else:
            is_term = told["signals"] == [signal.SIGTERM]
            assert told["status"] == (143 if is_term else 0), told
            assert told["steps_are_right"] and told["goes_on"], told


def test_nothing_is_saved_in_the_middle_of_an_iteration(algo, monkeypatch, tmp_path):
    callback = tfl.CheckpointCallback(tmp_path / "saved", every=10)
    train = algo.learner.update_from_episodes
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(algo.learner, "update_from_episodes", interrupted)
    algo.fit(FOR_EVER, callbacks=[callback], verbose=0)
    assert CheckpointDirectory(tmp_path / "saved").steps() == []


def test_what_the_program_ignores_stays_ignored(algo, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
        assert interruption.requested is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


# Signals to the process group, as terminals and Slurm send them.

IN_GROUP = """
import json
import sys
import time
import keras
import tflearner as tfl
from tflearner.testing import CountingEnv

class SlowEnv(CountingEnv):
    def step(self, action):
        time.sleep(0.02)
        return super().step(action)

if __name__ == "__main__":
    algorithm, callback_s, settings = json.loads(sys.argv[1])
    algo = getattr(tfl, algorithm)(
        SlowEnv, gym_env_vectorize_mode="async", num_envs_per_env_runner=2, **settings
    )
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: print("begun", flush=True),
        on_epoch_end=lambda epoch, logs: time.sleep(callback_s),
    )
    algo.fit(10_000_000, callbacks=[callback], verbose=2)
"""
SHORT = {key: TINY[key] for key in ("run_eagerly", "jit_compile", "seed")} | {
    "train_batch_size_per_learner": 32,
    "model_config": {"fcnet_hiddens": [4]},
    "env_config": {"ends": [(3, "truncated")]},
}
PPO = SHORT | {"minibatch_size": 16, "num_epochs": 1}
PHASES = {
    "sampling": ("PPO", 0.0, PPO | {"train_batch_size_per_learner": 100_000}),
    "evaluating": (
        "PPO",
        0.0,
        PPO | {"evaluation_interval": 1, "evaluation_duration": 100_000},
    ),
    "callback": ("PPO", 3.0, PPO),
    "replay": ("DQN", 0.0, SHORT | {"min_sample_timesteps_per_iteration": 100_000}),
}


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        pytest.param("sampling", signal.SIGTERM, marks=pytest.mark.deep),
        pytest.param("evaluating", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("callback", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("replay", signal.SIGINT, marks=pytest.mark.deep),
    ],
)
def test_a_signal_to_the_group_with_workers(tmp_path, phase, number):
    script = tmp_path / "script.py"
    script.write_text(IN_GROUP)
    with subprocess.Popen(
        [sys.executable, str(script), json.dumps(PHASES[phase])],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while process.stdout.readline() != "begun\n":
            assert process.poll() is None
        time.sleep(2.0)
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if child.is_running()
        ]
        started = time.monotonic()
        os.killpg(process.pid, number)
        printed, _ = process.communicate(timeout=60)
    assert time.monotonic() - started < 12.0  # The end of Python included.
    assert process.returncode == (143 if number == signal.SIGTERM else 0)
    assert ", saved in" in printed.splitlines()[-1]
    assert len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=5.0)[1]
