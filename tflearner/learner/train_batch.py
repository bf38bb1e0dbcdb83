"""Brings whatever an update is given into one form: a batch of columns by module."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode
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
    if not batch or _is_by_module(batch, modules):
        by_module = dict(batch)
    elif len(modules) == 1:
        by_module = {next(iter(modules)): batch}
    else:
        raise BatchError(
            "batch",
            f"columns {[*batch]} without a module id",
            f"columns by module id, one of {sorted(modules)}",
        )
    result = MultiAgentBatch(
        {
            module_id: _as_columns(module_id, own)
            for module_id, own in by_module.items()
        },
        env_steps=0,
    )
    result.count = max((len(own) for own in result.policy_batches.values()), default=0)
    return result


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
        BatchError: If `episodes` is no list of episodes.
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
    for index, episode in enumerate(episodes):
        if not isinstance(episode, SingleAgentEpisode):
            raise BatchError(
                f"episodes[{index}]", repr(type(episode)), "a SingleAgentEpisode"
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


def is_empty(columns: Mapping[str, Any]) -> bool:
    """Returns whether no column has any row."""
    leaves = tree.flatten([c for name, c in columns.items() if name != Columns.INFOS])
    return all(np.shape(leaf)[:1] == (0,) for leaf in leaves)


def num_rows(columns: Mapping[str, Any]) -> int:
    """Returns the number of rows, that of the observations if there are any."""
    column = columns.get(Columns.OBS)
    if column is None:
        column = next(iter(columns.values()), ())
    while isinstance(column, dict | tuple) and column:
        column = next(iter(column.values())) if isinstance(column, dict) else column[0]
    return len(column)


def _is_by_module(batch: Mapping, modules: MultiRLModule) -> bool:
    if any(key in modules for key in batch):
        return True
    # Module ids that nobody knows, unless all columns are nested observations.
    is_nested = all(isinstance(value, Mapping) for value in batch.values())
    return is_nested and Columns.OBS not in batch


def _as_columns(module_id: Any, columns: Any) -> SampleBatch:
    where = f"module {module_id!r}"
    if isinstance(columns, SampleBatch):
        return columns
    if not isinstance(columns, Mapping):
        raise BatchError(where, repr(type(columns)), "a dict of columns")
    result = SampleBatch()
    for name, column in columns.items():
        if not isinstance(name, str):
            raise BatchError(where, f"a column called {name!r}", "a name")
        try:
            result.update(SampleBatch({name: column}))
        except ValueError as error:  # NumPy's, for a list of unlike rows.
            raise BatchError(
                f"{where}, column {name!r}", "a ragged list", "rows of one shape"
            ) from error
    return result
