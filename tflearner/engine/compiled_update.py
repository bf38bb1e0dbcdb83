"""The traced loop over minibatches: one call per update.

A Python-to-TensorFlow call costs 0.25 to 0.7 ms whatever it computes, so the loop over
minibatches runs inside one `tf.function`: rows are gathered by an index plan, each
minibatch goes through the learner's `_update`, and losses and metrics come back stacked,
in one tensor. Compiled by XLA the loop is 13 times faster than one call per minibatch on
small dense networks.

With several devices each gets its part of every minibatch, see `replicas.py`; the loop
is the same, around a step that runs on all of them.
"""

import collections
import contextlib
import dataclasses
import enum
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Collection, Hashable, Sequence

import numpy as np
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.data import arrays
from tflearner.data.minibatches import MinibatchPlan
from tflearner.engine import compile_cache
from tflearner.engine.overflow_guard import Group, OverflowGuard
from tflearner.engine.replicas import Replicas
from tflearner.errors import ConfigError, TFLearnerError, UsageError
from tflearner.metrics import MetricsLogger
from tflearner.networks.tensors import from_numpy
from tflearner.types import Column, ColumnsByModule, ModuleID, Tensor

logger = logging.getLogger(__name__)

MetricKey = tuple[str, ...]

# Recurrent cells bring a loop of their own, which XLA runs no faster. Nor does it run
# unrolled ones faster: 4.6 ms a step instead of 2.8 ms (64 units, 20 steps). Those
# multiply by one kernel more often than any other network, at least twice per step.
LOOPS = {"While", "StatelessWhile", "CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"}
MOST_PRODUCTS_OF_A_KERNEL = 6
# XLA on CPU has no fast convolution inside a loop: 2,434 ms a step, where the plain loop
# takes 153 ms, and 103 ms if XLA compiles the step alone.
CONVOLUTIONS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative")
# On one thread XLA's products of wide matrices are slower than TensorFlow's: of SAC's
# steps those with 256 rows times 256x256 (16.8 million multiplications) take 5.3 ms in
# XLA's loop and 3.4 ms in the plain one, those with 128 rows 3.1 and 2.4 ms, those with 64
# rows 1.8 ms in both. On two threads XLA takes 3.6, 2.3 and 1.5 ms, the plain loop 3.6,
# 2.6 and 2.0 ms.
WIDE_PRODUCT = 8_000_000
XLA_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.UnimplementedError,
    tf.errors.InternalError,
    tf.errors.NotFoundError,
)


# What `if`, `float` and NumPy functions raise on a tensor that has no value yet.
PYTHON_ON_TENSORS = (
    tf.errors.OperatorNotAllowedInGraphError,
    NotImplementedError,
    AttributeError,
    TypeError,
)


# Of a tiny module, each takes 10 MB.
MOST_PROGRAMS = 64


class Mode(enum.Enum):
    """The part of an update that XLA compiles."""

    LOOP = "XLA around the loop"
    STEP = "XLA per step, plain loop"
    PLAIN = "plain loop"


@dataclasses.dataclass
class UpdateOutputs:
    """Outputs of the minibatches of one update.

    Attributes:
        values: Key -> one value per minibatch and per `log_value` under that key, in
            order. float32 [num_values].
        settings: Key -> the settings of its `log_value`.
        rows: Key -> the values of `put_out_rows` for each row of each minibatch, in the
            order of the plan. float32 [num_minibatches, rows per minibatch].
        put_back: The groups of modules that were put back, because the update made a
            variable infinite or NaN; each with the first such variable.
        overflowed: Module id -> the name of that variable, for modules put back.
    """

    values: dict[MetricKey, np.ndarray]
    settings: dict[MetricKey, dict]
    rows: dict[MetricKey, np.ndarray]
    put_back: list[tuple[tuple[ModuleID, ...], tf.Variable]]
    overflowed: dict[ModuleID, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _OutputLayout:
    """Layout of the vector of numbers that a step returns.

    Attributes:
        keys: The metric of each of the first numbers; a metric may have several.
        settings: Key -> the settings of its `log_value`.
        row_keys: What the others belong to, one for each row. The numbers of rows, which
            differ between modules and batches, stand in front of them.
    """

    keys: list[MetricKey]
    settings: dict[MetricKey, dict]
    row_keys: list[MetricKey]

    def outputs(
        self, values: np.ndarray, groups: Sequence[Group], overflowed: np.ndarray
    ) -> UpdateOutputs:
        """Sorts values [num_minibatches, numbers] by key; lists modules put back."""
        positions: dict[MetricKey, list[int]] = {}
        for position, key in enumerate(self.keys):
            positions.setdefault(key, []).append(position)
        by_key = {key: values[:, own].ravel() for key, own in positions.items()}
        first = len(self.keys) + len(self.row_keys)
        nums_rows = values[0, len(self.keys) : first].astype(int)
        parts = np.split(values[:, first:], np.cumsum(nums_rows)[:-1], axis=1)
        rows = dict(zip(self.row_keys, parts))
        put_back = [
            (group.module_ids, group.variables[position])
            for group, position in zip(groups, overflowed.tolist())
            if position >= 0
        ]
        return UpdateOutputs(by_key, self.settings, rows, put_back)


class CompiledUpdate:
    """Runs updates through traced programs, one per layout of the batch.

    A layout is the set of modules, their columns' shapes and dtypes, and the minibatch
    size. Rows and minibatches may vary in number: the plain loop takes any, and for XLA,
    which compiles anew for each shape, both are padded: to the next power of two, or to
    up to twice that where this program is compiled already.

    Args:
        update: Takes {module id: {column: tensor}}; returns forward outputs and losses
            by module, and {key: [logged tensors]}.
        overflow_guard: Takes module ids; returns the guard of an update of the modules.
        metrics: The logger that `update` logs to, per-row values included.
        replicas: The devices that it runs on.
        jit_compile: True, False or "auto".
        run_eagerly: Whether nothing is traced at all.
        loss_key: The key under which a module's loss is reported.
        tracing: Returns the context in which an update is traced.
    """

    def __init__(
        self,
        update: Callable,
        overflow_guard: Callable[[Collection[ModuleID]], OverflowGuard],
        metrics: MetricsLogger,
        replicas: Replicas,
        *,
        jit_compile: bool | str,
        run_eagerly: bool,
        loss_key: str,
        tracing: Callable[[], contextlib.AbstractContextManager],
    ):
        self._update = update
        self._overflow_guard = overflow_guard
        self._metrics = metrics
        self.replicas = replicas
        self._jit_compile = jit_compile
        self._run_eagerly = run_eagerly
        self._loss_key = loss_key
        self._tracing = tracing
        self._programs: dict[Hashable, _Program] = {}
        self._last_layout: Hashable = None
        # Module id -> a `tf.TensorSpec` [None, ...] for each column, or a nest of them,
        # as in the last update of the module.
        self.column_specs: dict[ModuleID, dict[str, tf.TensorSpec]] = {}
        self.num_traces = 0
        self.num_compilations = 0
        self.xla_failed = False

    def __call__(
        self, columns: ColumnsByModule, plan: MinibatchPlan, *, full_batch: bool
    ) -> UpdateOutputs:
        """Takes one gradient step per minibatch of the plan.

        Args:
            columns: NumPy columns by module, [N, ...].
            plan: Which rows make up each minibatch.
            full_batch: Whether minibatches are as long as the batch: then their length
                varies from update to update, and XLA would compile for each.
        """
        # Devices may have one sequence more than others.
        full_batch |= _has_sequences(columns) and self.replicas.num_local > 1
        layout = _layout(columns, plan, full_batch)
        if layout != self._last_layout:
            self._last_layout = layout
            self.column_specs.update(column_specs(columns))
        if self._run_eagerly:
            return self._run_line_by_line(columns, plan)
        program = self._programs.pop(layout, None)
        if program is None:
            with self._tracing():
                program = _Program(self, columns, plan, full_batch)
        self._programs[layout] = program  # The last in order is the last used.
        while len(self._programs) > MOST_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        return program(columns, plan)

    def forget_module(self, module_id: ModuleID) -> None:
        """Drops the programs a module is part of; the others stay."""
        self._programs = {
            layout: program
            for layout, program in self._programs.items()
            if module_id not in program.module_ids
        }
        self.column_specs.pop(module_id, None)
        self._last_layout = None

    def give_up_xla(self) -> None:
        """Makes this and all later programs run without XLA."""
        self._jit_compile, self.xla_failed = False, True

    def describe(self) -> list[str]:
        """Returns one line per program: its modules and how it runs."""
        return [program.description for program in self._programs.values()]

    def step(
        self, minibatches: list[ColumnsByModule]
    ) -> tuple[tf.Tensor, list[MetricKey], dict]:
        """Takes one gradient step.

        Args:
            minibatches: What each device of this process gets.

        Returns:
            Values of metrics, of the whole minibatch, float32 [num_values]; the key of
            each; and the settings of these.
        """
        values, layout = self._step(minibatches)
        num = len(layout.keys)
        return tf.ensure_shape(values[:num], [num]), layout.keys, layout.settings

    def _step(
        self, minibatches: list[ColumnsByModule]
    ) -> tuple[tf.Tensor, "_OutputLayout"]:
        found: dict[str, _OutputLayout] = {}  # Equal on every device.

        def on_replica(minibatch):
            with self._metrics.collect() as logged:
                _, losses, step_values = self._update(minibatch)
            rows = logged.rows
            entries: list[tuple[MetricKey, Tensor]] = [
                ((mid, self._loss_key), loss) for mid, loss in losses.items()
            ]
            for values in (step_values, logged.values):
                entries += [(key, value) for key in values for value in values[key]]
            stacked = tf.stack([_as_float(key, value) for key, value in entries])
            settings: dict[MetricKey, dict] = {
                (mid, self._loss_key): {"window": 1} for mid in losses
            }
            keys = [key for key, _ in entries]
            settings |= logged.settings
            found["layout"] = _OutputLayout(keys, settings, [*rows])
            shares = self.replicas.shares(minibatch)
            merged = self.replicas.merged(
                stacked,
                [shares.get(key[0], 1.0 / self.replicas.num) for key in keys],
                [settings[key].get("reduce") or "mean" for key in keys],
            )
            by_row = [self.replicas.rows(values) for values in rows.values()]
            nums_rows = [tf.cast(tf.shape(values), tf.float32) for values in by_row]
            return tf.concat([merged, *nums_rows, *by_row], axis=0)

        values = self.replicas.run(on_replica, minibatches)
        return values, found["layout"]

    def _run_line_by_line(self, columns, plan) -> UpdateOutputs:
        rows = []
        guard = self._overflow_guard(columns)
        saved = guard.save()
        for i in range(plan.num_minibatches):
            rows_now = {mid: own[i] for mid, own in plan.indices.items()}
            minibatches = self._minibatches(
                [columns] * self.replicas.num_local,
                rows_now,
                lambda column, rows: tf.constant(column[rows]),
            )
            try:
                values, layout = self._step(minibatches)
            except TFLearnerError as error:
                if i:
                    error.withdraw_promise(f"{i} minibatches were trained on before.")
                raise
            rows.append(values.numpy())
        positions = guard.put_back(saved).numpy()
        return layout.outputs(np.stack(rows), guard.groups, positions)

    def _minibatches(
        self, columns: list, rows: dict[ModuleID, np.ndarray | Tensor], take: Callable
    ) -> list[ColumnsByModule]:
        """Returns the part of a minibatch for each device of this process.

        Args:
            columns: The columns as each device has them.
            rows: Which rows of each module make up the minibatch.
            take: Takes rows of a column.
        """
        parts = {mid: self.replicas.split(own) for mid, own in rows.items()}
        minibatches: list[ColumnsByModule] = []
        for number, device in enumerate(self.replicas.devices):
            with tf.device(device):
                minibatches.append(
                    _map_columns(
                        lambda mid, leaf, at=number: take(leaf, parts[mid][at]),
                        columns[number],
                    )
                )
        return minibatches


class _Program:
    """One traced step and the loop around it, for one layout."""

    def __init__(self, owner: CompiledUpdate, columns, plan, full_batch: bool):
        self._owner = owner
        self._full_batch = full_batch
        self.module_ids = frozenset(columns)
        self._shapes: set = set()
        self.mode, self._reason = Mode.PLAIN, ""
        started = time.perf_counter()
        self._trace(columns, plan)
        logger.info(
            "Traced %s in %.1f s.", self.description, time.perf_counter() - started
        )

    @property
    def description(self) -> str:
        names = ", ".join(sorted(self.module_ids))
        where = self._owner.replicas.description
        return f"{names}: {self.mode.value}{where} ({self._reason})"

    def _trace(self, columns, plan) -> None:
        self._step = self._trace_step(columns, plan)
        self.mode, self._reason = self._choose_mode()
        if self.mode is Mode.STEP:
            step = self._step
            compiled = tf.function(
                lambda minibatches: step(minibatches), autograph=False, jit_compile=True
            )
            specs = self._minibatch_specs(columns, plan)
            self._step = compiled.get_concrete_function(specs)
        self._loop = self._trace_loop(columns, plan)

    def _minibatch_specs(self, columns, plan) -> list[ColumnsByModule]:
        replicas = self._owner.replicas

        def spec(mid, column):
            rows = _rows(plan, mid, self._full_batch)
            part = None if rows is None else rows // replicas.num_local
            return tf.TensorSpec([part, *column.shape[1:]], column.dtype)

        return [_map_columns(spec, columns) for _ in replicas.devices]

    def _trace_step(self, columns, plan):
        def step(minibatches):
            values, self._layout = self._owner._step(minibatches)
            return values

        minibatches = self._minibatch_specs(columns, plan)
        # Without autograph, errors of a user's loss arrive as they were raised, and
        # tracing takes half as long.
        try:
            traced = tf.function(step, autograph=False)
            traced = traced.get_concrete_function(minibatches)
        except PYTHON_ON_TENSORS as error:
            is_of_tensor = "Tensor" in str(error)
            if is_of_tensor or not isinstance(error, TypeError | AttributeError):
                error.add_note(
                    "Losses are traced without autograph: use tf.where or tf.cond on "
                    "tensors, not `if`, and TensorFlow functions, not float() or NumPy's."
                )
            raise
        self._owner.num_traces += 1
        return traced

    def _choose_mode(self) -> tuple[Mode, str]:
        """Returns how a step runs fastest, see `benchmarks/README.md`, and why."""
        wanted = self._owner._jit_compile
        if wanted is False:
            gave_up = self._owner.xla_failed
            return (
                Mode.PLAIN,
                "XLA cannot compile it" if gave_up else "jit_compile=False",
            )
        if not self._owner.replicas.can_use_xla:
            return Mode.PLAIN, "devices exchange gradients"
        operations = _operations(self._step.graph)
        if wanted == "auto" and (
            not operations.isdisjoint(LOOPS) or _has_unrolled_loop(self._step.graph)
        ):
            return Mode.PLAIN, "recurrent layers"
        if self._full_batch:
            return Mode.PLAIN, "minibatches vary in length"
        if not operations.isdisjoint(CONVOLUTIONS):
            return Mode.STEP, "convolutions"
        if wanted == "auto" and self._is_wide_for_one_thread():
            return Mode.PLAIN, "wide layers on one thread"
        return Mode.LOOP, "dense layers" if wanted == "auto" else "jit_compile=True"

    def _is_wide_for_one_thread(self) -> bool:
        if num_threads() > 1 or self._owner.replicas.computes_on_gpu():
            return False
        operations = self._step.graph.get_operations()
        products = [op for op in operations if op.type == "MatMul"]
        return max(map(_num_multiplications, products), default=0) >= WIDE_PRODUCT

    def _trace_loop(self, columns, plan):
        def gather(column, rows):
            return tf.gather(column, rows)

        guard = self._owner._overflow_guard(self.module_ids)
        self._groups = guard.groups

        def loop(columns, indices, num_minibatches):
            saved = guard.save()
            copies = self._owner.replicas.copies(columns)
            results = tf.TensorArray(
                tf.float32,
                size=tf.shape(next(iter(indices.values())))[0],
                element_shape=self._step.structured_outputs.shape,
            )

            def body(i, results):
                rows = {mid: own[i] for mid, own in indices.items()}
                minibatches = self._owner._minibatches(copies, rows, gather)
                return i + 1, results.write(i, self._step(minibatches))

            _, results = tf.while_loop(
                lambda i, _: i < num_minibatches, body, (0, results)
            )
            return results.stack(), guard.put_back(saved)

        signature = column_specs(columns)
        indices = {
            mid: tf.TensorSpec([None, _rows(plan, mid, self._full_batch)], tf.int32)
            for mid in columns
        }
        traced = tf.function(loop, autograph=False, jit_compile=self.mode is Mode.LOOP)
        return traced.get_concrete_function(
            signature, indices, tf.TensorSpec([], tf.int32)
        )

    def __call__(self, columns, plan) -> UpdateOutputs:
        try:
            outputs = self._run_in_mode(columns, plan)
        except XLA_ERRORS as error:
            if self.mode is Mode.PLAIN or self._shapes:  # It compiled before.
                raise
            self._give_up_xla(error, columns, plan)
            outputs = self._run_in_mode(columns, plan)
        values, positions = outputs
        values = values[: plan.num_minibatches]
        return self._layout.outputs(values, self._groups, positions)

    def _run_in_mode(self, columns, plan) -> tuple[np.ndarray, np.ndarray]:
        if self.mode is Mode.LOOP:
            return self._run_padded(columns, plan)
        outputs = self._run(columns, plan.indices, plan.num_minibatches)
        if self.mode is Mode.STEP:
            self._count_compilation(())  # Of the minibatch, whatever the batch.
        return outputs

    def _count_compilation(self, shape: tuple[int, ...]) -> None:
        compile_cache.note_compilation()
        if shape not in self._shapes:
            self._shapes.add(shape)
            self._owner.num_compilations += 1

    def _run(self, columns, indices, num_minibatches) -> tuple[np.ndarray, np.ndarray]:
        with tf.device(self._owner.replicas.device):
            tensors = _map_columns(lambda _, column: from_numpy(column), columns)
            indices = {mid: tf.constant(own) for mid, own in indices.items()}
            outputs = self._loop(tensors, indices, tf.constant(num_minibatches))
            return outputs[0].numpy(), outputs[1].numpy()

    def _run_padded(self, columns, plan) -> tuple[np.ndarray, np.ndarray]:
        needed = [len(tf.nest.flatten(dict(own))[0]) for own in columns.values()]
        shape = self._padded_shape((*needed, plan.num_minibatches))
        lengths = dict(zip(columns, shape))
        padded = _map_columns(lambda mid, leaf: _pad(leaf, lengths[mid]), columns)
        indices = {mid: _pad(own, shape[-1]) for mid, own in plan.indices.items()}
        # On the calling thread: the whole loop is one operation, and waking another
        # thread for it costs up to a fifth of a small update.
        with tf.experimental.function_executor_type("SINGLE_THREADED_EXECUTOR"):
            outputs = self._run(padded, indices, plan.num_minibatches)
        self._count_compilation(shape)
        return outputs

    def _padded_shape(self, needed: tuple[int, ...]) -> tuple[int, ...]:
        """Rows of each module, and minibatches, that a program is compiled for."""
        rounded = tuple(1 << (n - 1).bit_length() for n in needed)
        fitting = [
            shape
            for shape in self._shapes
            if all(r <= s <= 2 * r for r, s in zip(rounded, shape))
        ]
        return min(fitting, default=rounded)

    def _give_up_xla(self, error, columns, plan) -> None:
        reason = str(error).strip().splitlines()[0]
        if self._owner._jit_compile is True:
            raise ConfigError(
                "jit_compile=True",
                f"an update that XLA cannot compile ({reason})",
                hint='use jit_compile="auto" or False',
            ) from error
        warnings.warn(
            f"XLA cannot compile this update ({reason}); it runs without XLA, which is "
            "slower. jit_compile=False avoids the attempt.",
            stacklevel=2,
        )
        self._owner.give_up_xla()
        self._trace(columns, plan)


def _as_float(key: MetricKey, value: object) -> tf.Tensor:
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"metric {key}", repr(value), "a number") from error
    if tensor.dtype == tf.string:
        raise UsageError(f"metric {key}", repr(value), "a number")
    if tensor.shape.rank != 0:
        raise UsageError(
            f"metric {key}",
            f"a value of shape {tensor.shape}",
            "a scalar",
            "reduce it with tf.reduce_mean before logging it",
        )
    return tf.cast(tensor, tf.float32)


def column_specs(columns: ColumnsByModule) -> dict[ModuleID, dict[str, tf.TensorSpec]]:
    """Returns the form of columns, without the number of rows."""
    return _map_columns(
        lambda _, column: tf.TensorSpec([None, *column.shape[1:]], column.dtype),
        columns,
    )


def _map_columns(function: Callable, columns: ColumnsByModule) -> dict:
    """Applies `function(module_id, leaf)` to every array of every column."""
    return {
        mid: tf.nest.map_structure(lambda leaf, mid=mid: function(mid, leaf), dict(own))
        for mid, own in columns.items()
    }


def _operations(graph: tf.Graph) -> set[str]:
    """The kinds of operations in a graph and in the functions that it calls."""
    definition = graph.as_graph_def()
    nodes = [definition.node, *(f.node_def for f in definition.library.function)]
    return {node.op for own in nodes for node in own}


def _has_unrolled_loop(graph: tf.Graph) -> bool:
    """Returns whether many products have one kernel, as in a loop that was unrolled."""
    kernels = collections.Counter(
        _source(operand.op)
        for op in graph.get_operations()
        if op.type == "MatMul"
        for operand in op.inputs
    )
    return any(
        source.outputs[0].dtype == tf.resource and number > MOST_PRODUCTS_OF_A_KERNEL
        for source, number in kernels.items()
    )


def _source(operation: tf.Operation) -> tf.Operation:
    """Returns the operation behind those that read or cast a variable."""
    while operation.type in ("ReadVariableOp", "Cast", "Identity"):
        operation = operation.inputs[0].op
    return operation


def num_threads() -> int:
    """Returns how many threads TensorFlow has for one operation on the CPU."""
    given = tf.config.threading.get_intra_op_parallelism_threads()
    # Where TensorFlow looks itself; what it finds there it does not tell.
    given = given or int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0)
    return given or os.cpu_count() or 1


def _num_multiplications(product: tf.Operation) -> int:
    """Returns how many a product of two matrices takes; 0 if a size is unknown."""
    first = product.inputs[0].shape.as_list()
    inner = first[0] if product.get_attr("transpose_a") else first[1]
    sizes = [*product.outputs[0].shape.as_list(), inner]
    return 0 if None in sizes else math.prod(sizes)


def _has_sequences(columns: ColumnsByModule) -> bool:
    return any(Columns.SEQ_LENS in own for own in columns.values())


def _layout(columns, plan, full_batch) -> Hashable:
    return tuple(
        (
            mid,
            _rows(plan, mid, full_batch),
            tuple((name, _structure(own[name])) for name in sorted(own)),
            tuple((c.dtype, c.shape[1:]) for c in tf.nest.flatten(dict(own))),
        )
        for mid, own in sorted(columns.items())
    )


def _structure(column: Column) -> str | None:
    """Returns the structure of a nest as text; `None` for an array."""
    if isinstance(column, np.ndarray):
        return None
    return repr(tf.nest.map_structure(lambda leaf: 0, column))


def _rows(plan: MinibatchPlan, module_id: ModuleID, full_batch: bool) -> int | None:
    return None if full_batch else plan.indices[module_id].shape[1]


def _pad(array: np.ndarray, length: int) -> np.ndarray:
    if len(array) == length:
        return array
    padded = arrays.empty((length, *array.shape[1:]), array.dtype)
    padded[: len(array)], padded[len(array) :] = array, 0
    return padded
