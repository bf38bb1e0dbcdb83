"""Access to the disk: no other file in this folder calls the operating system."""

import contextlib
import ctypes
import datetime
import errno
import fcntl
import json
import os
import pathlib
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from typing import Any

import numpy as np

# Opening neither follows a link nor waits for the other end of a pipe.
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CHUNK = 4 * 2**20  # Bytes per write.
_MAX_PIECES = 10_000  # Pieces of data to look at; the rest of a file is a hole.


class HeldError(Exception):
    """A lock is held elsewhere; `holder` is the content of the lock file."""

    def __init__(self, holder: dict[str, Any]):
        super().__init__(holder)
        self.holder = holder


def absolute(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path from the root, with `~` replaced and links kept.

    Raises:
        OSError: If the path is relative and the current directory was removed.
    """
    try:
        return pathlib.Path(os.path.abspath(os.path.expanduser(path)))
    except FileNotFoundError:
        text = "the current directory was removed, so only absolute paths can be used"
        raise FileNotFoundError(errno.ENOENT, text) from None


def names(directory: pathlib.Path) -> list[str]:
    """Returns the sorted names in a directory; an empty list if it does not exist."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def status(path: pathlib.Path) -> os.stat_result | None:
    """Returns the status of a path, links not followed; `None` if nothing is there."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_directory(path: pathlib.Path) -> bool:
    """Returns whether a path is a directory, and not a link to one."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def size_of(path: pathlib.Path) -> int | None:
    """Returns a regular file's size in bytes; `None` for anything else, even a link."""
    found = status(path)
    regular = found is not None and stat.S_ISREG(found.st_mode)
    return found.st_size if found is not None and regular else None


def bytes_in_holes(path: pathlib.Path) -> int:
    """Returns how many bytes of a file were never written, and read as zeros.

    A compressing file system stores fewer blocks than bytes, too, which makes no hole.
    """
    found = os.lstat(path)
    if found.st_size <= found.st_blocks * 512:
        return 0
    descriptor, end, written = open_regular(path), 0, 0
    try:
        for _ in range(_MAX_PIECES):
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            written += end - start
    except OSError as error:
        if error.errno != errno.ENXIO:  # No more data.
            raise
    finally:
        os.close(descriptor)
    return found.st_size - written


def identity(path: pathlib.Path) -> tuple[int, int] | None:
    """Returns a key that distinguishes a directory from a later one with its name."""
    found = status(path)
    return (found.st_dev, found.st_ino) if found is not None else None


def make_directories(path: pathlib.Path) -> None:
    """Makes a directory and its missing parents durably."""
    if os.path.isdir(path):
        return
    make_directories(path.parent)
    with contextlib.suppress(FileExistsError):  # Another process was faster.
        os.mkdir(path)
    sync_directory(path.parent)


def make_directory(path: pathlib.Path) -> None:
    """Makes one directory that must not exist."""
    os.mkdir(path)


def random_suffix() -> str:
    """Returns 16 characters that no other name ends with."""
    return secrets.token_hex(8)


def write_file(path: pathlib.Path, pieces: list[memoryview]) -> None:
    """Writes a new file durably."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
    descriptor = os.open(path, flags, 0o666)
    try:
        for piece in pieces:
            _write_all(descriptor, piece)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: pathlib.Path, flags: int = os.O_RDONLY) -> int:
    """Opens a regular file, never a link, a pipe, a socket or a device.

    Args:
        path: The file.
        flags: As for `os.open`. With `os.O_CREAT` the file may be new.

    Returns:
        The descriptor, which the caller closes.

    Raises:
        OSError: If the path does not exist or is not a regular file.
    """
    found = status(path)
    if found is not None:  # Merely opening a device can have an effect.
        _check_is_regular(found, path)
    descriptor = os.open(path, flags | _SAFE, 0o666)
    try:
        _check_is_regular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_is_regular(found: os.stat_result, path: pathlib.Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EIO, "not a regular file", str(path))


def read_file(path: pathlib.Path, size: int) -> np.ndarray:
    """Returns the contents of a regular file of `size` bytes. uint8 [size].

    Raises:
        OSError: If the path is not a regular file of this size.
    """
    descriptor = open_regular(path)
    try:
        if os.fstat(descriptor).st_size != size:
            raise OSError(errno.EIO, f"not a regular file of {size} bytes", str(path))
        data = np.empty(size, np.uint8)
        view, done = data.data, 0
        while done < size:
            count = os.readv(descriptor, [view[done:]])
            if not count:
                raise OSError(errno.EIO, "the file ends early", str(path))
            done += count
        return data
    finally:
        os.close(descriptor)


def ends_with(path: pathlib.Path, end: bytes) -> bool:
    """Returns whether a path is a regular file that ends with the bytes `end`."""
    size = size_of(path)
    if size is None or size < len(end):
        return False
    descriptor = open_regular(path)
    try:
        return os.pread(descriptor, len(end), size - len(end)) == end
    finally:
        os.close(descriptor)


def sync_directory(path: pathlib.Path) -> None:
    """Makes what was created, renamed and removed in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: pathlib.Path, target: pathlib.Path) -> None:
    """Renames a file or directory within its parent; not yet durable."""
    os.rename(source, target)


def remove(path: pathlib.Path) -> None:
    """Removes a file, or a directory with all its contents, following no links."""
    if is_directory(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def free_bytes(path: pathlib.Path) -> int | None:
    """Returns the free bytes of a file system; `None` if it does not know."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize if found.f_blocks else None


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a file, at most until the process ends.

    The lock belongs to the open file, so it excludes threads as well as processes. The
    name of the holder in the file is for error messages only.

    Raises:
        HeldError: At once, if another process or thread holds it.
    """
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(_holder(descriptor)) from None
        try:
            _sign(descriptor)
            yield
        finally:
            # Closing is not enough if a child process was forked meanwhile.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        with contextlib.suppress(OSError):  # The save itself has succeeded.
            os.close(descriptor)


def replace_directory(stage: pathlib.Path, target: pathlib.Path) -> None:
    """Moves a finished directory to its place, where an older one may be.

    A reader of `target` finds the old or the new directory, complete. If the system
    cannot exchange two directories, there is an instant with neither.

    Args:
        stage: The new directory, beside `target`. It is gone afterwards.
        target: A directory, or nothing.
    """
    for directory, _, files in os.walk(stage):
        for name in files:
            _sync_file(pathlib.Path(directory, name))
        sync_directory(pathlib.Path(directory))
    old = stage
    if status(target) is None:
        os.rename(stage, target)
    elif not is_directory(target):
        raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(target))
    elif not _exchange(stage, target):
        old = stage.with_name(f"{stage.name}-old")
        os.rename(target, old)
        try:
            os.rename(stage, target)
        except BaseException:
            os.rename(old, target)
            raise
    sync_directory(target.parent)
    if status(old) is not None:
        remove(old)


def _exchange(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Exchanges two paths in one step; returns whether the system supports that."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return renameat2(*paths, _RENAME_EXCHANGE) == 0


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data[:_CHUNK]) :]


def _sync_file(path: pathlib.Path) -> None:
    descriptor = open_regular(path)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    """Writes the holder into a lock file, unless the file may be another program's.

    A file with a second name, such as a hard link in a backup, is locked but not
    written.
    """
    found = os.fstat(descriptor)
    if found.st_nlink > 1 or (found.st_size and not _holder(descriptor)):
        return
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    own = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(own).encode(), 0)


def _holder(descriptor: int) -> dict[str, Any]:
    """Returns the holder that a lock file names; an empty dict if it names none."""
    try:
        holder = json.loads(os.pread(descriptor, 1024, 0))
        kinds = {"pid": int, "host": str, "since": str}
        found = {name: holder[name] for name in kinds}
        return found if all(isinstance(found[n], kinds[n]) for n in kinds) else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
