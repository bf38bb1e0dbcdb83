"""Plans an update before anything changes."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tflearner.checks import check_count
from tflearner.columns import Columns
from tflearner.data import minibatches
from tflearner.data.minibatches import MinibatchPlan
from tflearner.errors import UsageError
from tflearner.types import ColumnDict, ColumnsByModule, ModuleID

# The most rows of a minibatch that repeats rows of its batch to keep its traced size.
MOST_REPEATED = 2**14


class UpdateSettings(NamedTuple):
    """How an update goes through its batch.

    Attributes:
        num_epochs: Passes over the batch.
        minibatch_size: Rows of every module per gradient step; `None` takes all rows.
        shuffle: Whether rows are shuffled before every pass.
        num_total_minibatches: Gradient steps instead of `num_epochs`, if above 0.
    """

    num_epochs: int = 1
    minibatch_size: int | None = None
    shuffle: bool = False
    num_total_minibatches: int = 0

    def check(self) -> None:
        """Raises `UsageError` if a count or `shuffle` has a wrong type or value."""
        if not isinstance(self.shuffle, bool | np.bool_):
            raise UsageError("shuffle_batch_per_epoch", repr(self.shuffle), "a bool")
        check_count("num_epochs", self.num_epochs)
        if self.minibatch_size is not None:
            check_count("minibatch_size", self.minibatch_size)
        check_count("num_total_minibatches", self.num_total_minibatches, at_least=0)

    def fitted_to(self, columns: ColumnsByModule) -> "UpdateSettings":
        """Returns settings whose minibatch size suits the batch.

        A minibatch with more rows than its batch repeats rows, up to `MOST_REPEATED`
        rows. With a larger size, the whole batch is the minibatch.

        Raises:
            UsageError: If there are too many minibatches.
        """
        if not columns:
            return self
        settings, sizes = self, items_and_sizes(columns, self)
        size = self.minibatch_size or 0
        if size > MOST_REPEATED:
            longest = max(map(num_rows, columns.values()))
            if size > longest:
                settings = self._replace(minibatch_size=longest)
                sizes = items_and_sizes(columns, settings)
        minibatches.check_fits(
            num_minibatches(*sizes, settings), max(sizes[1].values())
        )
        return settings


class UpdatePlan(NamedTuple):
    """Plan of an update: its columns and its minibatches.

    Attributes:
        columns: Columns of the modules that learn, ready to train on.
        env_steps: The environment steps that the batch stands for.
        minibatches: Which rows, or sequences, make up each minibatch.
        full_batch: Whether each minibatch is the whole batch.
        parts: The plans that this one joins, see `groups`; none if it joins none.
    """

    columns: ColumnsByModule
    env_steps: int
    minibatches: MinibatchPlan
    full_batch: bool
    parts: tuple["UpdatePlan", ...] = ()


def plan_update(
    columns: ColumnsByModule,
    env_steps: int,
    settings: UpdateSettings,
    rng: np.random.Generator,
) -> UpdatePlan:
    """Returns the plan of an update.

    Args:
        columns: Checked columns of at least one module, none without rows.
        env_steps: The environment steps that they stand for.
        settings: How to go through them.
        rng: Makes the orders; only a shuffled plan draws from it.
    """
    full_batch = settings.minibatch_size is None
    items, sizes = items_and_sizes(columns, settings)
    return UpdatePlan(
        columns,
        env_steps,
        minibatches.plan_minibatches(
            items,
            minibatch_size=sizes,
            num_epochs=settings.num_epochs,
            shuffle=settings.shuffle and not full_batch,
            num_total_minibatches=settings.num_total_minibatches,
            rng=rng,
        ),
        full_batch,
    )


def items_and_sizes(
    columns: ColumnsByModule, settings: UpdateSettings
) -> tuple[dict[ModuleID, int], dict[ModuleID, int]]:
    """Returns the rows, or sequences, of each module: in all, and in a minibatch."""
    items: dict[ModuleID, int] = {}
    sizes: dict[ModuleID, int] = {}
    for module_id, own in columns.items():
        seq_lens, size = own.get(Columns.SEQ_LENS), settings.minibatch_size
        items[module_id] = num_rows(own) if seq_lens is None else len(seq_lens)
        if size is None:
            size = items[module_id]
        elif isinstance(seq_lens, np.ndarray):
            size = minibatches.items_per_minibatch(
                len(seq_lens), int(seq_lens.sum()), size
            )
        sizes[module_id] = size
    return items, sizes


def num_minibatches(
    items: Mapping[ModuleID, int],
    sizes: Mapping[ModuleID, int],
    settings: UpdateSettings,
) -> int:
    """Returns how many minibatches the plan of an update has."""
    return settings.num_total_minibatches or minibatches.count_minibatches(
        items, sizes, settings.num_epochs
    )


def num_rows(columns: ColumnDict) -> int:
    """Returns the number of rows, that of the observations if there are any.

    Rows of sequences are counted without padding.
    """
    seq_lens = columns.get(Columns.SEQ_LENS)
    if isinstance(seq_lens, np.ndarray):
        return int(seq_lens.sum())
    column = columns.get(Columns.OBS)
    if column is None:
        column = next(iter(columns.values()), ())
    while isinstance(column, dict | tuple) and column:
        column = next(iter(column.values())) if isinstance(column, dict) else column[0]
    return len(column)
