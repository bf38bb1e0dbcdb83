"""Checkpoints of a run on disk: safe from crashes, and free of code.

    run/
      .lock                       locked while a process saves; names the process
      step-000000001200/          committed: named so after all files are written
        MANIFEST.json             written last; its second line is the SHA-256 of the first
        state.json                the state, and how to rebuild what it is the state of
        m0.weights.safetensors    arrays below "rl_module", then the id of module 0
        m0.slots.safetensors      arrays below "optimizer", then the id of module 0
        extra.safetensors         all other arrays
      .stage-000000001201-<hex>/  being written
      .trash-000000001100-<hex>/  being deleted

Files are numbered: ids of modules stand inside of them only, so any id is fine. Nothing
in them can be executed. `state_tree` describes values as JSON, `tensor_files` arrays as
bytes, and `manifest.build` the manifest.

*Saving*: take the lock; refuse non-finite numbers; refuse if the disk is too full;
write every file into a staging directory and flush it, the manifest last; flush the
directory; rename it to its final name; flush the parent. Only then remove old steps,
each renamed before it is deleted. After an error the steps are the same as before.

*Reading*: take no lock; open the newest step; check the manifest's own hash, its
format, the exact set of regular files, their sizes and hashes; parse the very bytes
that were hashed. If the step is removed meanwhile, read the newer one instead.

*Cleaning up*: the holder of the lock removes the directories that a killed save left
behind, by the exact pattern of their names. Unknown entries are kept.
"""

import contextlib
import dataclasses
import errno
import logging
import os
import pathlib
import reprlib
from collections.abc import Iterator
from typing import Any

from tflearner.checkpoint import files, manifest, state_files, steps
from tflearner.checkpoint.steps import Checkpoint
from tflearner.constants import COMPONENT_LEARNER, WEIGHTS_SEQ_NO
from tflearner.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointLockedError,
    CheckpointNotFoundError,
    DiskFullError,
    NonFiniteStateError,
    StepExistsError,
    UsageError,
)

_LOG = logging.getLogger(__name__)
_LOCK = ".lock"
# Suffixes of exports, which checkpoints cannot have; `export.formats` adds to them.
EXPORT_SUFFIXES: set[str] = set()
_SPARE, _SPARE_BYTES = 1.05, 16_384  # The manifest, directories, unfilled blocks.


class CheckpointDirectory:
    """The checkpoints of one run: a directory with one step per save.

        directory = CheckpointDirectory("run", keep=5)
        directory.save({"weights_seq_no": 3, "rl_module": {...}}, about={}, step=1200)
        state = directory.read().state

    Args:
        path: The directory. The first save makes it.
        keep: The number of newest steps that a save keeps; `None` keeps all. The newest
            undamaged, finite step is always kept.
    """

    def __init__(self, path: str | os.PathLike, *, keep: int | None = None):
        if keep is not None and (type(keep) is not int or keep < 1):
            raise UsageError("keep", repr(keep), "an int >= 1, or None")
        self.path = _absolute(path)
        self._keep = keep

    def steps(self) -> list[int]:
        """Returns the committed steps in ascending order."""
        with _told(self.path):
            return self._committed()

    def next_step(self, least: int = 1) -> int:
        """Returns the number of a new step, above all existing ones.

        Args:
            least: The smallest number to return.

        Raises:
            CheckpointError: If no number is left.
        """
        committed = self.steps()
        step = max(least, committed[-1] + 1) if committed else least
        return _checked(step, self.path)

    def save(
        self,
        state: dict,
        about: dict,
        *,
        step: int | None = None,
        allow_nonfinite: bool = False,
    ) -> pathlib.Path:
        """Saves a state as a new step; after an error the directory is unchanged.

        Args:
            state: Nested dicts, lists, tuples and sets of arrays and scalars of NumPy,
                int, float, str, bool and `None`; keys are str, int or tuples of these.
            about: Like `state`, without arrays: the description that rebuilds the
                object.
            step: The number of the step; by default one above the newest.
            allow_nonfinite: Whether to save NaN and infinite numbers in arrays. A step
                with such numbers is never the one that retention has to keep.

        Returns:
            The directory of the step.

        Raises:
            CheckpointError: If a value cannot be saved, or the operating system
                refuses.
            NonFiniteStateError: If an array has non-finite numbers.
            CheckpointLockedError: If another process or thread is saving here.
            StepExistsError: If the step exists.
            DiskFullError: If there is too little space.
        """
        valid = step is None or (type(step) is int and 0 <= step <= steps.MAX_STEP)
        if not valid:
            raise UsageError("step", repr(step), f"an int from 0 to {steps.MAX_STEP}")
        check_is_no_export("save()", self.path)
        parts = state_files.encode(state, about)
        contents = parts.contents()
        need = sum(piece.nbytes for own in contents.values() for piece in own)
        with steps.hashed(contents) as digests:
            finite = not any(parts.non_finite())
            if not finite and not allow_nonfinite:
                steps.check_finite(parts, "state")
            with self._saving(int(need * _SPARE) + _SPARE_BYTES) as committed:
                newest = committed[-1] if committed else None
                if step is None:
                    step = _checked(1 if newest is None else newest + 1, self.path)
                self._check_is_new(step)
                path = steps.commit(
                    self.path,
                    step,
                    contents,
                    digests,
                    seq=_sequence_number(state),
                    finite=finite,
                    parent=newest,
                    modules=parts.modules(),
                )
                self._retire([*committed, step], step if finite else None, saved=step)
        return path

    def read(
        self,
        step: int | None = None,
        *,
        on_corrupt: str = "raise",
        allow_nonfinite: bool = False,
    ) -> Checkpoint:
        """Reads a step and checks every byte of it.

        Args:
            step: The number of the step; the newest by default.
            on_corrupt: "raise", or "previous" to skip steps that are damaged or
                non-finite and read the newest one before them.
            allow_nonfinite: Whether arrays may hold NaN and infinite numbers.

        Raises:
            CheckpointNotFoundError: If there is no such step.
            CheckpointCorruptError: If the files differ from what was written.
            CheckpointVersionError: If a newer version wrote it.
            NonFiniteStateError: If an array has non-finite numbers.
        """
        _check_on_corrupt(on_corrupt)
        with _told(self.path):
            return self._read(step, on_corrupt == "previous", allow_nonfinite)

    def _read(self, step: int | None, previous: bool, nonfinite: bool) -> Checkpoint:
        skipped: list[pathlib.Path] = []
        first: CheckpointError | None = None
        while True:
            number = self._newest(step, skipped, first)
            path = self.path / steps.name_of(number)
            before = files.identity(path)
            try:
                found = steps.read(path, allow_nonfinite=nonfinite)
                return dataclasses.replace(found, skipped=tuple(skipped))
            except (CheckpointCorruptError, NonFiniteStateError) as error:
                if before is None or files.identity(path) != before:
                    continue  # Retention removed it, so there is a newer one.
                if not previous:
                    raise
                first = first or error
                skipped.append(path)
                _LOG.warning("skipped: %s", error)

    def _newest(
        self,
        step: int | None,
        skipped: list[pathlib.Path],
        error: CheckpointError | None,
    ) -> int:
        """Returns the step to try next: the newest that was not skipped."""
        committed = self._committed()
        if step is not None and step not in committed:
            where = f"step {step!r} of {self.path}"
            raise CheckpointNotFoundError(where, f"not found among {committed}")
        left = [
            number
            for number in committed
            if (step is None or number <= step)
            and self.path / steps.name_of(number) not in skipped
        ]
        if left:
            return left[-1]
        if error is not None:
            raise error
        raise self._nothing_found()

    def _nothing_found(self) -> CheckpointNotFoundError:
        found = files.names(self.path)
        what = f"no committed checkpoint, found {found[:10]}"
        if files.status(self.path) is None:
            what = "no committed checkpoint: there is no such directory"
        elif not found and files.size_of(self.path) is not None:
            what = "no committed checkpoint: it is a file"
        elif any(name.startswith(".stage-") for name in found):
            what += "; the newest is uncommitted, there is nothing to load"
        return CheckpointNotFoundError(f"directory {self.path}", what)

    def _committed(self) -> list[int]:
        """Returns the committed steps at one moment.

        A listing made while others save may lack both the step that was there before
        and the one that replaced it, so only a directory that did not change counts.
        """
        while True:
            names = files.names(self.path)
            numbers = {name: steps.number_of(name) for name in names}
            committed = sorted(
                number
                for name, number in numbers.items()
                if number is not None and files.is_directory(self.path / name)
            )
            if files.names(self.path) == names:
                return committed

    def _check_is_new(self, step: int) -> None:
        path = self.path / steps.name_of(step)
        if files.status(path) is not None:
            raise StepExistsError(
                f"step {step}", f"an existing step, in {path}", "a new step"
            )

    @contextlib.contextmanager
    def _saving(self, need: int) -> Iterator[list[int]]:
        """Locks the directory, removes debris, checks for space and yields the steps.

        Args:
            need: The bytes that the save will write.
        """
        where = f"directory {self.path}"
        try:
            files.make_directories(self.path)
            with files.locked(self.path / _LOCK):
                for name in filter(steps.is_debris, files.names(self.path)):
                    if files.is_directory(self.path / name):
                        files.remove(self.path / name)
                free = files.free_bytes(self.path)
                if free is not None and free < need:
                    raise _disk_full(where, need, free)
                yield self._committed()
        except files.HeldError as error:
            raise _locked(where, error.holder) from None
        except CheckpointError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_full(where, need, self._free_bytes()) from error
            raise CheckpointError(where, f"cannot be saved to: {error}") from error

    def _free_bytes(self) -> int | None:
        try:
            return files.free_bytes(self.path)
        except OSError:  # Only the text of another error needs it.
            return None

    def _retire(self, committed: list[int], healthy: int | None, *, saved: int) -> None:
        """Removes old steps, but never the last one that a run could resume from.

        The save is already complete, so an error here is only logged: the next save
        tries again.

        Args:
            committed: The committed steps.
            healthy: A step known to be undamaged and finite.
            saved: The step that was just saved.
        """
        if self._keep is None:
            return
        committed = sorted(committed)
        kept = {*committed[-self._keep :], saved}
        if all(number in kept for number in committed):
            return
        try:
            newest_healthy = next(
                (n for n in reversed(committed) if n == healthy or self._is_healthy(n)),
                None,
            )
            for number in committed:
                if number not in kept and number != newest_healthy:
                    steps.trash(self.path / steps.name_of(number))
        except OSError as error:
            _LOG.warning("old checkpoints could not be removed: %s", error)

    def _is_healthy(self, number: int) -> bool:
        try:
            steps.read(self.path / steps.name_of(number))
        except (CheckpointCorruptError, NonFiniteStateError):
            return False
        return True


def read_checkpoint(
    path: str | os.PathLike,
    *,
    on_corrupt: str = "raise",
    allow_nonfinite: bool = False,
) -> Checkpoint:
    """Reads the newest step of a run, or one given step.

    Args:
        path: The directory of a run, or of one step.
        on_corrupt: "raise", or "previous" to read the newest undamaged step.
        allow_nonfinite: Whether arrays may hold NaN and infinite numbers.
    """
    _check_on_corrupt(on_corrupt)
    path = _absolute(path)
    number = steps.number_of(path.name)
    options: dict[str, Any] = {"allow_nonfinite": allow_nonfinite}
    run = CheckpointDirectory(path)
    with _told(path):
        names = files.names(path)
    if number is not None and number in CheckpointDirectory(path.parent).steps():
        run, options["step"] = CheckpointDirectory(path.parent), number
    elif manifest.NAME in names:  # A step that was copied to another place.
        return steps.read(path, **options)
    return run.read(on_corrupt=on_corrupt, **options)


def _absolute(path: str | os.PathLike) -> pathlib.Path:
    """Returns an absolute path; raises `CheckpointError` for an invalid one."""
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError("a path with a NUL character")
        return files.absolute(path)
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"directory {reprlib.repr(path)}", str(error)) from error


def _checked(step: int, path: pathlib.Path) -> int:
    """Returns the number of a new step; raises `CheckpointError` if it is too large."""
    if step > steps.MAX_STEP:
        raise CheckpointError(
            f"directory {path}",
            f"step {step} as the next one",
            f"a number up to {steps.MAX_STEP}",
            "move the newest step out of it, or save to another directory",
        )
    return step


def check_is_no_export(where: str, path: Any) -> None:
    """Raises `UsageError` for a path with the suffix of an exported file.

    Args:
        where: The call that the error names.
        path: A path, or `None`.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    suffix = pathlib.PurePath(text).suffix if isinstance(text, str) else ""
    if suffix.lower() in EXPORT_SUFFIXES:
        raise UsageError(
            where,
            f"the path {reprlib.repr(text)}",
            "a directory of checkpoints",
            f"export(path) writes {suffix} files, which act but cannot be restored",
        )


def _check_on_corrupt(wanted: str) -> None:
    if wanted not in ("raise", "previous"):
        raise UsageError("on_corrupt", repr(wanted), "'raise' or 'previous'")


@contextlib.contextmanager
def _told(path: pathlib.Path) -> Iterator[None]:
    """Turns errors of the operating system into `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"directory {path}", str(error)) from error


def _sequence_number(state: dict[str, Any]) -> int:
    """Returns the sequence number of the weights in a state; 0 if it has none."""
    below = state.get(COMPONENT_LEARNER)
    for holder in (state, below if isinstance(below, dict) else {}):
        number = holder.get(WEIGHTS_SEQ_NO)
        if type(number) is int and number >= 0:
            return number
    return 0


def _disk_full(where: str, need: int, free: int | None) -> DiskFullError:
    got, want = f"{free} bytes free", f"{need} bytes"
    return DiskFullError(where, got, want, "make room", need=need, free=free)


def _locked(where: str, holder: dict[str, Any]) -> CheckpointLockedError:
    who = "process {pid} on {host} has been" if holder else "another process is"
    since = " since {since}" if holder else ""
    what = f"{who} saving here{since}".format(**holder)
    return CheckpointLockedError(
        where, what, hint="try again when it is done", **holder
    )
