"""Measures what checking a batch costs, as a share of the update it comes before.

PPO batches of six columns, observations of 4 floats, 2 actions, networks of two tanh
layers of 64. "update" is the update of `update.py`; "one step" is the least work that a
checked batch can lead to: one gradient step on all of its rows. Check and update are
timed in turn, in one process.

    python benchmarks/validation.py --check
"""

import statistics
import sys
from pathlib import Path
from typing import Any

import harness
import report

CASES: dict[str, dict[str, Any]] = {
    "update": {"rows": 2048, "minibatch_size": 64, "num_epochs": 10},
    "one step": {"rows": 512, "minibatch_size": None, "num_epochs": 1},
    "one large step": {"rows": 4096, "minibatch_size": None, "num_epochs": 1},
}
SETTINGS: dict[str, Any] = {"hiddens": [64, 64], "seconds": 2.0}

# The largest share of an update, in percent, that its check may take.
TARGET = 3.0


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args(
        "validation",
        __doc__,
        peers=[],
        rounds=3,
        rounds_help="processes per case (default: %(default)s)",
    )
    machine = harness.machine()
    runs = []
    for number in range(args.rounds):
        for name, case in CASES.items():
            harness.say(f"round {number + 1} of {args.rounds}: {name}")
            answer = harness.run_worker(
                harness.FOLDER / "peers" / "ours_validation.py",
                Path(sys.executable),
                {**SETTINGS, **case},
            )
            percent = 100 * answer["check_ms"] / answer["update_ms"]
            runs.append({"case": name, "round": number, "percent": percent, **answer})

    summary = {name: _summary(name, runs) for name in CASES}
    rows = [
        [
            name,
            f"{1000 * row['check_ms']:.0f} us",
            f"{row['update_ms']:.2f} ms",
            f"{row['percent']:.2f} % ({row['low']:.2f} to {row['high']:.2f})",
        ]
        for name, row in summary.items()
    ]
    columns = ["case", "check", "update", "share of the update"]
    report.print_table("Checking a batch", columns, rows)
    print(*report.versions([{"library": harness.OURS, **run} for run in runs]))
    results = {
        "benchmark": "validation",
        "machine": machine,
        "settings": {**SETTINGS, "cases": CASES},
        "targets": {"percent": TARGET},
        "summary": summary,
        "runs": runs,
    }
    missed = [
        f"{name}: the check takes {row['percent']:.2f} % of the update, want less than "
        f"{TARGET:g} %"
        for name, row in summary.items()
        if row["percent"] >= TARGET
    ]

    def draw(axes) -> None:
        bars = axes.barh(list(summary), [row["percent"] for row in summary.values()])
        axes.bar_label(bars, fmt="%.2f %%", padding=3)
        axes.axvline(TARGET, linestyle="--")
        axes.set_xlabel("share of the update, in percent")

    return report.finish(args, results, missed, draw)


def _summary(name: str, runs: list[dict]) -> dict[str, float]:
    own = [run for run in runs if run["case"] == name]
    percents = [run["percent"] for run in own]
    return {
        "check_ms": statistics.median(run["check_ms"] for run in own),
        "update_ms": statistics.median(run["update_ms"] for run in own),
        "percent": statistics.median(percents),
        "low": min(percents),
        "high": max(percents),
    }


if __name__ == "__main__":
    sys.exit(main())
