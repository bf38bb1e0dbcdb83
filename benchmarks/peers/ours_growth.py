"""Times tflearner's updates of growing size, or counts the programs of random ones."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ours_update
import tensorflow as tf
import worker


def main() -> None:
    """Measures one axis: every point of it in turn, as often as there is time for."""
    s = worker.settings()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    if s["axis"] == "programs":
        result = count_programs(s)
    else:
        result = time_points(s)
    worker.report(["tensorflow", "keras", "numpy"], **result)


def time_points(s: dict) -> dict:
    """Returns the median time of an update at every point of an axis."""
    updates = UPDATES[s["axis"]](s)
    for update in updates.values():
        update()  # Traces and compiles.
        update()
    times_ms: dict[int, list[float]] = {point: [] for point in updates}
    started = time.perf_counter()
    while len(times_ms[s["points"][0]]) < 7 or (
        time.perf_counter() - started < s["seconds"]
    ):
        for point, update in updates.items():
            times_ms[point].append(worker.milliseconds(update))
    return {
        "times_ms": list(times_ms.values()),
        "median_ms": [statistics.median(own) for own in times_ms.values()],
    }


def by_minibatches(s: dict) -> dict[int, Callable]:
    """Updates of the same rows, with more and more epochs."""
    learner = ours_update.build_learner(s)
    per_epoch = s["rows"] // s["minibatch_size"]
    return {
        point: ours_update.make_update(learner, {**s, "num_epochs": point // per_epoch})
        for point in s["points"]
    }


def by_rows(s: dict) -> dict[int, Callable]:
    """Updates of more and more rows, in minibatches of the same size."""
    learner = ours_update.build_learner(s)
    return {
        point: ours_update.make_update(learner, {**s, "rows": point})
        for point in s["points"]
    }


def by_modules(s: dict) -> dict[int, Callable]:
    """Updates of more and more modules, with as many rows each."""
    updates = {}
    for point in s["points"]:
        own = {**s, "num_modules": point}
        updates[point] = ours_update.make_update(ours_update.build_learner(own), own)
    return updates


def by_replicas(s: dict) -> dict[int, Callable]:
    """The same update on one number of devices, which are parts of the CPU."""
    (point,) = s["points"]
    config = ours_update.make_config(s)
    if point > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * point,
        )
        names = [f"CPU:{index}" for index in range(point)]
        config.learners(strategy=tf.distribute.MirroredStrategy(names))
    learner = ours_update.build_learner(s, config)
    return {point: ours_update.make_update(learner, s)}


def count_programs(s: dict) -> dict:
    """Returns what updates of random lengths cost, tracing and compiling included."""
    learner = ours_update.build_learner(s)
    most = s["points"][-1]
    lengths = np.random.default_rng(0).integers(1, most + 1, size=s["num_updates"])
    rows = worker.make_shape_batch({**s, "rows": most})
    started = time.perf_counter()
    for length in lengths:
        own: dict[str, Any] = {name: rows[name][:length] for name in rows}
        ours_update.make_update(learner, {**s, "rows": int(length)}, own)()
    return {
        "seconds": time.perf_counter() - started,
        "num_traces": learner.num_traces,
        "num_compilations": learner.num_compilations,
    }


UPDATES: dict[str, Callable[[dict], dict[int, Callable]]] = {
    "minibatches": by_minibatches,
    "rows": by_rows,
    "modules": by_modules,
    "replicas": by_replicas,
}


if __name__ == "__main__":
    main()
