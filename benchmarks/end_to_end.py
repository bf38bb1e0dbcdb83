"""Measures PPO on CartPole-v1 from nothing to a mean return of 475.

Both sides use Stable-Baselines3's default settings with 8 environments. The mean is
over the last 100 training episodes. The clock starts after imports; building, tracing
and compiling are on it. One process trains one seed.

    python benchmarks/end_to_end.py --peers sb3 --check
"""

import os
import statistics
import sys
from typing import Any

import harness
import report

SETTINGS: dict[str, Any] = {
    "num_envs": 8,
    "rows": 2048,
    "minibatch_size": 64,
    "num_epochs": 10,
    "hiddens": [64, 64],
    "lr": 3e-4,
    "gamma": 0.99,
    "lambda_": 0.95,
    "clip_param": 0.2,
    "vf_loss_coeff": 0.5,
    "entropy_coeff": 0.0,
    "grad_clip": 0.5,
    "goal": 475.0,
    "window": 100,
    "max_env_steps": 300_000,
    # PyTorch is tried with each of these off the clock and keeps the faster.
    "threads": sorted({1, os.cpu_count() or 1}),
}

# How many times as long a peer must take.
TARGETS = {"sb3": 5.0}


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args(
        "end_to_end",
        __doc__,
        peers=list(TARGETS),
        rounds=3,
        rounds_help="seeds, each a round of one process per library "
        "(default: %(default)s)",
    )
    machine = harness.machine()
    seeds = [{**SETTINGS, "seed": seed} for seed in range(args.rounds)]
    runs = harness.run_in_turn("end_to_end", args.names, seeds, args.envs)
    summary = report.compare(runs, "seconds")

    rows = []
    for library, row in summary.items():
        own = [run for run in runs if run["library"] == library]
        rows.append(
            [
                library,
                f"{row['median']:.1f} s ({row['low']:.1f} to {row['high']:.1f})",
                f"{statistics.median(run['env_steps'] for run in own):,.0f}",
                f"{sum(run['solved'] for run in own)} of {len(own)}",
                report.ratio_cell(row),
            ]
        )
    columns = ["library", "time to 475", "steps to 475", "reached", "ratio to ours"]
    report.print_table(f"PPO on CartPole-v1, {args.rounds} seeds", columns, rows)
    print(*report.versions(runs), sep="\n")

    # A peer that stops at the step limit has taken at least the time that it shows.
    missed = report.missed_targets(summary, TARGETS) + [
        f"ours: seed {run['round']} stopped at {run['env_steps']:,} steps, short of 475"
        for run in runs
        if run["library"] == harness.OURS and not run["solved"]
    ]

    def draw(axes) -> None:
        for run in runs:
            seconds, _, returns = zip(*run["curve"])
            colour = f"C{args.names.index(run['library'])}"
            label = run["library"] if run["round"] == 0 else None
            axes.plot(seconds, returns, color=colour, label=label)
        axes.axhline(SETTINGS["goal"], color="grey", linewidth=0.8, linestyle="--")
        axes.set_xlabel("seconds after imports")
        axes.set_ylabel("mean return of 100 episodes")
        axes.legend()

    results = {
        "benchmark": "end_to_end",
        "machine": machine,
        "settings": SETTINGS,
        "targets": TARGETS,
        "summary": summary,
        "runs": runs,
    }
    return report.finish(args, results, missed, draw)


if __name__ == "__main__":
    sys.exit(main())
