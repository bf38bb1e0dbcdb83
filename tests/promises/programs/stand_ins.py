"""Stand-ins for the operating system, where the checkpoint's one file of calls looks."""

import contextlib

from tflearner.checkpoint import files

# Functions of `os` that call nobody.
HARMLESS = {"fspath", "fsencode", "fsdecode", "getpid", "strerror"}


class StandIn:
    """A module whose functions are called through another function.

    Args:
        real: The module.
        call: Takes (function, arguments, keywords) and returns the result.
    """

    def __init__(self, real, call):
        self._real, self._call = real, call

    def __getattr__(self, name):
        value = getattr(self._real, name)
        if not callable(value) or isinstance(value, type) or name in HARMLESS:
            return value
        return lambda *args, **kwargs: self._call(value, args, kwargs)


@contextlib.contextmanager
def calling(call):
    """Within it, `os`, `shutil` and `fcntl` are called by `call`."""
    real = {name: getattr(files, name) for name in ("os", "shutil", "fcntl")}
    for name, module in real.items():
        setattr(files, name, StandIn(module, call))
    try:
        yield
    finally:
        for name, module in real.items():
            setattr(files, name, module)
