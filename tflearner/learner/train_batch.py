"""Brings whatever an update is given into one form: a batch of columns by module."""

from collections.abc import Mapping
from typing import Any

from tflearner.columns import Columns
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.errors import BatchError, UsageError
from tflearner.metrics import MetricsLogger
from tflearner.modules.rl_module import MultiRLModule


def from_columns(batch: Any, modules: MultiRLModule) -> MultiAgentBatch:
    """Returns a batch by module.

    Args:
        batch: A `MultiAgentBatch`, or a mapping of module ids to columns, or, with one
            module, its columns alone.
        modules: The modules of the learner.

    Raises:
        BatchError: If it is something else, or names no module where there are several.
    """
    if isinstance(batch, MultiAgentBatch):
        return batch
    if not isinstance(batch, Mapping):
        raise BatchError(
            "batch",
            repr(type(batch)),
            "a MultiAgentBatch, a SampleBatch or a dict of columns",
        )
    if not batch or any(module_id in modules for module_id in batch):
        by_module = dict(batch)
    elif len(modules) == 1:
        by_module = {next(iter(modules)): batch}
    else:
        raise BatchError(
            "batch",
            f"columns {sorted(batch)} without a module id",
            f"columns by module id, one of {sorted(modules)}",
        )
    env_steps = max((num_rows(own) for own in by_module.values()), default=0)
    return MultiAgentBatch(by_module, env_steps=env_steps)


def from_episodes(
    episodes: Any,
    connector: LearnerConnectorPipeline | None,
    modules: MultiRLModule,
    metrics: MetricsLogger,
) -> MultiAgentBatch:
    """Returns the batch that the connector pipeline makes of episodes.

    Args:
        episodes: A list of episodes; those without steps are left out.
        connector: The pipeline.
        modules: The modules of the learner.
        metrics: What pieces log to.

    Raises:
        BatchError: If `episodes` is no list.
        UsageError: If there is no pipeline.
    """
    if not isinstance(episodes, list | tuple):
        raise BatchError("episodes", repr(type(episodes)), "a list of episodes")
    if connector is None:
        raise UsageError(
            "update_from_episodes()",
            "episodes, but this learner has no connector",
            hint="give it batches, or num_aggregator_actors_per_learner=0",
        )
    episodes = [episode for episode in episodes if len(episode)]
    if not episodes:
        return MultiAgentBatch({}, env_steps=0)
    by_module = connector(
        rl_module=modules,
        batch={},
        episodes=episodes,
        shared_data={},
        metrics=metrics,
    )
    env_steps = sum(len(episode) for episode in episodes)
    return MultiAgentBatch(by_module, env_steps=env_steps)


def num_rows(columns: Mapping[str, Any]) -> int:
    """Returns the number of rows, that of the observations if there are any."""
    column = columns.get(Columns.OBS)
    if column is None:
        column = next(iter(columns.values()), ())
    while isinstance(column, dict | tuple) and column:
        column = next(iter(column.values())) if isinstance(column, dict) else column[0]
    return len(column)
