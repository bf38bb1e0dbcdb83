"""Keeps the programs that XLA compiled on disk, for the next process."""

import os
import warnings

from tflearner.errors import ConfigError, shown

_FLAG = "--tf_xla_persistent_cache_directory="
_TOO_LATE = (
    "compile_cache={!r} comes too late: TensorFlow had started in this process already, "
    "and keeps its settings. Build the first learner with it before TensorFlow "
    "computes anything."
)
_directory: str | None = None
_has_compiled = False
_has_warned = False


def switch_on(path: str | os.PathLike) -> None:
    """Keeps XLA's compiled programs in a directory, and reuses them.

    TensorFlow reads the setting once in a process, when it starts to compute; after that
    there is a warning, once, and no cache. Programs are found again by what they
    compute, on the same kind of processor; a changed network or batch makes new ones.

    Args:
        path: The directory; made if there is none.

    Raises:
        ConfigError: If the path has blanks, at which TensorFlow would cut it.
    """
    global _directory
    path = os.path.abspath(os.path.expanduser(path))
    if path.split() != [path]:
        raise ConfigError("compile_cache", repr(path), "a path without blanks")
    flags = os.environ.get("TF_XLA_FLAGS", "").split()
    if f"{_FLAG}{path}" in flags:
        return
    if _has_compiled:
        _warn(path)
        return
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        got, want = f"{shown(path)} ({error.strerror})", "a directory to write to"
        raise ConfigError("compile_cache", got, want) from error
    flags = [flag for flag in flags if not flag.startswith(_FLAG)]
    os.environ["TF_XLA_FLAGS"] = " ".join([*flags, f"{_FLAG}{path}"])
    _directory = path


def note_compilation() -> None:
    """Remembers that XLA has compiled, and looks once whether it was kept."""
    global _has_compiled
    if not _has_compiled and _directory is not None and not os.listdir(_directory):
        _warn(_directory)
    _has_compiled = True


def _warn(path: str) -> None:
    global _has_warned
    if not _has_warned:
        warnings.warn(_TOO_LATE.format(path), stacklevel=5)
    _has_warned = True
