"""What XLA compiled, kept on disk for the next process."""

import os
import warnings

_FLAG = "--tf_xla_persistent_cache_directory="
_has_compiled = False
_has_warned = False


def switch_on(path: str | os.PathLike) -> None:
    """Makes XLA keep what it compiles in a directory, and look there first.

    TensorFlow reads the setting once in a process, before its first compilation; after
    that there is a warning, once, and no cache. Programs are found again by what they compute,
    on the same kind of processor; a changed network or batch makes new ones.

    Args:
        path: The directory; made if there is none.
    """
    global _has_warned
    path = os.path.abspath(os.path.expanduser(path))
    flags = os.environ.get("TF_XLA_FLAGS", "").split()
    if f"{_FLAG}{path}" in flags:
        return
    if _has_compiled and _has_warned:
        return
    if _has_compiled:
        _has_warned = True
        warnings.warn(
            f"compile_cache={path!r} comes too late: XLA has compiled in this process "
            "already, and goes on as it began. Set it in the first config.",
            stacklevel=4,
        )
        return
    os.makedirs(path, exist_ok=True)
    flags = [flag for flag in flags if not flag.startswith(_FLAG)]
    os.environ["TF_XLA_FLAGS"] = " ".join([*flags, f"{_FLAG}{path}"])


def note_compilation() -> None:
    """Remembers that XLA has read its settings."""
    global _has_compiled
    _has_compiled = True
