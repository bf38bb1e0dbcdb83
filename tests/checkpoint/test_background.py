"""Tests for `tflearner.checkpoint.background`."""

import threading

import numpy as np
import pytest

from tflearner.checkpoint import files
from tflearner.checkpoint.background import BackgroundSaver
from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import CheckpointError, StepExistsError, UsageError

STATE = {"rl_module": {"p0": {"w": np.ones(3)}}}


@pytest.fixture
def run(tmp_path):
    return CheckpointDirectory(tmp_path)


@pytest.fixture
def gate(monkeypatch):
    """Saves wait for it before they write."""
    gate, make_directory = threading.Event(), files.make_directory

    def wait(path):
        assert gate.wait(30)
        make_directory(path)

    monkeypatch.setattr(files, "make_directory", wait)
    return gate


def test_save_returns_at_once(run, gate):
    with BackgroundSaver() as saver:
        saver.save(run, STATE, {"a": 1}, step=5)
        assert run.steps() == []
        gate.set()
        assert saver.wait() == run.path / "step-000000000005"
        assert saver.wait() is None
    assert run.read().about == {"a": 1}


def test_a_later_save_waits_for_the_earlier_one(run, gate):
    with BackgroundSaver() as saver:
        saver.save(run, STATE, {})
        threading.Timer(0.2, gate.set).start()
        saver.save(run, STATE, {})
        assert run.steps()[:1] == [1]
    assert run.steps() == [1, 2]


@pytest.mark.parametrize("call", ["save", "wait", "close"])
def test_an_error_is_raised_by_the_next_call(run, call):
    saver = BackgroundSaver()
    saver.save(run, STATE, {}, step=1)
    saver.save(run, STATE, {}, step=1)
    with pytest.raises(StepExistsError):
        saver.save(run, STATE, {}) if call == "save" else getattr(saver, call)()
    saver.close()
    assert run.steps() == [1]


def test_after_an_error_saving_goes_on(run):
    with BackgroundSaver() as saver:
        saver.save(run, {"a": np.array(np.nan)}, {})
        with pytest.raises(CheckpointError):
            saver.wait()
        saver.save(run, {"a": np.array(np.nan)}, {}, allow_nonfinite=True)
    assert run.steps() == [1]


def test_leaving_the_block_raises_what_went_wrong(run):
    with pytest.raises(CheckpointError), BackgroundSaver() as saver:
        saver.save(run, {"a": object()}, {})


def test_a_closed_saver_saves_no_more(run):
    saver = BackgroundSaver()
    saver.close()
    saver.close()
    with pytest.raises(UsageError, match="after close"):
        saver.save(run, STATE, {})
