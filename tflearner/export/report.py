"""The report of an export, and its description in `spec.json`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

import tflearner
from tflearner.export.check import NUM_OBSERVATIONS, tolerance_of
from tflearner.export.endpoints import Program
from tflearner.export.formats import FORMATS
from tflearner.export.staging import FORMAT

VERSION = 1


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """A report of an export: its files, and its difference from the module.

    Attributes:
        path: The directory or file.
        format: "tf_saved_model", "tflite" or "keras".
        endpoints: The names of its endpoints.
        size_in_bytes: The total size of the files.
        max_difference: The largest difference from the module, relative to the size of
            the numbers, on `num_observations` sampled observations.
        num_observations: The number of sampled observations.
        left_out: The reasons for missing endpoints, by name.
    """

    path: pathlib.Path
    format: str
    endpoints: tuple[str, ...]
    size_in_bytes: int
    max_difference: float
    num_observations: int = NUM_OBSERVATIONS
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        own, size = FORMATS[self.format], _size(self.size_in_bytes)
        slash = "" if own.suffix else "/"
        checked = f"checked on {self.num_observations} observations"
        parts = [
            f"wrote {self.path}{slash} ({own.title}, {size})",
            f"endpoints {', '.join(self.endpoints)}",
            f"{checked}: largest difference {self.max_difference:.1g}",
        ]
        parts += [f"without {name}: {why}" for name, why in self.left_out.items()]
        return "; ".join(parts)


def spec_of(program: Program, max_difference: float) -> dict[str, Any]:
    """Returns the contents of `spec.json`: plain JSON."""
    policy = program.policy
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "endpoints": {
            traced.endpoint.name: {
                "inputs": _tensors(traced.named_inputs()),
                "outputs": _tensors(traced.named_outputs()),
            }
            for traced in program.endpoints
        },
        "left_out": dict(program.left_out),
        "observation_space": describe(policy.observation_space),
        "action_space": describe(policy.action_space),
        "module": type(policy.module).__name__,
        "env_to_module": [type(piece).__name__ for piece in policy.on_way_in],
        "module_to_env": [type(piece).__name__ for piece in policy.on_way_out],
        "check": {
            "num_observations": NUM_OBSERVATIONS,
            "tolerance": tolerance_of(policy.module),
            "largest_difference": max_difference,
        },
        "versions": {
            "tflearner": tflearner.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }


def describe(space: Any) -> Any:
    """Returns a space as plain JSON; bounds of a Box that are infinite are `None`."""
    if isinstance(space, gym.spaces.Dict):
        parts: Any = {str(k): describe(v) for k, v in space.spaces.items()}
        return {"type": "Dict", "spaces": parts}
    if isinstance(space, gym.spaces.Tuple):
        return {"type": "Tuple", "spaces": [describe(part) for part in space.spaces]}
    known: dict[str, Any] = {"type": type(space).__name__}
    if getattr(space, "dtype", None) is not None:
        known["dtype"] = np.dtype(space.dtype).name
        known["shape"] = list(space.shape)
    if isinstance(space, gym.spaces.Box):
        known |= {"low": _bounds(space.low), "high": _bounds(space.high)}
    elif isinstance(space, gym.spaces.Discrete):
        known |= {"n": int(space.n), "start": int(space.start)}
    elif isinstance(space, gym.spaces.MultiDiscrete):
        known |= {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
    return known


def _bounds(bounds: np.ndarray) -> Any:
    """Returns one number if all are the same, such as the 255 of images."""
    numbers = [x if np.isfinite(x) else None for x in bounds.ravel().tolist()]
    if len(set(numbers)) == 1:
        return numbers[0]
    return np.array(numbers, object).reshape(bounds.shape).tolist()


def _tensors(specs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"dtype": spec.dtype.name, "shape": _shape(spec.shape)}
        for name, spec in specs.items()
    }


def _shape(shape: tf.TensorShape) -> list[int | None] | None:
    return None if shape.rank is None else shape.as_list()


def _size(num_bytes: int) -> str:
    if num_bytes < 1_000_000:
        return f"{max(num_bytes / 1e3, 1):.0f} KB"
    return f"{num_bytes / 1e6:.1f} MB"
