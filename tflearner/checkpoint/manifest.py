"""The manifest of a step: the list of its files with their hashes."""

import functools
import hashlib
import importlib.metadata
import platform
import re
from typing import Any

import numpy as np

import tflearner
from tflearner.checkpoint import strict_json
from tflearner.checks import is_int
from tflearner.errors import CheckpointVersionError

NAME = "MANIFEST.json"
FORMAT = "tflearner-checkpoint"
VERSION = 1
OLDEST_VERSION = 1
MAX_BYTES = strict_json.MAX_BYTES + 66  # With the second line.

_MAX_NAMES = 50_000  # Enough for about 4,000 modules.
_FILE = re.compile(r"state\.json|extra\.safetensors|m\d+\.(weights|slots)\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def build(
    *,
    step: int,
    seq: int,
    finite: bool,
    parent: int | None,
    files: dict[str, dict[str, Any]],
    modules: dict[str, dict[str, Any]],
) -> bytes:
    """Returns the contents of a manifest: a line of JSON, and a line with its hash.

    Args:
        step: The number of the step.
        seq: The sequence number of its weights.
        finite: Whether all numbers in its arrays are finite.
        parent: The newest step when this one was saved.
        files: {name: {"bytes": size, "sha256": hash}} of all other files.
        modules: {module id: {"n": number in file names, "spec_sha256": hash over the
            sorted [key, shape, dtype] of its weights, "tensors": their number}}.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "min_reader": VERSION,
        "step": step,
        "seq": seq,
        "finite": finite,
        "parent": parent,
        "files": files,
        "modules": modules,
        "written_by": _versions(),
    }
    line = strict_json.dumps(content, _MAX_NAMES)
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def parse(data: bytes) -> dict[str, Any]:
    """Returns the content of a manifest.

    Raises:
        ValueError: If `build` did not make the data.
        CheckpointVersionError: If this version cannot read the format.
    """
    line, _, digest = data.partition(b"\n")
    if digest != hashlib.sha256(line).hexdigest().encode() + b"\n":
        raise ValueError("manifest invalid: sha256 differs")
    try:
        content = strict_json.loads(line, _MAX_NAMES)
        _check_version(content)
        _check(content)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"manifest invalid: {error}") from error
    return content


def _check_version(content: dict[str, Any]) -> None:
    found = content["version"]
    if content["format"] != FORMAT or type(found) is not int or found < OLDEST_VERSION:
        raise ValueError(f"not format {FORMAT!r}, version {OLDEST_VERSION} or later")
    if found > VERSION:
        raise CheckpointVersionError(
            "checkpoint",
            f"format {found}",
            f"format {OLDEST_VERSION}..{VERSION}",
            "upgrade tflearner",
            found=found,
            supported=(OLDEST_VERSION, VERSION),
        )


def _check(content: dict[str, Any]) -> None:
    """Raises if a value is not of the type that readers rely on."""
    for name in ("step", "seq"):
        _require(is_int(content[name], 0), name)
    _require(type(content["finite"]) is bool, "finite")
    _require(content["parent"] is None or is_int(content["parent"], 0), "parent")
    for name, file in content["files"].items():
        _require(_FILE.fullmatch(name), f"unexpected entry {name[:80]!r}")
        _require(is_int(file["bytes"], 0), f"bytes of {name}")
        _require(_SHA256.fullmatch(file["sha256"]), f"sha256 of {name}")
    _require("state.json" in content["files"], "no state.json")
    numbers = [module["n"] for module in content["modules"].values()]
    _require(all(is_int(n, 0) for n in numbers), "modules")
    _require(len(set(numbers)) == len(numbers), "modules")


def _require(holds: object, what: str) -> None:
    if not holds:
        raise ValueError(what)


@functools.cache
def _versions() -> dict[str, str | None]:
    """Returns the versions of the packages in use, without importing them."""
    return {
        "tflearner": tflearner.__version__,
        "tensorflow": _version_of("tensorflow"),
        "keras": _version_of("keras"),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
