"""Checks that Keras runs on TensorFlow, before Keras is imported."""

import json
import os
import sys
from typing import Any

from tflearner.errors import ConfigError

BACKEND = "tensorflow"


def check() -> None:
    """Raises `ConfigError` if Keras does not run on TensorFlow in this process.

    It needs the standard library only. Keras chooses its backend once, when it is
    imported, and with a backend that is not installed the import would fail.
    """
    if sys.flags.optimize > 1:
        raise ConfigError(
            "python -OO",
            "a process without docstrings",
            "docstrings, which TensorFlow Probability reads when it is imported",
            "run python, or python -O",
        )
    source, backend, remedy = _configured()
    if backend != BACKEND:
        raise ConfigError(
            source, f"the Keras backend {backend!r}", f"{BACKEND!r}", remedy
        )


def _configured() -> tuple[str, object, str]:
    """Returns the place of Keras' backend setting, its value and a hint."""
    keras: Any = sys.modules.get("keras")
    if hasattr(keras, "config"):
        remedy = f"start a new process with KERAS_BACKEND={BACKEND}"
        return "import keras", keras.config.backend(), remedy
    remedy = f"set KERAS_BACKEND={BACKEND} before Keras is imported"
    if os.environ.get("KERAS_BACKEND"):
        return "KERAS_BACKEND", os.environ["KERAS_BACKEND"], remedy
    home = os.environ.get("KERAS_HOME", os.path.join("~", ".keras"))
    path = os.path.expanduser(os.path.join(home, "keras.json"))
    return path, _backend_of_file(path), remedy


def _backend_of_file(path: str) -> object:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file).get("backend", BACKEND)
    except (OSError, ValueError, AttributeError):  # Keras ignores such a file, too.
        return BACKEND
