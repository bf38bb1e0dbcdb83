"""One gradient step on one device, or on several that keep the same weights.

Each replica takes its share of every minibatch. Losses are weighted by the rows behind
them, gradients are added up over replicas exactly once, and everything after that
(clipping, the guard, the optimizer) sees on every replica what one device would see on
the whole minibatch.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.engine import optimizers
from tflearner.engine.gradients import multiplied
from tflearner.engine.optimizers import OptimizerRecord
from tflearner.errors import ConfigError, OptimizerError, UsageError, WorkerLostError
from tflearner.types import ColumnDict, ColumnsByModule, ModuleID, ParamDict, Tensor

_Tensors = TypeVar("_Tensors")  # A tensor, or a list of some.

# What the processes that are left get to hear when one is killed.
LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
# Options of Keras' optimizers, and what to do instead. The first two decide in a `tf.cond`
# whether replicas exchange something; the others bound each replica's part of a gradient.
NOT_WHEN_MIRRORED = {
    "gradient_accumulation_steps": "take a larger minibatch_size; every device computes a "
    "part of it only",
    "ema_overwrite_frequency": "leave it at None and call "
    "optimizer.finalize_variable_values(variables) at the end",
} | dict.fromkeys(
    ("clipnorm", "global_clipnorm", "clipvalue"),
    "clip with config.training(grad_clip=..., grad_clip_by=...)",
)
SUPPORTED = (
    tf.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.OneDeviceStrategy,
)


def strategy_of(
    strategy: object, num_gpus: int | None, first_gpu: int
) -> tf.distribute.Strategy:
    """Returns the strategy that `config.learners(...)` asks for.

    Args:
        strategy: The given strategy, if any; it is returned.
        num_gpus: Otherwise the number of GPUs: several get a `MirroredStrategy`, 0 is the
            CPU, and `None` is TensorFlow's default, the first GPU if there is one.
        first_gpu: The number of the first of these GPUs.

    Raises:
        ConfigError: If a device does not exist, or the strategy is of another kind.
    """
    if strategy is not None:
        if not isinstance(strategy, SUPPORTED):
            raise ConfigError(
                "learners(strategy=...)",
                type(strategy).__name__,
                f"one of {', '.join(kind.__name__ for kind in SUPPORTED)}",
            )
        return strategy
    if num_gpus is None:
        return tf.distribute.get_strategy()
    gpus = tf.config.list_logical_devices("GPU")
    if num_gpus == 0 and not gpus:
        return tf.distribute.get_strategy()
    if num_gpus == 0:
        return tf.distribute.OneDeviceStrategy("CPU:0")
    wanted = range(first_gpu, first_gpu + num_gpus)
    if wanted.stop > len(gpus):
        raise ConfigError(
            f"learners(num_gpus_per_learner={num_gpus}, local_gpu_idx={first_gpu})",
            f"{len(gpus)} GPUs that TensorFlow sees",
            f"GPU {', '.join(map(str, wanted))}",
            "num_gpus_per_learner=0 learns on the CPU",
        )
    names = [gpus[index].name for index in wanted]
    if num_gpus == 1:
        return tf.distribute.OneDeviceStrategy(names[0])
    return tf.distribute.MirroredStrategy(names)


class Replicas:
    """Runs steps on the devices of a strategy.

    Args:
        strategy: A strategy of `strategy_of`.

    Attributes:
        num: Replicas of all processes.
        num_local: Those of this process.
        devices: Their devices; `[None]` lets TensorFlow choose.
        device: The only one of them; `None` if there are several.
        num_workers: Processes that learn together.
        is_mirrored: Whether the strategy exchanges gradients, even for one replica.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.num: int = strategy.num_replicas_in_sync
        is_default = not isinstance(strategy, SUPPORTED)
        devices = [None] if is_default else [*strategy.extended.worker_devices]
        self.devices: list[str | None] = devices
        self.num_local = len(devices)
        self.device = devices[0] if len(devices) == 1 else None
        self.num_workers = self.num // self.num_local
        self.is_mirrored = isinstance(strategy, SUPPORTED[:2])

    @property
    def can_use_xla(self) -> bool:
        """Whether XLA may compile a step, which it cannot if devices exchange data."""
        return not self.is_mirrored

    @property
    def description(self) -> str:
        """The devices in words: "on 2 devices"; empty for one."""
        if self.num == 1:
            return ""
        processes = f" in {self.num_workers} processes" if self.num_workers > 1 else ""
        return f" on {self.num} devices{processes}"

    def computes_on_gpu(self) -> bool:
        """Whether steps run on GPUs."""
        names = [d or "GPU" for d in self.devices]
        has_gpu = bool(tf.config.list_logical_devices("GPU"))
        return has_gpu and any("GPU" in name for name in names)

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which variables, and optimizers, have to be made."""
        return self.strategy.scope()

    def check_is_ours(self, where: str, variables: Sequence[tf.Variable]) -> None:
        """Raises `UsageError` for a variable that is not on the replicas' devices."""
        for variable in variables:
            if not self.strategy.extended.variable_created_in_scope(variable):
                raise UsageError(
                    f"{where}, variable {variable.name!r}",
                    "one that was made outside of the learner's strategy",
                    f"one made in the scope of {type(self.strategy).__name__}",
                    "give specifications and let the learner build; or give "
                    "learners(strategy=...) a strategy, and make modules, layers, "
                    "variables and optimizers under `with strategy.scope():`",
                )

    def check_optimizer(self, optimizer: object) -> None:
        """Raises `OptimizerError` for an optimizer that cannot step here."""
        where = f"optimizer {getattr(optimizer, 'name', optimizer)!r}"
        made_for = getattr(optimizer, "_distribution_strategy", self.strategy)
        if made_for is not self.strategy:
            raise OptimizerError(
                where,
                f"one that was made outside of {type(self.strategy).__name__}",
                "one made in its scope",
                "make it in configure_optimizers_for_module(), or under "
                "`with strategy.scope():`",
            )
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        for name, remedy in NOT_WHEN_MIRRORED.items():
            if self.is_mirrored and getattr(inner, name, None):
                raise OptimizerError(
                    where,
                    f"{name}={getattr(inner, name)} with several devices",
                    "an optimizer without",
                    remedy,
                )

    # Outside of a step.

    def split(self, items: np.ndarray | Tensor) -> list[np.ndarray | Tensor]:
        """Returns the parts of the local replicas, of items as equal as can be.

        Args:
            items: Indices [num_items], an array or a tensor.
        """
        if self.num_local == 1:
            return [items]
        size = items.shape[0]
        size = tf.shape(items)[0] if size is None else size
        ends = [size * i // self.num_local for i in range(self.num_local + 1)]
        return [items[start:end] for start, end in itertools.pairwise(ends)]

    def copies(self, columns: ColumnsByModule) -> list[ColumnsByModule]:
        """Returns a nest of tensors once on each local device."""
        if self.num_local == 1:
            return [columns]
        copies = []
        for device in self.devices:
            with tf.device(device):
                copies.append(tf.nest.map_structure(tf.identity, columns))
        return copies

    def run(self, step: Callable, minibatches: list[ColumnsByModule]) -> Tensor:
        """Runs `step(minibatch)` on every local replica.

        Args:
            step: Returns the same on every replica.
            minibatches: One for each local replica.

        Returns:
            The result on the first device.
        """

        if self.devices == [None]:
            return step(minibatches[0])
        parts = self.strategy.experimental_distribute_values_from_function(
            lambda part: minibatches[part.replica_id_in_sync_group % self.num_local]
        )
        step = tf.autograph.experimental.do_not_convert(step)
        results = self.strategy.run(step, args=(parts,))
        return self.strategy.experimental_local_results(results)[0]

    @contextlib.contextmanager
    def names_lost_workers(self) -> Iterator[None]:
        """Turns TensorFlow's errors of a lost process into `WorkerLostError`."""
        try:
            yield
        except LOST_WORKER as error:
            if self.num_workers == 1:
                raise
            raise WorkerLostError(
                f"{self.num_workers} processes that learn together",
                f"one of them is gone ({type(error).__name__})",
                hint="end them all, and continue from the last checkpoint",
                unchanged=False,
            ) from error

    def gather(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns the numbers of all processes, int64 [num_workers, num_numbers]."""
        found = self._exchange(tf.constant([numbers], tf.int64))
        return found.numpy()[:: self.num_local]

    @functools.cached_property
    def _exchange(self) -> Callable[[Tensor], Tensor]:
        @tf.autograph.experimental.do_not_convert
        def on_replica(own):
            own = tf.identity(own)  # On the replica's device.
            return tf.distribute.get_replica_context().all_gather(own, axis=0)

        def exchange(own):
            results = self.strategy.run(on_replica, args=(own,))
            return self.strategy.experimental_local_results(results)[0]

        return tf.function(exchange, autograph=False)

    # Within a step, on one replica.

    def shares(self, minibatch: ColumnsByModule) -> dict[ModuleID, Tensor]:
        """Returns which part of each module's rows this replica has.

        Args:
            minibatch: Its columns by module.

        Returns:
            Scalars by module that add up to 1 over the replicas.
        """
        if self.num == 1:
            return dict.fromkeys(minibatch, 1.0)
        if all(_has_equal_parts(own) for own in minibatch.values()):
            return dict.fromkeys(minibatch, 1.0 / self.num)
        counts = tf.stack([_num_rows(own) for own in minibatch.values()])
        shares = tf.math.divide_no_nan(counts, self.sum(counts))
        return dict(zip(minibatch, tf.unstack(shares)))

    def weighted(self, losses: dict[ModuleID, Tensor], batch: ColumnsByModule) -> dict:
        """Scales losses so that their sum over replicas is that of the minibatch."""
        if self.num == 1:
            return losses
        shares = self.shares(batch)
        return {mid: loss * shares.get(mid, 1.0) for mid, loss in losses.items()}

    def sum(self, tensors: _Tensors) -> _Tensors:
        """Returns the sum over all replicas of a tensor, or of each in a list."""
        if self.num == 1:
            return tensors
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)

    def sum_dict(self, tensors: dict) -> dict:
        """Returns the sum over all replicas of each tensor; `None` stays `None`."""
        present = {key: x for key, x in tensors.items() if x is not None}
        return {**tensors, **dict(zip(present, self.sum([*present.values()])))}

    def merged(
        self, values: Tensor, shares: Sequence[Tensor], reductions: Sequence[str]
    ) -> Tensor:
        """Combines metrics of the replicas' parts to those of the whole minibatch.

        Args:
            values: float32 [num_metrics].
            shares: The part of the rows behind each.
            reductions: How each is reduced: "mean", "sum", "min" or "max".
        """
        if self.num == 1:
            return values
        weights = [1.0 if r == "sum" else s for s, r in zip(shares, reductions)]
        weights = tf.stack([tf.cast(w, tf.float32) for w in weights])
        # A part without rows has no say, whatever its mean is.
        result = self.sum(tf.where(weights > 0.0, values * weights, 0.0))
        for name, reduce in (("min", tf.reduce_min), ("max", tf.reduce_max)):
            if name in reductions:
                context = tf.distribute.get_replica_context()
                extremes = reduce(context.all_gather(values[None], axis=0), axis=0)
                is_own = tf.constant([r == name for r in reductions])
                result = tf.where(is_own, extremes, result)
        return result

    def rows(self, values: Tensor) -> Tensor:
        """Joins the per-row values of all replicas of this process.

        Args:
            values: float [rows of this replica]; with several processes, equally many
                on each replica.

        Returns:
            float32 [rows of this process], in the order of the minibatch.
        """
        values = tf.cast(values, tf.float32)
        if self.num == 1:
            return values
        context = tf.distribute.get_replica_context()
        everywhere = context.all_gather(values, axis=0)
        if self.num_workers == 1:  # Parts of a whole batch may differ by one row.
            return everywhere
        size = tf.shape(values)[0] * self.num_local
        worker = context.replica_id_in_sync_group // self.num_local
        own = everywhere[worker * size : (worker + 1) * size]
        if values.shape[0] is not None:
            own.set_shape([values.shape[0] * self.num_local])
        return own

    def step(self, record: OptimizerRecord, gradients: ParamDict) -> None:
        """Lets an optimizer take its step.

        Args:
            record: The optimizer.
            gradients: Gradients of the whole minibatch, by reference of its variables.
        """
        scale = optimizers.loss_scale(record.optimizer)
        if scale is not None:  # It divides by it, and looks for overflows.
            gradients = multiplied(gradients, tf.convert_to_tensor(scale))
        if self.num > 1:  # It adds gradients of all replicas up.
            gradients = multiplied(gradients, 1.0 / self.num)
        apply: Callable = record.optimizer.apply
        if not self.is_mirrored:
            apply = functools.partial(optimizers.apply, record.optimizer)
        apply([*gradients.values()], [record.params[ref] for ref in gradients])

    def assign(
        self, variables: Sequence[tf.Variable], values: Sequence[Tensor]
    ) -> None:
        """Assigns values to variables; they are the same on every replica."""
        if not self.is_mirrored:
            for variable, value in zip(variables, values):
                variable.assign(value)
            return

        def on_all(strategy, *values):
            for variable, value in zip(variables, values):
                strategy.extended.update(
                    variable, lambda v, x: v.assign(x), args=(value,), group=False
                )

        context = tf.distribute.get_replica_context()
        context.merge_call(
            tf.autograph.experimental.do_not_convert(on_all), args=tuple(values)
        )


def _has_equal_parts(columns: ColumnDict) -> bool:
    """Whether every replica has the same number of rows, all of which count."""
    if Columns.LOSS_MASK in columns or tf.executing_eagerly():
        return False
    # Lengths that are known while tracing are those of even minibatches.
    return tf.nest.flatten(dict(columns))[0].shape[0] is not None


def _num_rows(columns: ColumnDict) -> Tensor:
    mask = columns.get(Columns.LOSS_MASK)
    if mask is not None:
        return tf.reduce_sum(tf.cast(mask, tf.float32))
    return tf.cast(tf.shape(tf.nest.flatten(dict(columns))[0])[0], tf.float32)
