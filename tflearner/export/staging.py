"""Puts an export in its place in one step, or leaves that place as it was."""

import contextlib
import fcntl
import glob
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from tflearner.checkpoint import files
from tflearner.errors import ExportError

SPEC = "spec.json"
FORMAT = "tflearner export"


def checked_target(path: Any, is_export: Any, suffix: str = "") -> pathlib.Path:
    """Returns where an export goes.

    Args:
        path: As the caller gave it.
        is_export: Function of a path that exists: whether it is an export of ours.
        suffix: What it has to end in.

    Raises:
        ExportError: If something else is there.
    """
    where = f"export({str(path)!r})"
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise ExportError("export(path=...)", repr(path), "a path")
    target = files.absolute(path).resolve()  # What a link leads to is replaced.
    if target.suffix != suffix and suffix:
        raise ExportError(where, "another name", f"one that ends in {suffix!r}")
    if target.exists() and not is_export(target):
        raise ExportError(
            where,
            "something that is no export of this format",
            "a path that is free, or an older export to replace",
        )
    return target


def is_saved_model(path: pathlib.Path) -> bool:
    """Whether there is a SavedModel export of ours, or an empty directory."""
    if not path.is_dir():
        return False
    try:
        spec = json.loads((path / SPEC).read_text())
    except (OSError, ValueError):
        return not any(path.iterdir())
    return isinstance(spec, dict) and spec.get("format") == FORMAT


@contextlib.contextmanager
def staged(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a new directory beside the target, gone at the end whatever happens.

    Also removes what processes that were killed have left there: the lock on such a
    directory ends with the process that made it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.export-"
    for left in target.parent.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left)
    stage = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        with _locked(stage):
            yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: pathlib.Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # A forked child may have it open, too.
        os.close(descriptor)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes plain JSON."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def size_of(path: pathlib.Path) -> int:
    """Returns the bytes of a file, or of all files in a directory."""
    found = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in found if file.is_file())


def put_in_place(staged: pathlib.Path, target: pathlib.Path) -> None:
    """Makes what was staged, a directory or a file, the target in one step, durably."""
    if staged.is_dir():
        files.replace_directory(staged, target)
        return
    with staged.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(staged, target)
    files.sync_directory(target.parent)
