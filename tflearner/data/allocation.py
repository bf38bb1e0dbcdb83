"""Large arrays of zeros, refused before they are made if there is no room for them."""

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

# Where Linux says how much memory a container may have, in both versions of cgroups.
_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


@functools.cache
def machine_memory() -> int:
    """Returns the bytes of memory there are, used ones included: of the container, too."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # Windows.
        found = [2**37]
    for limit in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # None, or "max".
            found.append(int(pathlib.Path(limit).read_text()))
    return min(found)


def free_disk(directory: str) -> int:
    """Returns the bytes that are free in a directory, which is made if need be.

    Raises:
        ConfigError: If it cannot be made.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        return shutil.disk_usage(directory).free
    except OSError as error:
        raise ConfigError(
            "memmap_dir", f"{directory!r} ({error})", "a directory to write to"
        ) from error


def num_bytes(shape: Sequence[int], dtype: np.dtype) -> int:
    """Returns the size of an array."""
    return math.prod(shape) * dtype.itemsize


def as_text(size: int) -> str:
    """Returns a number of bytes for people.

    >>> as_text(2_400_000)
    '2.4 MB'
    """
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} bytes"


def check_room(where: str, need: int, limit: int, of: str, hint: str) -> None:
    """Raises `ConfigError` if there is no room.

    Args:
        where: The setting that makes it so large.
        need: How many bytes are needed.
        limit: How many there are.
        of: What has that many: "this machine's memory".
        hint: What to do about it.
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
        directory: Where to keep it in a file without a name, whose room is reserved at
            once and free again when the array goes; `None` keeps it in memory.

    Raises:
        ConfigError: If the system refuses to make it.
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
