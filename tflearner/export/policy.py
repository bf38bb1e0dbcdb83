"""Exports a module with its connectors."""

import os
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tflearner import forks
from tflearner.connectors.connector import ConnectorV2
from tflearner.errors import ExportError, did_you_mean
from tflearner.export import staging
from tflearner.export.check import largest_difference
from tflearner.export.endpoints import (
    ACT,
    Endpoint,
    Policy,
    Program,
    draws_unseeded,
)
from tflearner.export.formats import FORMATS, SAVED_MODEL
from tflearner.export.report import ExportReport, spec_of

# TensorFlow does not support several threads that trace and save at once.
_ONE_AT_A_TIME = threading.RLock()


def export_policy(
    module: Any,
    path: str | os.PathLike,
    *,
    format: str | None = None,
    env_to_module: ConnectorV2 | None = None,
    module_to_env: ConnectorV2 | None = None,
    endpoints: Sequence[Endpoint] = (),
    attributes: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Writes a policy that takes raw observations and returns the environment's actions.

    Everything is written beside the target, loaded back, compared with the module and
    then put in place in one step: whatever happens on the way, an older export stays as
    it is.

    Args:
        module: A `TfRLModule`.
        path: Where to: a directory for "tf_saved_model", else a file. An older export
            there is replaced.
        format: "tf_saved_model", "tflite" or "keras"; see `format_of`.
        env_to_module: The connector pipeline in front of the module.
        module_to_env: The one behind it.
        endpoints: Endpoints of a SavedModel in addition to the policy's own.
        attributes: What it has to hold for these, such as lists of variables.
        spec: What `spec.json` says of these, by name.

    Returns:
        What was written, and the largest difference found.

    Raises:
        ExportError: If a connector piece or the module cannot be exported, the result
            differs from the module, or something else is at `path`. Nothing was changed.
    """
    forks.check("export()")
    format = format_of(path, format)
    own = FORMATS[format]
    target = staging.checked_target(path, own.obstacle)
    format_of(target, format)  # A link may lead to a name with another suffix.
    policy = Policy(module, env_to_module, module_to_env)
    with (
        _ONE_AT_A_TIME,
        staging.telling(path, OSError, UnicodeError, tf.errors.OpError),
        staging.staged(target) as stage,
    ):
        program = _program(policy, None if own.is_greedy else endpoints, attributes)
        written = stage / f"export{own.suffix}"
        own.write(written, program)
        difference = largest_difference(policy, own.load(written, program))
        if written.is_dir():
            contents = spec_of(program, difference)
            staging.write_json(written / staging.SPEC, contents | dict(spec or {}))
        size = staging.size_of(written)
        staging.put_in_place(written, target, own.obstacle)
    return ExportReport(
        path=target,
        format=format,
        endpoints=program.names,
        size_in_bytes=size,
        max_difference=difference,
        left_out=program.left_out,
    )


def format_of(path: Any, format: str | None = None) -> str:
    """Returns the format of an export.

    Args:
        path: The path of the export. The suffixes `.keras` and `.tflite` choose these
            formats; any other path is the directory of a SavedModel.
        format: The format that the caller asked for; `None` leaves it to the suffix.

    Raises:
        ExportError: If there is no such format, or it contradicts the suffix.
    """
    suffix = pathlib.PurePath(staging.text_of(path)).suffix
    formats = {own.suffix: name for name, own in FORMATS.items() if own.suffix}
    of_suffix = formats.get(suffix.lower(), SAVED_MODEL)
    format = of_suffix if format is None else format
    if not isinstance(format, str) or format not in FORMATS:
        raise ExportError(
            "export(format=...)",
            repr(format),
            f"one of {', '.join(FORMATS)}",
            did_you_mean(format, FORMATS),
        )
    wanted = FORMATS[format].suffix
    if format != of_suffix or wanted not in ("", suffix):
        raise ExportError(
            staging.where_of(path),
            f"the suffix {suffix!r} for format={format!r}",
            f"a path that ends in {wanted!r}" if wanted else f"format={of_suffix!r}",
            "without format= the suffix decides",
        )
    return format


def _program(
    policy: Policy,
    further: Sequence[Endpoint] | None,
    attributes: Mapping[str, Any] | None,
) -> Program:
    """Traces the endpoints of an export.

    Args:
        policy: The module and its connectors.
        further: Endpoints beside the policy's own; `None` for the greedy one alone.
        attributes: What the export has to hold for these.
    """
    if further is None:
        return Program(policy, [policy.endpoints()[0].trace()])
    traced = [endpoint.trace() for endpoint in (*policy.endpoints(), *further)]
    drawing = {each.endpoint.name: draws_unseeded(each) for each in traced}
    left_out = {}
    if drawing[ACT]:
        left_out[ACT] = f"{drawing[ACT][0]} in it draws numbers that no seed decides"
    kept = [each for each in traced if each.endpoint.name not in left_out]
    return Program(policy, kept, left_out, attributes or {})
