"""Tests for `tflearner.reporting.callbacks` with Keras' own callbacks."""

import csv
import math
import warnings

import keras
import numpy as np
import pytest

from tflearner.errors import UsageError
from tflearner.reporting.callbacks import CallbackModel, CallbackRunner

# Keras 3.15 reads a learning rate in a way that NumPy 2.4 deprecates.
keras_reads_variables = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)


class Training:
    """A training loop: the weights are the number of the interval."""

    def __init__(self):
        self.weights = [np.zeros(2, np.float32)]
        self.optimizer = keras.optimizers.SGD(0.1)
        self.logs = []
        self.model = CallbackModel(
            get_weights=lambda: [w.copy() for w in self.weights],
            set_weights=lambda weights: setattr(self, "weights", weights),
            optimizer=self.optimizer,
        )

    def fit(self, callbacks, all_logs):
        runner = CallbackRunner(callbacks, self.model, {"epochs": len(all_logs)})
        runner.begin()
        for epoch, logs in enumerate(all_logs):
            runner.epoch_begin(epoch)
            self.weights = [np.full(2, epoch, np.float32)]
            self.logs.append(runner.epoch_end(epoch, logs))
            if runner.stop_training:
                break
        runner.end(self.logs[-1])
        return len(self.logs)


def returns(*values):
    return [{"episode_return": value, "loss": 0.5} for value in values]


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train_begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch_begin {epoch}")

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(f"batch_begin {batch}")

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(f"batch_end {batch} {logs['loss']}")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"epoch_end {epoch} {logs['loss']}")

    def on_train_end(self, logs=None):
        self.calls.append("train_end")


def test_hooks_are_called_in_keras_order():
    recorder = Recorder()
    training = Training()
    training.fit(recorder, [{"loss": 1.0}])
    assert recorder.calls == [
        "train_begin",
        "epoch_begin 0",
        "batch_begin 0",
        "batch_end 0 1.0",
        "epoch_end 0 1.0",
        "train_end",
    ]
    assert recorder.params == {"epochs": 1}
    assert recorder.model is training.model


def test_early_stopping_restores_the_best_weights():
    training = Training()
    callback = keras.callbacks.EarlyStopping(
        monitor="episode_return", mode="max", patience=2, restore_best_weights=True
    )
    assert training.fit([callback], returns(10.0, 50.0, 20.0, 30.0, 40.0)) == 4
    np.testing.assert_array_equal(training.weights[0], [1.0, 1.0])


def test_early_stopping_ignores_intervals_without_an_episode():
    training = Training()
    callback = keras.callbacks.EarlyStopping("episode_return", mode="max", patience=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = (math.nan, math.nan, math.nan, 10.0, 20.0, 30.0, 40.0)
        assert training.fit([callback], returns(*values)) == 7


def test_early_stopping_still_warns_of_a_wrong_name():
    callback = keras.callbacks.EarlyStopping("episode_retrun", mode="max")
    with pytest.warns(UserWarning, match="episode_retrun"):
        Training().fit([callback], returns(1.0))


def test_training_can_be_run_again_after_a_stop():
    training = Training()
    stop = keras.callbacks.EarlyStopping("loss", patience=1)
    assert training.fit([stop], returns(1.0, 1.0, 1.0)) == 2
    training.logs = []
    assert training.fit([], returns(1.0, 1.0, 1.0)) == 3


def test_csv_logger_writes_every_interval(tmp_path):
    path = tmp_path / "log.csv"
    Training().fit([keras.callbacks.CSVLogger(str(path))], returns(math.nan, 20.0))
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["episode_return"] for row in rows] == ["NA", "20.0"]
    assert [row["loss"] for row in rows] == ["0.5", "0.5"]


def test_terminate_on_nan_stops():
    logs = [{"loss": 1.0}, {"loss": math.nan}, {"loss": 1.0}]
    training = Training()
    assert training.fit([keras.callbacks.TerminateOnNaN()], logs) == 2


@keras_reads_variables
def test_reduce_lr_on_plateau_reaches_the_optimizer():
    training = Training()
    callback = keras.callbacks.ReduceLROnPlateau(
        "episode_return", mode="max", factor=0.5, patience=1
    )
    training.fit([callback], returns(math.nan, 10.0, 5.0))
    assert float(training.optimizer.learning_rate) == pytest.approx(0.05)
    assert training.logs[0]["learning_rate"] == pytest.approx(0.1)


def test_lambda_callback_sees_and_changes_logs():
    seen = []

    def on_epoch_end(epoch, logs):
        seen.append((epoch, f"{logs['episode_return']:.1f}"))
        logs["mine"] = 7

    training = Training()
    callback = keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)
    training.fit(callback, returns(math.nan, 2.0))
    assert seen == [(0, "nan"), (1, "2.0")]
    assert training.logs[1] == {"episode_return": 2.0, "loss": 0.5, "mine": 7}
    assert type(training.logs[1]) is dict


@keras_reads_variables
def test_learning_rate_scheduler_sets_the_rate():
    training = Training()
    callback = keras.callbacks.LearningRateScheduler(
        lambda epoch, lr: 0.1 / (epoch + 2)
    )
    training.fit([callback], returns(1.0, 2.0))
    assert float(training.optimizer.learning_rate) == pytest.approx(0.1 / 3)


def test_keras_history_records():
    history = keras.callbacks.History()
    Training().fit([history], returns(1.0, 2.0))
    assert history.history["episode_return"] == [1.0, 2.0]


@pytest.mark.parametrize("wrong", [print, keras.callbacks.History, "csv"])
def test_what_is_no_callback_is_refused(wrong):
    model = Training().model
    with pytest.raises(UsageError, match=r"callbacks\[1\]: got .*LambdaCallback"):
        CallbackRunner([keras.callbacks.History(), wrong], model, {})


def test_a_missing_model_attribute_is_explained(tmp_path):
    callback = keras.callbacks.ModelCheckpoint(str(tmp_path / "x.keras"))
    with pytest.raises(AttributeError, match="'save'.*get_weights"):
        Training().fit([callback], returns(1.0))
