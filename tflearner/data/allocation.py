"""Allocates large arrays of zeros, after checking that there is room for them."""

import contextlib
import functools
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence

import numpy as np

from tflearner.errors import ConfigError

# Files with the memory limit of a Linux container, in both versions of cgroups.
_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


@functools.cache
def machine_memory() -> int:
    """Returns the total memory of the machine or its container, in bytes."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # Windows.
        found = [2**37]
    for limit in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # None, or "max".
            found.append(int(pathlib.Path(limit).read_text()))
    return min(found)


def free_disk(directory: str) -> int:
    """Returns the free bytes on a directory's disk; makes a missing directory.

    Raises:
        ConfigError: If the directory cannot be made.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        return shutil.disk_usage(directory).free
    except OSError as error:
        raise ConfigError(
            "memmap_dir", f"{directory!r} ({error})", "a directory to write to"
        ) from error


def num_bytes(shape: Sequence[int], dtype: np.dtype) -> int:
    """Returns the size of an array in bytes."""
    return math.prod(shape) * dtype.itemsize


def as_text(size: int) -> str:
    """Formats a number of bytes with a unit.

    >>> as_text(2_400_000)
    '2.4 MB'
    """
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} bytes"


def check_room(where: str, need: int, limit: int, of: str, hint: str) -> None:
    """Raises `ConfigError` if an allocation would exceed a limit.

    Args:
        where: The setting that determines the size.
        need: The bytes to allocate.
        limit: The available bytes.
        of: The name of the limit, such as "this machine's memory".
        hint: Advice for the error.
    """
    if need > limit:
        raise ConfigError(
            where, f"a buffer of {as_text(need)}", f"{as_text(limit)}, {of}", hint
        )


def zeros(
    shape: Sequence[int], dtype: np.dtype, directory: str | None = None
) -> np.ndarray:
    """Returns an array of zeros that takes memory only where it is written.

    Args:
        shape: Its shape.
        dtype: Its dtype.
        directory: The directory of an unnamed file that holds the array. Its space is
            reserved at once and freed with the array. `None` uses memory.

    Raises:
        ConfigError: If the system refuses the allocation.
    """
    size = num_bytes(shape, dtype)
    try:
        if directory is None or size == 0:
            return np.zeros(shape, dtype)
        with tempfile.TemporaryFile(dir=directory) as file:
            # A file with holes would end the process when the disk is full.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            mapped = np.memmap(file, dtype, "r+", shape=tuple(shape))
        # Indexing a memmap costs several us more than a plain view of it.
        return mapped.view(np.ndarray)
    except (OSError, MemoryError) as error:
        raise ConfigError(
            "an array of a replay buffer" + (f" in {directory}" if directory else ""),
            f"{as_text(size)}, which the system refused ({error})",
            hint="a smaller capacity, or more room",
        ) from error
