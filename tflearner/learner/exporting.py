"""Exports a module of a learner, with the connectors and the update that go with it."""

import os
from typing import TYPE_CHECKING, Any

from tflearner import forks
from tflearner.connectors.connector import ConnectorV2
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import ExportError
from tflearner.export.formats import FORMATS
from tflearner.export.policy import export_policy, format_of
from tflearner.export.report import ExportReport
from tflearner.learner.exported_update import export_update
from tflearner.networks.own_random import own_random_numbers
from tflearner.types import ModuleID

if TYPE_CHECKING:
    from tflearner.learner.tf_learner import TfLearner


def export_learner(
    learner: "TfLearner",
    path: str | os.PathLike,
    *,
    module_id: ModuleID | None,
    format: str | None,
    env_to_module: ConnectorV2 | None,
    module_to_env: ConnectorV2 | None,
    include_update: bool,
    example_batch: object,
) -> ExportReport:
    """Writes a policy, see `TfLearner.export`."""
    forks.check("export()")
    learner._check_is_built()
    format = format_of(path, format)
    if module_id is None and len(learner.module) == 1:
        module_id = next(iter(learner.module))
    module_id = DEFAULT_MODULE_ID if module_id is None else module_id
    if not isinstance(module_id, str) or module_id not in learner.module:
        raise ExportError(
            "TfLearner.export()",
            f"module {module_id!r}, which is not in this learner",
            f"one of {sorted(learner.module)}",
            "name the one to export: module_id=...",
        )
    module: Any = learner._tf_module(module_id)
    if env_to_module is None and learner.config.env_to_module_connector is not None:
        raise ExportError(
            "TfLearner.export()",
            "no env_to_module, but a config with an env_to_module_connector",
            "the pipeline whose pieces have seen the environment",
            "algo.export(...) knows it; it is algo.env_runner.env_to_module",
        )
    if module_to_env is None:
        module_to_env = learner.config.build_module_to_env_connector(
            module.observation_space, module.action_space
        )
    further: dict[str, Any] = {}
    if include_update or example_batch is not None:
        if FORMATS[format].is_greedy:
            raise ExportError(
                "export(include_update=True)",
                f"format={format!r}",
                "'tf_saved_model', which can hold variables that change",
            )
        further = export_update(learner, module_id, example_batch).arguments()
    with own_random_numbers(learner.config.seed):  # Keras creates the layers again.
        return export_policy(
            module,
            path,
            format=format,
            env_to_module=env_to_module,
            module_to_env=module_to_env,
            **further,
        )
