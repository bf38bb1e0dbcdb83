"""Measures saving, restoring and the exported policy against the least each must do.

10 million parameters with Adam's two slots, 120 MB in all. Saving is held against
writing and fsyncing the same bytes, restoring against reading and hashing them, the
time a background save takes off training against copying the state, and the exported
`act_greedy` against the same forward pass as a concrete function of the module's own.
Each is timed in turn with its measure, in one process.

    python benchmarks/state.py --check
"""

import statistics
import sys
from pathlib import Path
from typing import Any

import harness
import report

SETTINGS: dict[str, Any] = {"hiddens": [2230, 2230], "rounds": 9, "calls": 200}

# Case: what it is held against, and how many times as long it may take.
TARGETS = {
    "save": ("write and fsync the same bytes", 2.0),
    "restore": ("read and hash the same bytes", 2.0),
    "background": ("copy the state", 1.25),
    "act_greedy": ("the module's own function", 1.1),
}


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args(
        "state",
        __doc__,
        peers=[],
        rounds=3,
        rounds_help="processes (default: %(default)s)",
        add_options=lambda parser: parser.add_argument(
            "--folder", help="where files are written (default: the temporary folder)"
        ),
    )
    machine = harness.machine()
    runs = []
    for number in range(args.rounds):
        harness.say(f"round {number + 1} of {args.rounds}")
        answer = harness.run_worker(
            harness.FOLDER / "peers" / "ours_state.py",
            Path(sys.executable),
            {**SETTINGS, "folder": args.folder},
        )
        runs.append({"library": harness.OURS, "round": number, **answer})

    summary = {name: _summary(name, runs) for name in TARGETS}
    rows = [
        [
            name,
            f"{1000 * row['ours_s']:.1f} ms",
            f"{TARGETS[name][0]}: {1000 * row['measure_s']:.1f} ms",
            f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
            f"{TARGETS[name][1]:g}",
        ]
        for name, row in summary.items()
    ]
    columns = ["case", "takes", "held against", "ratio", "at most"]
    report.print_table("State", columns, rows)
    print(*report.versions(runs))
    results = {
        "benchmark": "state",
        "machine": machine,
        "settings": SETTINGS,
        "targets": TARGETS,
        "summary": summary,
        "runs": runs,
    }
    missed = [
        f"{name}: {row['ratio']:.2f} times as long as to {TARGETS[name][0]}, want at "
        f"most {TARGETS[name][1]:g}"
        for name, row in summary.items()
        if row["ratio"] > TARGETS[name][1]
    ]

    def draw(axes) -> None:
        bars = axes.barh(list(summary), [row["ratio"] for row in summary.values()])
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.set_xlabel("times as long as what it is held against")

    return report.finish(args, results, missed, draw)


def _summary(name: str, runs: list[dict]) -> dict[str, float]:
    own = [run["cases"][name] for run in runs]
    ratios = [case["ours_s"] / case["measure_s"] for case in own]
    return {
        "ours_s": statistics.median(case["ours_s"] for case in own),
        "measure_s": statistics.median(case["measure_s"] for case in own),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


if __name__ == "__main__":
    sys.exit(main())
