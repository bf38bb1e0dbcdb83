"""Where a training run leaves its files, and the file of its results."""

import json
import math
import os
import pathlib
import re
from typing import IO, Any, Self

import numpy as np

from tflearner.types import ResultDict

DEFAULT_PARENT = "runs"


def make_run_directory(
    algo: str, env: str, log_dir: str | os.PathLike | None = None
) -> pathlib.Path:
    """Makes `<log_dir>/<algo>-<env>-<n>` with the first number that is free.

    Runs that start at the same moment get directories of their own.

    Args:
        algo: A name such as `"ppo"`.
        env: The environment's id. Characters unfit for a file name become dashes.
        log_dir: The parent, made if need be; `None` is `runs` in the current
            directory.

    Returns:
        The new directory.
    """
    parent = pathlib.Path(log_dir or DEFAULT_PARENT).expanduser()
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
    """Appends one JSON object per line to a file; each line is there at once.

    The lines are strict JSON: NaN and infinities become null, arrays become lists.

        with JsonLinesWriter(run_directory / "metrics.jsonl") as writer:
            writer.write(algo.train())

    Args:
        path: The file, made if need be.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._file: IO[str] = self.path.open("a", encoding="utf-8")

    def write(self, result: ResultDict) -> None:
        """Adds a line.

        Args:
            result: Nested; leaves are numbers, strings, arrays or lists of them.
                Others are written as their `str`.
        """
        line = json.dumps(_to_json(result), allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


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
