"""Converts a state to the contents of files, and back."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tflearner.checkpoint import state_tree, strict_json, tensor_files
from tflearner.checkpoint.state_tree import Path
from tflearner.constants import COMPONENT_OPTIMIZER, COMPONENT_RL_MODULE
from tflearner.errors import CheckpointError

STATE = "state.json"
EXTRA = "extra.safetensors"
_FILE_OF_MODULE = re.compile(r"m(\d+)\.(weights|slots)\.safetensors")
_KINDS = {COMPONENT_RL_MODULE: "weights", COMPONENT_OPTIMIZER: "slots"}


@dataclasses.dataclass
class StateFiles:
    """The arrays of a state by file and key, and the rest of the state as JSON.

    Attributes:
        numbers: {module id: its number in file names}.
        arrays: {file name: {key: array}}.
        tree: The content of `state.json`: "about" and "state".
    """

    numbers: dict[str, int] = dataclasses.field(default_factory=dict)
    arrays: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    tree: dict[str, Any] = dataclasses.field(default_factory=dict)

    def contents(self) -> dict[str, list[memoryview]]:
        """Returns {file name: pieces of its contents}.

        Raises:
            CheckpointError: If there are too many numbers outside of arrays.
        """
        try:
            files = {STATE: [memoryview(strict_json.dumps(self.tree))]}
            for name, own in self.arrays.items():
                files[name] = tensor_files.pieces(own)
            return files
        except ValueError as error:
            hint = "put long lists of numbers into arrays"
            raise CheckpointError("state", str(error), hint=hint) from error

    def modules(self) -> dict[str, dict[str, Any]]:
        """Returns {module id: its number, and the count and hash of its weights}."""
        return {mid: self._module(number) for mid, number in self.numbers.items()}

    def non_finite(self) -> Iterator[str]:
        """Yields a sentence about each array with NaN or infinite numbers."""
        ids = {number: mid for mid, number in self.numbers.items()}
        for name, arrays in self.arrays.items():
            match = _FILE_OF_MODULE.fullmatch(name)
            owner = f"module {ids[int(match[1])]!r}, {match[2]}" if match else EXTRA
            for key, array in arrays.items():
                count = _count_non_finite(array)
                if count:
                    what = f"{count} of {array.size} numbers"
                    yield f"{owner}, tensor {key!r}: {what} are NaN or infinite"

    def _module(self, number: int) -> dict[str, Any]:
        weights = self.arrays.get(_file_name(number, COMPONENT_RL_MODULE), {})
        spec = [[k, [*a.shape], str(a.dtype)] for k, a in sorted(weights.items())]
        digest = hashlib.sha256(json.dumps(spec).encode()).hexdigest()
        return {"n": number, "spec_sha256": digest, "tensors": len(weights)}

    def _put(self, path: Path, array: np.ndarray) -> list[str]:
        """Assigns an array to a file; returns file, key and, if needed, the dtype."""
        name, path = self._file_of(path)
        own = self.arrays.setdefault(name, {})
        readable = "/".join(path).encode("utf-8", "backslashreplace").decode()
        key, copies = readable, 1
        while key in own or key == "__metadata__":
            copies += 1
            key = f"{readable}#{copies}"
        own[key] = array
        unnamed = tensor_files.name_of_unnamed(array.dtype)
        return [name, key] if unnamed is None else [name, key, unnamed]

    def _file_of(self, path: Path) -> tuple[str, Path]:
        """Returns an array's file, and the part of its path that becomes its key."""
        for at, component in enumerate(path[:-2]):
            if component in _KINDS:
                number = self.numbers.setdefault(path[at + 1], len(self.numbers))
                return _file_name(number, component), path[at + 2 :]
        return EXTRA, path


def encode(state: dict, about: dict) -> StateFiles:
    """Sorts a state into files.

    Args:
        state: Nested values, see `state_tree`.
        about: Nested values without arrays.

    Raises:
        CheckpointError: If a value cannot be stored; names its path.
    """
    for name, value in (("state", state), ("about", about)):
        if type(value) is not dict:
            raise CheckpointError(name, f"a {type(value).__name__}", "a dict")
    files = StateFiles()
    files.tree = {
        "about": state_tree.to_json(about, ("about",), _put_nothing),
        "state": state_tree.to_json(state, (), files._put),
    }
    return files


def decode(
    data: dict[str, np.ndarray], numbers: dict[str, int]
) -> tuple[dict, dict, StateFiles]:
    """Converts the contents of files back to a state, `about` and a `StateFiles`.

    Args:
        data: {file name: contents}. uint8 [N] each.
        numbers: See `StateFiles`.

    Raises:
        ValueError, TypeError, KeyError: If `encode` never made these files.
    """
    found = filter(None, map(_FILE_OF_MODULE.fullmatch, data))
    if {int(match[1]) for match in found} != set(numbers.values()):
        raise ValueError("manifest invalid: its modules are not those of its files")
    text = data[STATE].tobytes()
    # Files with more tensors than the state mentions are refused before parsing.
    num_left, left = text.count(b'"$array"'), dict[str, dict[str, np.ndarray]]()
    for name, own in data.items():
        if name != STATE:
            left[name] = _parse(name, own, num_left)
            num_left -= len(left[name])
    tree = strict_json.loads(text)
    files = StateFiles(numbers, {name: {} for name in left}, tree)

    def take(content: list[str]) -> np.ndarray:
        name, key, *rest = content
        if key not in left.get(name, {}):
            raise ValueError(f"{STATE}: no tensor {str(key)[:80]!r} left in {name!r}")
        array = tensor_files.with_dtype(left[name].pop(key), *rest)
        files.arrays[name][key] = array
        return array

    about = state_tree.from_json(tree["about"], take)
    state = state_tree.from_json(tree["state"], take)
    for name, keys in left.items():
        for key in keys:
            raise ValueError(f"{name}: tensor {key[:80]!r} is nowhere in the state")
    if type(state) is not dict or type(about) is not dict or len(tree) > 2:
        raise ValueError(f"{STATE}: not exactly two dicts, 'state' and 'about'")
    return state, about, files


def _parse(name: str, data: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """Returns {key: array} of a tensor file, which errors name."""
    try:
        return tensor_files.parse(data, most)
    except ValueError as error:
        raise ValueError(f"{name}: tensor file invalid: {error}") from error


def _file_name(number: int, component: str) -> str:
    return f"m{number}.{_KINDS[component]}.safetensors"


def _put_nothing(path: Path, array: np.ndarray) -> None:
    raise CheckpointError("/".join(path), "an array", "plain values")


def _count_non_finite(array: np.ndarray) -> int:
    # Integers never are. NumPy knows no kind ("V") for the floats of `ml_dtypes`.
    if array.dtype.kind in "iub" or "int" in array.dtype.name:
        return 0
    finite = np.isfinite(array)
    return 0 if finite.all() else int(array.size - np.count_nonzero(finite))
