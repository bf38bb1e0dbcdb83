"""Measures the most memory that an update takes at any moment, in multiples of its batch.

Linux alone: the kernel keeps the peak of a process and can be told to start afresh.
"""

import gc
from collections.abc import Callable
from pathlib import Path

import made_episodes
import numpy as np
import worker
from ours_data_path import build_learner, make_episodes

MB = 2**20


def main() -> None:
    """Updates from a batch, then from episodes."""
    s = worker.settings()
    learner = build_learner(s)
    module = learner.module[made_episodes.names_of_modules(s)[0]].unwrapped()
    weights = sum(np.prod(x.shape) * 4 for x in module.trainable_variables) / MB
    settings = {
        "minibatch_size": s["minibatch_size"],
        "num_total_minibatches": s["num_minibatches"],
    }

    def from_batch(rows: int) -> Callable[[], object]:
        batch = worker.make_batch(rows, s["obs_shape"], s["num_actions"], "uint8")
        columns = {
            "obs": batch["obs"],
            "actions": batch["actions"],
            "action_logp": batch["logp"],
            "action_dist_inputs": batch["logits"],
            "advantages": batch["advantages"],
            "value_targets": batch["value_targets"],
        }
        return lambda: learner.update_from_batch(columns, **settings)

    def from_episodes(rows: int) -> Callable[[], object]:
        lengths = [rows // s["num_episodes"]] * s["num_episodes"]
        episodes = make_episodes({**s, "lengths": lengths})
        return lambda: learner.update_from_episodes(episodes, **settings)

    batch_mb = s["rows"] * np.prod(s["obs_shape"]) / MB
    results = {}
    for source, make in (("batch", from_batch), ("episodes", from_episodes)):
        for _ in range(2):  # Tracing, and the memory that allocators keep.
            make(4 * s["minibatch_size"])()
        given, peak = _measure(make, s["rows"])
        results[source] = {
            "batch_mb": batch_mb,
            "given_mb": given,
            "peak_mb": peak,
            "factor": (peak - weights) / batch_mb,
        }
    worker.report(
        ["tensorflow", "keras", "numpy"],
        weights_mb=weights,
        sources=results,
        programs=learner.describe_updates(),
    )


def _measure(make: Callable[[int], Callable], rows: int) -> tuple[float, float]:
    """Returns the memory of the data, and the most of data and update together, in MB."""
    gc.collect()
    before = _status("VmRSS")
    update = make(rows)
    gc.collect()
    given = _status("VmRSS") - before
    Path("/proc/self/clear_refs").write_text("5")
    update()
    return given, _status("VmHWM") - before


def _status(name: str) -> float:
    """Returns an entry of the process's status in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


if __name__ == "__main__":
    main()
