"""Times updates with and without the guard against non-finite steps, in turn."""

import statistics

import ours_update
import tensorflow as tf
import worker


def main() -> None:
    """Times guarded, unguarded, unguarded, guarded, ... in one process."""
    s = worker.settings()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    updates = {}
    for mode in s["modes"]:
        config = ours_update.make_config(s)
        config.training(non_finite_updates=mode)
        config.framework(jit_compile=s["jit_compile"])
        learner = ours_update.build_learner(s, config)
        updates[mode] = ours_update.make_update(learner, s)
    for update in updates.values():
        update()  # Traces and compiles.
        update()
    times_ms: dict[str, list[float]] = {mode: [] for mode in updates}
    order = list(updates)
    for _ in range(s["repeats"]):
        for mode in order:
            times_ms[mode].append(worker.milliseconds(updates[mode]))
        order.reverse()
    worker.report(
        ["tensorflow", "keras", "numpy"],
        times_ms=times_ms,
        guarded_ms=statistics.median(times_ms["skip"]),
        unguarded_ms=statistics.median(times_ms["off"]),
        programs=learner.describe_updates(),
    )


if __name__ == "__main__":
    main()
