"""Exports a module with its connectors."""

import os
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tflearner import forks
from tflearner.connectors.connector import ConnectorV2
from tflearner.constants import EXPORT_SUFFIXES
from tflearner.errors import ExportError, did_you_mean
from tflearner.export import staging
from tflearner.export.check import largest_difference
from tflearner.export.endpoints import (
    ACT,
    Endpoint,
    Policy,
    TracedEndpoint,
    draws_unseeded,
)
from tflearner.export.keras_file import load_keras_file, write_keras_file
from tflearner.export.report import TITLES, ExportReport, spec_of
from tflearner.export.saved_model import load_functions, write_saved_model
from tflearner.export.tflite import load_tflite, write_tflite

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
    suffix = EXPORT_SUFFIXES.get(format, "")
    target = staging.checked_target(path, suffix)
    format_of(target, format)  # A link may lead to a name with another suffix.
    policy = Policy(module, env_to_module, module_to_env)
    with (
        _ONE_AT_A_TIME,
        staging.telling(path, OSError, UnicodeError, tf.errors.OpError),
        staging.staged(target) as stage,
    ):
        further = endpoints if format == "tf_saved_model" else None
        traced, left_out = _traced(policy, further)
        written = stage / f"export{suffix}"
        if format == "keras":
            write_keras_file(written, policy, traced[0])
            staging.mark_file(written)
            functions = load_keras_file(written, policy, traced[0])
        elif format == "tflite":
            write_tflite(written, traced[0])
            staging.mark_file(written)
            functions = load_tflite(written, traced[0])
        else:
            write_saved_model(written, traced, attributes)
            functions = load_functions(written, traced)
        difference = largest_difference(policy, functions)
        if format == "tf_saved_model":
            contents = spec_of(policy, traced, left_out, difference)
            staging.write_json(written / staging.SPEC, contents | dict(spec or {}))
        size = staging.size_of(written)
        staging.put_in_place(written, target, suffix)
    return ExportReport(
        path=target,
        format=format,
        endpoints=tuple(each.endpoint.name for each in traced),
        size_in_bytes=size,
        max_difference=difference,
        left_out=left_out,
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
    formats = {own: name for name, own in EXPORT_SUFFIXES.items()}
    of_suffix = formats.get(suffix.lower(), "tf_saved_model")
    format = of_suffix if format is None else format
    if not isinstance(format, str) or format not in TITLES:
        raise ExportError(
            "export(format=...)",
            repr(format),
            f"one of {', '.join(TITLES)}",
            did_you_mean(format, TITLES),
        )
    wanted = EXPORT_SUFFIXES.get(format, "")
    if format != of_suffix or wanted not in ("", suffix):
        raise ExportError(
            staging.where_of(path),
            f"the suffix {suffix!r} for format={format!r}",
            f"a path that ends in {wanted!r}" if wanted else f"format={of_suffix!r}",
            "the suffix decides if format= is left out",
        )
    return format


def _traced(
    policy: Policy, further: Sequence[Endpoint] | None
) -> tuple[list[TracedEndpoint], dict[str, str]]:
    """Returns the traced endpoints, and why others are left out.

    Args:
        policy: The module and its connectors.
        further: Endpoints beside the policy's own; `None` for the greedy one alone.
    """
    if further is None:
        return [policy.endpoints()[0].trace()], {}
    traced = [endpoint.trace() for endpoint in (*policy.endpoints(), *further)]
    drawing = {each.endpoint.name: draws_unseeded(each) for each in traced}
    if not drawing[ACT]:
        return traced, {}
    reason = f"{drawing[ACT][0]} in it draws numbers that no seed decides"
    return [each for each in traced if each.endpoint.name != ACT], {ACT: reason}
