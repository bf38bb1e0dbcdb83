"""Makes processes that learn together agree on each update before they take it.

They exchange gradients in every step, so all of them have to take the same steps: with
one step more, or one module more, a process would never stop waiting for the others.
"""

import contextlib
import enum
import zlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.engine.replicas import Replicas
from tflearner.errors import BatchError, TFLearnerError, UsageError
from tflearner.intake.update_plan import (
    UpdateSettings,
    items_and_sizes,
    num_minibatches,
)
from tflearner.types import ColumnsByModule


class Outlook(enum.Enum):
    """The message of a process without a batch to the other processes."""

    END = "no more batches"
    ERROR = "a batch that it refused"


_NOTHING = {Outlook.ERROR: -1, Outlook.END: -2}
Checked = tuple[int, ColumnsByModule, UpdateSettings]


def agreed(
    checked: Iterator[Checked],
    settings: UpdateSettings,
    replicas: Replicas,
    of_iterator: bool,
) -> Iterator[Checked]:
    """Yields what `checked` yields, with the settings that all processes share.

    Args:
        checked: Environment steps, columns and settings of each batch of this process.
        settings: Its settings without a batch.
        replicas: The processes.
        of_iterator: Whether any number of batches may follow.

    Raises:
        BatchError: If an update would not be the same in all processes.
    """

    def agree(columns: dict | Outlook, own: UpdateSettings) -> UpdateSettings:
        with replicas.names_lost_workers():
            return common_settings(replicas.gather(summary(columns, own)), own)

    while True:
        try:
            item = next(checked, None)
        except Exception:
            # Without a word from this process, the others would wait for its steps.
            with contextlib.suppress(TFLearnerError):
                agree(Outlook.ERROR, settings)
            raise
        if item is None:
            if of_iterator:
                agree(Outlook.END, settings)
            return
        env_steps, columns, own = item
        yield env_steps, columns, agree(columns, own)


def summary(
    columns: ColumnsByModule | Outlook, settings: UpdateSettings
) -> tuple[int, int]:
    """Returns what the other processes have to know of an update.

    Args:
        columns: What this process trains on, or why on nothing.
        settings: How it goes through them.

    Returns:
        The number of its minibatches, and a number that is the same for the same
        modules and columns.
    """
    if isinstance(columns, Outlook):
        return _NOTHING[columns], 0
    layout = [
        (
            module_id,
            sorted(own),
            [(c.dtype.str, c.shape[1:]) for c in tf.nest.flatten(dict(own))],
        )
        for module_id, own in sorted(columns.items())
    ]
    number = zlib.crc32(repr([layout, settings.minibatch_size]).encode())
    if not columns:
        return 0, number
    return num_minibatches(*items_and_sizes(columns, settings), settings), number


def common_settings(found: np.ndarray, settings: UpdateSettings) -> UpdateSettings:
    """Returns settings by which every process takes as many steps as the longest.

    Args:
        found: `summary()` of each process, int64 [num_workers, 2].
        settings: Those of this one.

    Raises:
        BatchError: If one of them cannot train, or on other modules or columns.
    """
    counts, layouts = found[:, 0], found[:, 1]
    where = "update of several processes"
    refused, ended = (counts == _NOTHING[why] for why in (Outlook.ERROR, Outlook.END))
    if refused.any():
        raise BatchError(
            where,
            f"a batch that process {int(refused.argmax())} refused",
            hint="its own error says why",
        )
    if ended.any() and not ended.all():
        raise BatchError(
            where,
            f"process {int(ended.argmax())} without a batch where others have one",
            "iterators of one length",
            "say how many items to take: num_iters=...",
        )
    if (layouts != layouts[0]).any():
        raise BatchError(
            where,
            f"process {int((layouts != layouts[0]).argmax())} with other modules, "
            "columns or minibatch_size than process 0",
            "rows for the same modules, with the same columns, in each of them",
        )
    return settings._replace(num_total_minibatches=max(0, int(counts.max())))


def check_devices(
    columns: ColumnsByModule, settings: UpdateSettings, num_devices: int
) -> None:
    """Raises `UsageError` for minibatches that devices cannot share.

    Rows are shared evenly; of sequences one device may have one more than others.

    Args:
        columns: What is trained on.
        settings: How to go through them.
        num_devices: The devices of this process.
    """
    size = settings.minibatch_size
    has_sequences = any(Columns.SEQ_LENS in own for own in columns.values())
    if size is not None and size % num_devices and not has_sequences:
        lower = size - size % num_devices
        raise UsageError(
            "minibatch_size",
            str(size),
            f"a multiple of {num_devices}, for as many devices share each minibatch",
            f"take {lower + num_devices}",
        )
    for module_id, num_items in items_and_sizes(columns, settings)[1].items():
        if num_items < num_devices:
            raise UsageError(
                f"module {module_id!r}",
                f"minibatches of {num_items} rows or sequences",
                f"one for each of {num_devices} devices",
                "take larger minibatches, or fewer devices",
            )
