"""The directory of a training run, and the file of its results."""

import contextlib
import fcntl
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from tflearner.reporting.output import warn
from tflearner.types import ResultDict

DEFAULT_PARENT = "runs"


def make_run_directory(
    algo: str, env: str, log_dir: str | os.PathLike | None = None
) -> pathlib.Path:
    """Makes `<log_dir>/<algo>-<env>-<n>` with the first number that is free.

    Runs that start at the same moment get different directories.

    Args:
        algo: A name such as `"ppo"`.
        env: The environment's id. Characters unfit for a file name become dashes.
        log_dir: The parent, made if it is missing; `None` is `runs` in the current
            directory.

    Returns:
        The new directory.

    Raises:
        OSError: If the directory cannot be made.
        TypeError: If `log_dir` is not a path.
        ValueError: If `log_dir` cannot be a path, for example with a NUL character.
        RuntimeError: If `log_dir` begins with the home directory of an unknown user.
    """
    given = DEFAULT_PARENT if log_dir is None or log_dir == "" else log_dir
    parent = pathlib.Path(given).expanduser()
    parent.mkdir(parents=True, exist_ok=True)
    stem = f"{_file_name(algo)}-{_file_name(env)}"
    number = 1
    while True:
        directory = parent / f"{stem}-{number}"
        try:
            # Making it is the test: between a look and a mkdir, another run may come.
            directory.mkdir()
        except FileExistsError:
            number += 1
        else:
            return directory


class JsonLinesWriter:
    """Writes a JSON Lines file: one JSON object per line, flushed at once.

    The lines are strict JSON: NaN and infinities become null, arrays become lists.

    Lines that the file system refuses, for example on a full disk, are lost. The first
    error issues a `RuntimeWarning`, and no partial line is left.

        with JsonLinesWriter(run_directory / "metrics.jsonl") as writer:
            writer.write(algo.train())

    Args:
        path: The file, made if it is missing.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._descriptor: int | None = None
        self._has_failed = False
        with self._may_fail():
            self._open()

    def write(self, result: ResultDict) -> None:
        """Adds a line.

        Args:
            result: Nested; leaves are numbers, strings, arrays or lists of them.
                Others are written as their `str`.
        """
        line = json.dumps(_to_json(result), allow_nan=False) + "\n"
        with self._may_fail():
            _append(self._open(), line.encode())

    def close(self) -> None:
        """Closes the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with self._may_fail():
                os.close(descriptor)

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = _above_standard_streams(os.open(self.path, flags, 0o666))
        return self._descriptor

    @contextlib.contextmanager
    def _may_fail(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                warn(f"results are missing in {self.path}: {error}", 5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _above_standard_streams(descriptor: int) -> int:
    """Returns a descriptor above 2, the last of the standard streams.

    If a program has no standard streams, new files get their numbers, and libraries
    would log into such a file.
    """
    if descriptor > 2:
        return descriptor
    above = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return above


def _append(descriptor: int, line: bytes) -> None:
    """Writes a whole line, or nothing."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        while line:
            line = line[os.write(descriptor, line) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, end)
        raise


def _file_name(text: str) -> str:
    # Neither "..", nor a path, nor a hidden file, nor one the file system refuses.
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")[:80] or "unnamed"


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _to_json(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(child) for child in value]
    if hasattr(value, "__array__"):
        return _to_json(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
