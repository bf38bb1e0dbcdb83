"""Puts an export in its place in one step, or does not change that place.

An export replaces an older export or an empty directory, and nothing else. A directory
is an export if `spec.json` says so and all names in it belong to a SavedModel. A file
is an export if it ends with our mark. A staging directory that a killed process left
behind is removed if it has the exact name and the mark of one.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from tflearner.checkpoint import files, strict_json
from tflearner.errors import ExportError, TFLearnerError

SPEC = "spec.json"
FORMAT = "tflearner export"

# All names in a SavedModel's directory.
_DIRECTORIES = {"assets", "variables"}
_FILES = re.compile(
    r"spec\.json|saved_model\.pb|fingerprint\.pb"
    r"|variables/variables\.(index|data-\d{5}-of-\d{5})"
)
# The mark is the comment of a ZIP archive, which is the end of the file. A Keras file
# is an archive, and readers of TFLite files allow one after the model.
_MARK_OF_FILES = b"tflearner export"
_MARK_OF_STAGES = "staged-by-tflearner"  # A file that holds the target's name.
_STAGED = "export"
_SHOWN = 200  # Characters of a path in errors.


def text_of(path: Any) -> str:
    """Returns a path as text.

    Raises:
        ExportError: If it is not a path.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text:
        raise ExportError("export(path=...)", repr(path)[:_SHOWN], "a path")
    return text


def where_of(path: Any) -> str:
    """Returns the name of an export to a path in errors."""
    text = repr(text_of(path))
    return f"export({text if len(text) <= _SHOWN else text[:_SHOWN] + '...'})"


@contextlib.contextmanager
def telling(path: Any, *kinds: type[Exception]) -> Iterator[None]:
    """Raises `ExportError` in place of errors of some classes, such as `OSError`.

    Args:
        path: The path of the export.
        *kinds: The classes of errors to replace.
    """
    try:
        yield
    except TFLearnerError:
        raise
    except kinds as error:
        text = f"{type(error).__name__}: {error}"
        raise ExportError(where_of(path), text[: 3 * _SHOWN]) from error


# Why a path cannot be replaced: what is there, and a hint.
Obstacle = tuple[str, str | None]
_NO_EXPORT = "something that is no export of this format"


def checked_target(
    path: Any, obstacle: Callable[[pathlib.Path], Obstacle | None]
) -> pathlib.Path:
    """Returns the place of an export: if the path is a link, the place it leads to.

    Args:
        path: As the caller gave it.
        obstacle: Returns why a place cannot be replaced.

    Raises:
        ExportError: If there is something that an export must not replace.
    """
    # NUL is a ValueError, and a loop of links a RuntimeError up to Python 3.12.
    with telling(path, OSError, ValueError, RuntimeError):
        target = files.absolute(text_of(path)).resolve()
        check_is_replaceable(path, target, obstacle)
    return target


def check_is_replaceable(
    path: Any,
    target: pathlib.Path,
    obstacle: Callable[[pathlib.Path], Obstacle | None],
) -> None:
    """Raises `ExportError` if a path holds anything but an export or empty directory."""
    found = None if files.status(target) is None else obstacle(target)
    if found is not None:
        got, hint = found
        want = "a path that is free, or an older export to replace"
        raise ExportError(where_of(path), got, want, hint)


def obstacle_of_file(file: pathlib.Path) -> Obstacle | None:
    """Returns why a path is no marked file."""
    if files.ends_with(file, _MARK_OF_FILES):
        return None
    hint = "move it to another place: earlier versions wrote files without a mark"
    return _NO_EXPORT, hint


def obstacle_of_directory(directory: pathlib.Path) -> Obstacle | None:
    """Returns why a path is no empty directory, and no marked one of a SavedModel."""
    if not files.is_directory(directory):
        return _NO_EXPORT, None
    if _is_lived_in(directory):
        got = "a directory with the current one, a home or a mount point"
        return got, "choose a directory below it"
    is_marked, stranger = _is_marked(directory), next(_strangers(directory), None)
    if is_marked and stranger is not None:
        got = f"an older export with {stranger[:_SHOWN]!r}, which is no part of it"
        return got, "move that to another place, or choose another path"
    is_ours = stranger is None and (is_marked or not files.names(directory))
    return None if is_ours else (_NO_EXPORT, None)


def _is_lived_in(directory: pathlib.Path) -> bool:
    """Returns whether a directory is a mount point, or has home or the current one."""
    if os.path.ismount(directory):
        return True
    places = [os.path.expanduser("~")]
    with contextlib.suppress(FileNotFoundError):  # The current directory may be gone.
        places.append(os.getcwd())
    return any(
        pathlib.Path(place).resolve().is_relative_to(directory) for place in places
    )


def _strangers(directory: pathlib.Path, prefix: str = "") -> Iterator[str]:
    """Yields the paths in a directory that are no part of a SavedModel of ours."""
    with os.scandir(directory) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False) and name in _DIRECTORIES:
                yield from _strangers(directory / entry.name, f"{name}/")
            elif not _FILES.fullmatch(name) or not entry.is_file(follow_symlinks=False):
                yield name


def _is_marked(directory: pathlib.Path) -> bool:
    """Returns whether `spec.json` says that a directory is an export."""
    size = files.size_of(directory / SPEC)
    if size is None or size > strict_json.MAX_BYTES:
        return False
    try:
        spec = strict_json.loads(files.read_file(directory / SPEC, size).tobytes())
    except ValueError:
        return False
    return isinstance(spec, dict) and spec.get("format") == FORMAT


def mark_file(file: pathlib.Path) -> None:
    """Marks a file as an export, which a later export may replace."""
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = _MARK_OF_FILES


@contextlib.contextmanager
def staged(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes a staging directory beside the target, and removes it at the end.

    It also removes staging directories of processes that were killed: the lock on such
    a directory ends with its process. Missing parents of the target are made, and
    removed again if they are empty at the end.
    """
    missing = [each for each in target.parents if not each.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name[:50]}.export-"  # Names have at most 255 bytes.
    mark = f"{FORMAT} to {target.name!r}".encode()
    with contextlib.suppress(OSError):
        _remove_debris(target.parent, prefix, mark)
    stage = target.parent / f"{prefix}{files.random_suffix()}"
    os.mkdir(stage, 0o700)
    try:
        with _locked(stage):
            files.write_file(stage / _MARK_OF_STAGES, [memoryview(mark)])
            yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        for parent in missing:
            with contextlib.suppress(OSError):  # It is not empty.
                parent.rmdir()


def _remove_debris(parent: pathlib.Path, prefix: str, mark: bytes) -> None:
    pattern = re.compile(re.escape(prefix) + "[0-9a-f]{16}")
    for name in filter(pattern.fullmatch, files.names(parent)):
        left = parent / name
        with contextlib.suppress(OSError), _locked(left):
            found = files.read_file(left / _MARK_OF_STAGES, len(mark)).tobytes()
            names = set(files.names(left)) - {_MARK_OF_STAGES}
            if found == mark and all(each.startswith(_STAGED) for each in names):
                shutil.rmtree(left)


@contextlib.contextmanager
def _locked(directory: pathlib.Path) -> Iterator[None]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(directory, flags)
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


def put_in_place(
    staged: pathlib.Path,
    target: pathlib.Path,
    obstacle: Callable[[pathlib.Path], Obstacle | None],
) -> None:
    """Moves a staged directory or file to its target in one step, durably.

    Raises:
        ExportError: If something else was put at the target meanwhile.
    """
    check_is_replaceable(target, target, obstacle)
    if staged.is_dir():
        files.replace_directory(staged, target)
        return
    with staged.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(staged, target)
    files.sync_directory(target.parent)
