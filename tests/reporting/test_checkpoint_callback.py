"""Saving a run at regular intervals."""

import pathlib

import pytest

import tflearner as tfl
from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import CheckpointError, UsageError
from tflearner.reporting.callbacks import CallbackModel, CallbackRunner
from tflearner.testing import run_digest

TINY = {
    "train_batch_size_per_learner": 16,
    "minibatch_size": 16,
    "num_epochs": 1,
    "model_config": tfl.DefaultModelConfig(fcnet_hiddens=[4]),
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}


class Saves(list):
    """What takes the place of `Algorithm.save`: notes when and how it is called."""

    epoch = None
    fails_in = ()

    def __call__(self, path=None, **options):
        self.append((self.epoch, path, options))
        if self.epoch in self.fails_in:
            raise CheckpointError("directory x", "a disk that is gone")
        return "saved"

    def in_epochs(self):
        return [epoch for epoch, _, _ in self]


def fit(callback, num_epochs, saves=None):
    """Goes through a fit of so many iterations; returns the saves."""
    saves = Saves() if saves is None else saves
    model = CallbackModel(list, lambda weights: None, None, saves)
    runner = CallbackRunner([callback], model, {})
    runner.begin()
    for epoch in range(num_epochs):
        saves.epoch = epoch
        runner.epoch_begin(epoch)
        runner.epoch_end(epoch, {})
    saves.epoch = "end"
    runner.end()
    return saves


@pytest.mark.parametrize(
    ("every", "num_epochs", "wanted"),
    [
        (1, 3, [0, 1, 2]),
        (2, 4, [1, 3]),
        (2, 5, [1, 3, "end"]),
        (10, 3, ["end"]),
        (10, 0, []),
    ],
)
def test_saves_at_intervals_and_at_the_end(every, num_epochs, wanted):
    assert fit(tfl.CheckpointCallback("c", every=every), num_epochs).in_epochs() == (
        wanted
    )


def test_intervals_begin_anew_with_each_fit():
    callback = tfl.CheckpointCallback("c", every=2)
    assert fit(callback, 3).in_epochs() == [1, "end"]
    assert fit(callback, 3).in_epochs() == [1, "end"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, (None, {"keep": 3, "background": False})),
        (
            {"path": "c", "keep": None, "background": True},
            ("c", {"keep": None, "background": True}),
        ),
    ],
)
def test_settings_are_passed_on(given, wanted):
    assert fit(tfl.CheckpointCallback(**given), 1) == [("end", *wanted)]


@pytest.mark.parametrize("name", ["every", "keep"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_what_is_no_count_is_refused(name, value):
    with pytest.raises(UsageError, match=rf"{name}={value!r}.*int >= 1"):
        tfl.CheckpointCallback(**{name: value})


def test_failing_save_is_a_warning():
    saves = Saves()
    saves.fails_in = (1,)
    with pytest.warns(RuntimeWarning, match="not saved: .*a disk that is gone"):
        fit(tfl.CheckpointCallback("c", every=1), 3, saves)
    assert saves.in_epochs() == [0, 1, 2]


def test_errors_other_than_of_checkpoints_are_warnings_too():
    def save(path=None, **options):
        raise UsageError("step", "10", "9")

    model = CallbackModel(list, lambda weights: None, None, save)
    runner = CallbackRunner([tfl.CheckpointCallback("c", every=1)], model, {})
    runner.begin()
    with pytest.warns(RuntimeWarning, match="not saved: step: got 10"):
        runner.epoch_end(0, {})


# With a run.


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Returns a function that trains for some steps, and returns the algorithm."""
    monkeypatch.chdir(tmp_path)

    def trained(callback, steps=80):
        algo = tfl.PPO("CartPole-v1", **TINY)
        algo.fit(steps, callbacks=[callback], verbose=0)
        algo.stop()
        return algo

    return trained


def test_newest_checkpoints_are_kept_in_the_directory_of_the_run(train):
    algo = train(tfl.CheckpointCallback(every=1, keep=2))
    path = pathlib.Path("runs/ppo-CartPole-v1-1/checkpoints")
    assert CheckpointDirectory(path).steps() == [64, 80]
    again = tfl.PPO.from_checkpoint(path)
    assert run_digest(again) == run_digest(algo)
    again.stop()


def test_background_makes_no_difference(train):
    digests = [
        run_digest(train(tfl.CheckpointCallback(path, every=2, background=background)))
        for path, background in (("a", False), ("b", True))
    ]
    assert digests[0] == digests[1]
    assert CheckpointDirectory("b").steps() == [32, 64, 80]


@pytest.mark.deep_but_first
@pytest.mark.parametrize("background", [True, False], ids=["background", "inline"])
def test_training_goes_on_equally_when_the_disk_fails(train, monkeypatch, background):
    wanted = run_digest(train(tfl.CheckpointCallback("whole", every=2)))
    save, calls = CheckpointDirectory.save, []

    def fail_first(self, *args, **kwargs):
        calls.append(kwargs["step"])
        if len(calls) == 1:
            raise CheckpointError(f"directory {self.path}", "cannot be saved to: gone")
        return save(self, *args, **kwargs)

    monkeypatch.setattr(CheckpointDirectory, "save", fail_first)
    callback = tfl.CheckpointCallback("failing", every=2, background=background)
    with pytest.warns(RuntimeWarning, match="not saved: .*gone"):
        algo = train(callback)
    assert run_digest(algo) == wanted
    assert calls == [32, 64, 80]
    assert CheckpointDirectory("failing").steps() == [64, 80]


@pytest.mark.deep_but_first
@pytest.mark.parametrize("background", [True, False], ids=["background", "inline"])
def test_absurd_step_in_the_directory_does_not_end_training(
    train, tmp_path, background
):
    wanted = run_digest(train(tfl.CheckpointCallback("whole", every=1), steps=32))
    (tmp_path / "c" / "step-999999999999999999").mkdir(parents=True)
    callback = tfl.CheckpointCallback("c", every=1, background=background)
    with pytest.warns(RuntimeWarning, match="not saved: .*step 1000000000000000000"):
        algo = train(callback, steps=32)
    assert run_digest(algo) == wanted


def test_last_save_in_the_background_may_fail(train, tmp_path):
    (tmp_path / "file").touch()
    callback = tfl.CheckpointCallback("file", background=True)
    with pytest.warns(RuntimeWarning, match="not saved: .*file"):
        train(callback, steps=16)
