"""Saving in a thread, while training continues."""

import pathlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Self

from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import UsageError


class BackgroundSaver:
    """Saves checkpoints one after the other in a background thread.

        with BackgroundSaver() as saver:
            saver.save(directory, learner.get_state(), about={}, step=1200)
            ...  # Training continues. The next save waits for this one.

    If a save fails, the next call of any method raises its error.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._running: Future | None = None
        self._mutex = threading.Lock()
        self._closed = False

    def save(
        self,
        directory: CheckpointDirectory,
        state: dict,
        about: dict,
        *,
        step: int | None = None,
        allow_nonfinite: bool = False,
    ) -> None:
        """Starts to save a state, after waiting for a save that is still running.

        Args:
            directory: The directory of checkpoints to save to.
            state: As for `CheckpointDirectory.save`. It must not be changed afterwards.
            about: As for `CheckpointDirectory.save`.
            step: As for `CheckpointDirectory.save`.
            allow_nonfinite: As for `CheckpointDirectory.save`.

        Raises:
            CheckpointError: If the previous save failed; this one is not started.
        """
        options: dict[str, Any] = {"step": step, "allow_nonfinite": allow_nonfinite}
        with self._mutex:
            self._finish()
            if self._closed:
                raise UsageError("BackgroundSaver.save()", "a call after close()")
            self._running = self._pool.submit(directory.save, state, about, **options)

    def wait(self) -> pathlib.Path | None:
        """Waits for the running save and returns its path; `None` if none is running.

        Raises:
            CheckpointError: The error of the save.
        """
        with self._mutex:
            return self._finish()

    def close(self) -> None:
        """Waits for the running save and ends the thread.

        Raises:
            CheckpointError: The error of the save.
        """
        with self._mutex:
            self._closed = True
            try:
                self._finish()
            finally:
                self._pool.shutdown()

    def _finish(self) -> pathlib.Path | None:
        if self._running is None:
            return None
        # Ctrl-C may end the wait: the save is still the running one then.
        wait([self._running])
        done, self._running = self._running, None
        return done.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
