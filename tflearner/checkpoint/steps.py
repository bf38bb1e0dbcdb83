"""Commits a step to disk and reads it back."""

import contextlib
import dataclasses
import errno
import hashlib
import pathlib
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from tflearner.checkpoint import files, manifest, state_files, strict_json
from tflearner.checkpoint.state_files import StateFiles
from tflearner.errors import (
    CheckpointCorruptError,
    CheckpointError,
    NonFiniteStateError,
)

_NAME = re.compile(r"step-(\d{12,18})")
_DEBRIS = re.compile(r"\.(stage|trash)-\d{12,18}-[0-9a-f]{16}")
MAX_STEP = 10**18 - 1
Digests = dict[str, Future[str]]
_MAX_HOLES = 32 * 2**20  # Bytes; a file with many zeros may have holes.
_NOT_AS_WRITTEN = (
    *(ValueError, TypeError, KeyError, AttributeError),
    *(IndexError, OverflowError, RecursionError),
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A step read from a directory of checkpoints.

    Attributes:
        path: The directory of the step.
        step: Its number.
        state: The saved state, exact in type and bits.
        about: The description that rebuilds the object.
        manifest: The content of the manifest: sizes, hashes, versions, modules.
        skipped: The directories of newer steps that are damaged, newest first.
    """

    path: pathlib.Path
    step: int
    state: dict
    about: dict
    manifest: dict
    skipped: tuple[pathlib.Path, ...] = ()


def name_of(step: int) -> str:
    """Returns the name of a step's directory.

    >>> name_of(1200)
    'step-000000001200'
    """
    return f"step-{step:012d}"


def number_of(name: str) -> int | None:
    """Returns the step of a directory's name, or `None`.

    >>> number_of("step-000000001200"), number_of("step-1200")
    (1200, None)
    """
    found = _NAME.fullmatch(name)
    step = int(found[1]) if found and found[1].isascii() else None
    return step if step is not None and name_of(step) == name else None


def is_debris(name: str) -> bool:
    """Returns whether a directory was left behind by a save that was killed."""
    return _DEBRIS.fullmatch(name) is not None


def trash(path: pathlib.Path) -> None:
    """Removes a step; a reader finds all of it or nothing.

    Args:
        path: The directory of the step.
    """
    hidden = _hide(path)
    files.sync_directory(path.parent)
    files.remove(hidden)


def _hide(path: pathlib.Path) -> pathlib.Path:
    """Renames a step so that it counts as deleted."""
    suffix = path.name.removeprefix("step-")
    hidden = path.with_name(f".trash-{suffix}-{files.random_suffix()}")
    files.rename(path, hidden)
    return hidden


@contextlib.contextmanager
def hashed(contents: dict[str, list[memoryview]]) -> Iterator[Digests]:
    """Yields {file name: hash}; another thread computes each hash meanwhile."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(_sha256, own) for name, own in contents.items()}


def commit(
    run: pathlib.Path,
    step: int,
    contents: dict[str, list[memoryview]],
    digests: Digests,
    **facts: Any,
) -> pathlib.Path:
    """Writes a step, either completely and durably or not at all.

    Args:
        run: The directory of the run, locked by the caller.
        step: A number that is not taken.
        contents: {file name: pieces}.
        digests: {file name: hash}, see `hashed`.
        **facts: The other arguments of `manifest.build`.

    Returns:
        The directory of the step.
    """
    stage = run / f".stage-{step:012d}-{files.random_suffix()}"
    target = run / name_of(step)
    try:
        files.make_directory(stage)
        for name, own in contents.items():
            files.write_file(stage / name, own)
        listed = {
            name: {
                "bytes": sum(piece.nbytes for piece in own),
                "sha256": digests[name].result(),
            }
            for name, own in contents.items()
        }
        text = manifest.build(step=step, files=listed, **facts)
        files.write_file(stage / manifest.NAME, [memoryview(text)])
        files.sync_directory(stage)
        files.rename(stage, target)
    except BaseException:
        with contextlib.suppress(OSError):  # The first error is the one to report.
            files.remove(stage)
        raise
    try:
        files.sync_directory(run)
    except BaseException as error:
        _take_back(target, error)
        raise
    return target


def _take_back(target: pathlib.Path, cause: BaseException) -> None:
    """Removes a step that is complete but not yet durable."""
    try:
        hidden = _hide(target)
    except OSError:
        what = f"saved, but a power cut may lose it: {cause}"
        raise CheckpointError(f"checkpoint {target}", what, unchanged=False) from cause
    with contextlib.suppress(OSError):
        files.sync_directory(target.parent)
        files.remove(hidden)


def _sha256(pieces: list[memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def read(path: pathlib.Path, *, allow_nonfinite: bool = False) -> Checkpoint:
    """Reads one step and checks every byte of it.

    Args:
        path: The directory of the step.
        allow_nonfinite: Whether arrays may hold NaN and infinite numbers.

    Raises:
        CheckpointCorruptError: If the files differ from what was written.
        CheckpointVersionError: If this version does not know the format.
        NonFiniteStateError: If an array has non-finite numbers.
    """
    with _refusing(path):
        facts, data = _checked_bytes(path)
        numbers = {mid: module["n"] for mid, module in facts["modules"].items()}
        state, about, parts = state_files.decode(data, numbers)
        if parts.modules() != facts["modules"]:
            raise ValueError("manifest invalid: its modules are not those of the files")
        if not allow_nonfinite:
            check_finite(parts, f"checkpoint {path}", finite=facts["finite"])
    return Checkpoint(path, facts["step"], state, about, facts)


def check_finite(parts: StateFiles, where: str, *, finite: bool = True) -> None:
    """Raises `NonFiniteStateError` for NaN and infinite numbers in arrays.

    Args:
        parts: The arrays to check.
        where: The name of the checkpoint in errors.
        finite: Whether the manifest says that all numbers are finite.
    """
    faults = list(parts.non_finite())
    if not finite and not faults:
        faults = ["the manifest says that not all numbers are finite"]
    if faults:
        more = f"; and {len(faults) - 3} arrays more" if len(faults) > 3 else ""
        got = "; ".join(faults[:3]) + more
        raise NonFiniteStateError(where, got, hint="allow_nonfinite=True accepts it")


def _checked_bytes(path: pathlib.Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns the checked manifest of a step, and {file name: contents}."""
    found = {name: files.size_of(path / name) for name in files.names(path)}
    size = found.pop(manifest.NAME, None)
    if size is None:
        raise ValueError(f"{manifest.NAME}: missing, or no regular file")
    if size > manifest.MAX_BYTES:
        limit = manifest.MAX_BYTES
        raise ValueError(f"manifest invalid: {size} bytes, the limit is {limit}")
    facts = manifest.parse(files.read_file(path / manifest.NAME, size).tobytes())
    if number_of(path.name) not in (None, facts["step"]):
        raise ValueError(f"manifest invalid: it is that of step {facts['step']}")
    for name, size in found.items():
        if name not in facts["files"] or size is None:
            raise ValueError(f"unexpected entry {name[:80]!r}")
    for name, file in facts["files"].items():
        if name not in found:
            raise ValueError(f"{name}: missing")
        if found[name] != file["bytes"]:
            wrong = f"size {file['bytes']} recorded, {found[name]} found"
            raise ValueError(f"{name}: {wrong}")
        if name == state_files.STATE and file["bytes"] > strict_json.MAX_BYTES:
            raise ValueError(f"{name}: {file['bytes']} bytes, over the limit")
    _check_holes(path, {name: file["bytes"] for name, file in facts["files"].items()})
    data = {}
    for name, file in facts["files"].items():
        data[name] = files.read_file(path / name, file["bytes"])
        if _sha256([data[name].data]) != file["sha256"]:
            raise ValueError(f"{name}: sha256 differs")
    return facts, data


def _check_holes(path: pathlib.Path, sizes: dict[str, int]) -> None:
    """Refuses sparse files, which need far more memory than disk space."""
    holes = {name: files.bytes_in_holes(path / name) for name in sizes}
    written = sum(sizes.values()) - sum(holes.values())
    if sum(holes.values()) > written // 2 + _MAX_HOLES:
        name = max(holes, key=lambda name: holes[name])
        raise ValueError(
            f"{name}: size {sizes[name]}, of which {holes[name]} bytes were never "
            "written; if it is yours, copy it by cp --sparse=never"
        )


@contextlib.contextmanager
def _refusing(path: pathlib.Path) -> Iterator[None]:
    """Turns errors in reading a directory into checkpoint errors that name it."""
    where = f"checkpoint {path}"
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        # Others, such as too many open files, say nothing about the data on the disk.
        damage = error.errno in (errno.EIO, errno.ELOOP, errno.ENXIO, errno.ENOENT)
        kind = CheckpointCorruptError if damage else CheckpointError
        raise kind(where, str(error)) from error
    except _NOT_AS_WRITTEN as error:
        raise CheckpointCorruptError(where, str(error)) from error
    except MemoryError as error:  # NumPy's message has the size.
        what = f"more than this machine can hold ({error})"
        raise CheckpointError(where, what) from error
