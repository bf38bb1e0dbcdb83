"""Settings that belong to a machine: files neither hold nor set them.

Each setting is a path with its default: "compile_cache", or
"replay_buffer_config/memmap_dir" for an entry of a dict.
"""

from collections.abc import Mapping
from typing import Any


def found(settings: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the machine settings that differ from their defaults, by path.

    >>> machine = {"cache": None, "gpu": 0, "buffer/dir": None}
    >>> found({"lr": 0.1, "gpu": 0, "buffer": {"size": 9, "dir": "/tmp"}}, machine)
    {'buffer/dir': '/tmp'}
    """
    values = {path: _value(settings, path, own) for path, own in machine.items()}
    return {path: own for path, own in values.items() if own != machine[path]}


def replaced(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of settings with new values at some paths.

    >>> replaced({"buffer": {"size": 9, "dir": "/tmp"}}, {"buffer/dir": None})
    {'buffer': {'size': 9, 'dir': None}}
    """
    changed = dict(settings)
    for path, value in values.items():
        name, _, key = path.partition("/")
        changed[name] = {**changed[name], key: value} if key else value
    return changed


def _value(settings: Mapping[str, Any], path: str, default: Any) -> Any:
    name, _, key = path.partition("/")
    value = settings.get(name, default)
    if not key:
        return value
    return value.get(key, default) if isinstance(value, Mapping) else default
