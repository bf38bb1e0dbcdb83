"""Measures one PPO update: 2,048 rows, minibatches of 64, 10 epochs.

Observations of 4 floats, 2 actions, separate policy and value networks of two tanh
layers of 64. Ours is `PPOTfLearner.update_from_batch`; sb3 is Stable-Baselines3's own
`PPO.train`; jax is the same work hand-written in JAX and Optax.

    python benchmarks/update.py --peers sb3,jax --check
"""

import os
import sys
from typing import Any

import harness
import report

SETTINGS: dict[str, Any] = {
    "rows": 2048,
    "minibatch_size": 64,
    "num_epochs": 10,
    "hiddens": [64, 64],
    "lr": 3e-4,
    "clip_param": 0.2,
    "vf_loss_coeff": 0.5,
    "entropy_coeff": 0.0,
    "grad_clip": 0.5,
    # PyTorch is measured with each of these and keeps the faster.
    "threads": sorted({1, os.cpu_count() or 1}),
    # How long each process measures, after warming up.
    "seconds": 3.0,
}
STEPS = SETTINGS["num_epochs"] * SETTINGS["rows"] // SETTINGS["minibatch_size"]

# How many times as long a peer must take.
TARGETS = {"sb3": 15.0, "jax": 1.0}


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args(
        "update",
        __doc__,
        peers=list(TARGETS),
        rounds=5,
        rounds_help="processes per library, in turn (default: %(default)s)",
    )
    machine = harness.machine()
    runs = harness.run_in_turn(
        "update", args.names, [SETTINGS] * args.rounds, args.envs
    )
    summary = report.compare(runs, "median_ms")

    rows = []
    for library, row in summary.items():
        first = [run["first_ms"] for run in runs if run["library"] == library]
        rows.append(
            [
                library,
                f"{row['median']:.1f} ms ({row['low']:.1f} to {row['high']:.1f})",
                f"{row['median'] / STEPS:.3f} ms",
                f"{sorted(first)[len(first) // 2] / 1000:.1f} s",
                report.ratio_cell(row),
            ]
        )
    columns = ["library", "one update", "per step", "first update", "ratio to ours"]
    report.print_table(f"PPO update, {STEPS} gradient steps", columns, rows)
    print(*report.versions(runs), sep="\n")

    def draw(axes) -> None:
        bars = axes.barh(list(summary), [row["median"] for row in summary.values()])
        axes.bar_label(bars, fmt="%.0f ms", padding=3)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_xlabel(f"ms per update of {STEPS} gradient steps")

    results = {
        "benchmark": "update",
        "machine": machine,
        "settings": SETTINGS,
        "targets": TARGETS,
        "summary": summary,
        "runs": runs,
    }
    return report.finish(args, results, report.missed_targets(summary, TARGETS), draw)


if __name__ == "__main__":
    sys.exit(main())
