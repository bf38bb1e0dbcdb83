"""Saves a run at regular intervals while it is trained."""

import os

import keras

from tflearner.checkpoint.directory import check_is_no_export
from tflearner.checks import is_int
from tflearner.errors import TFLearnerError, UsageError
from tflearner.reporting.output import warn


class CheckpointCallback(keras.callbacks.Callback):
    """Keras callback that saves the run every few iterations of `fit`.

        algo.fit(100_000, callbacks=[tfl.CheckpointCallback("checkpoints", every=20)])
        algo = tfl.PPO.from_checkpoint("checkpoints")

    Each save ends the running episodes, see `Algorithm.save`, so do not save often.
    Save at regular intervals: with equal settings a run is then equal, interrupted or
    not. If a save fails, for example on a full disk, it issues a `RuntimeWarning` and
    training continues.

    Args:
        path: A directory of checkpoints; by default "checkpoints" in the run's
            directory.
        every: Iterations between saves. The last iteration is always saved.
        keep: The number of checkpoints to keep; `None` keeps all.
        background: Whether training continues while files are written.

    Raises:
        UsageError: If `every` or `keep` is not an int above 0, or the path has the
            suffix of an export.
    """

    def __init__(
        self,
        path: str | os.PathLike | None = None,
        *,
        every: int = 10,
        keep: int | None = 3,
        background: bool = False,
    ):
        super().__init__()
        check_is_no_export("CheckpointCallback()", path)
        for name, value in (("every", every), ("keep", 1 if keep is None else keep)):
            if not is_int(value, 1):
                got = f"{name}={value!r}"
                raise UsageError("CheckpointCallback()", got, "an int >= 1")
        self.path = path
        self.every = every
        self.keep = keep
        self.background = background
        self._since_last = 0

    def on_train_begin(self, logs=None):
        self._since_last = 0

    def on_epoch_end(self, epoch, logs=None):
        self._since_last += 1
        if self._since_last >= self.every:
            self._save()

    def on_train_end(self, logs=None):
        if self._since_last and not self.model.is_torn:
            self._save()

    def _save(self) -> None:
        self._since_last = 0
        try:
            self.model.save_checkpoint(
                self.path, keep=self.keep, background=self.background
            )
        except TFLearnerError as error:
            warn_not_saved(error)


def warn_not_saved(error: TFLearnerError) -> None:
    """Warns that a checkpoint was not saved."""
    warn(f"a checkpoint was not saved: {error}", 3)
