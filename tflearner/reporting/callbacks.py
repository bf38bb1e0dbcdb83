"""Runs Keras callbacks, unmodified, in the training loop of an algorithm.

One reporting interval is one epoch of one batch.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from tflearner.errors import UsageError
from tflearner.reporting import names


class CallbackModel:
    """The `model` of callbacks: weights, the optimizer and saving.

    Args:
        get_weights: Function that returns the weights as a list of arrays.
        set_weights: Function that takes a list of arrays and sets the weights.
        optimizer: The Keras optimizer whose learning rate callbacks read and set.
        save_checkpoint: `Algorithm.save`, for callbacks that save the run.

    Attributes:
        stop_training: Set by a callback to end training after this interval.
        is_torn: Whether training was interrupted within an interval, which is not saved.
        optimizer: The optimizer passed to the constructor.
        save_checkpoint: The function passed to the constructor.
    """

    def __init__(
        self,
        get_weights: Callable[[], list[np.ndarray]],
        set_weights: Callable[[list[np.ndarray]], None],
        optimizer: Any,
        save_checkpoint: Callable[..., str] | None = None,
    ):
        self._get_weights = get_weights
        self._set_weights = set_weights
        self.optimizer = optimizer
        self.save_checkpoint = save_checkpoint
        self.stop_training = False
        self.is_torn = False

    def get_weights(self) -> list[np.ndarray]:
        """Returns the weights as a list of arrays."""
        return self._get_weights()

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights from a list of arrays."""
        self._set_weights(weights)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a callback asked its model for {name!r}, but in reinforcement learning "
            "the model has only get_weights, set_weights, optimizer, stop_training and "
            "save_checkpoint"
        )


class CallbackRunner:
    """Calls Keras callbacks as `keras.Model.fit` would.

        runner = CallbackRunner(callbacks, model, {"epochs": 10})
        runner.begin()
        while not runner.stop_training:
            runner.epoch_begin(epoch)
            ...
            logs = runner.epoch_end(epoch, logs)
        runner.end(logs)

    Args:
        callbacks: Instances of `keras.callbacks.Callback`, or a single one.
        model: The `model` of the callbacks.
        params: The `params` of the callbacks: `epochs`, `steps` and `verbose`.
    """

    def __init__(
        self,
        callbacks: "Iterable[keras.callbacks.Callback] | keras.callbacks.Callback",
        model: CallbackModel,
        params: dict[str, Any],
    ):
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        self._callbacks = list(callbacks)
        for i, callback in enumerate(self._callbacks):
            if not isinstance(callback, keras.callbacks.Callback):
                raise UsageError(
                    f"callbacks[{i}]",
                    repr(callback),
                    "an instance of keras.callbacks.Callback",
                    "wrap a function: keras.callbacks.LambdaCallback(on_epoch_end=f)",
                )
        self._model = model
        for callback in self._callbacks:
            callback.set_params(dict(params))
            callback.set_model(model)

    @property
    def stop_training(self) -> bool:
        """Whether a callback requested the end of training."""
        return self._model.stop_training

    def break_off(self) -> None:
        """Notes that training was interrupted within an interval; `end` comes next."""
        self._model.is_torn = True

    def begin(self) -> None:
        """Calls `on_train_begin`."""
        self._model.stop_training = self._model.is_torn = False
        for callback in self._callbacks:
            callback.on_train_begin({})

    def epoch_begin(self, epoch: int) -> None:
        """Calls the hooks for the start of an epoch: one reporting interval."""
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch, {})
        for callback in self._callbacks:
            callback.on_train_batch_begin(0, {})

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> dict[str, float]:
        """Calls the hooks for the end of an epoch: one reporting interval.

        Args:
            epoch: Its number, from 0 in a new run.
            logs: Flat name -> number.

        Returns:
            The logs, with the entries that callbacks added.
        """
        shared = _Logs(logs)
        # TerminateOnNaN listens to batches only.
        for callback in self._callbacks:
            callback.on_train_batch_end(0, shared)
        with warnings.catch_warnings():
            if shared.has_unmeasured():  # The user need not act on it.
                warnings.filterwarnings("ignore", ".*which is not available")
            for callback in self._callbacks:
                callback.on_epoch_end(epoch, shared)
        return dict(shared)

    def end(self, logs: dict[str, float] | None = None) -> None:
        """Calls `on_train_end`: callbacks may restore weights and close files."""
        for callback in self._callbacks:
            callback.on_train_end(dict(logs or {}))


class _Logs(dict):
    """Logs whose `get` skips episode values that are still NaN.

    EarlyStopping would take NaN for the best value so far, which nothing can beat, and
    stop; CSVLogger needs the key from the first row on. Both ask with `get`.
    """

    def get(self, name: str, default: Any = None) -> Any:
        value = super().get(name, default)
        return default if names.is_unmeasured(name, value) else value

    def has_unmeasured(self) -> bool:
        return any(names.is_unmeasured(name, value) for name, value in self.items())
