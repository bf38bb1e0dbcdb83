"""Measures what the guard against non-finite gradient steps costs.

`non_finite_updates="skip"` against "off", in turn in one process: the medians of 20
updates each. "small", "wide", "cnn" and "lstm" are shapes of `update.py`; "plain" is
"small" in the loop without XLA, as full batches run. Processes take turns in which of
the two they build first.

    python benchmarks/guard.py --check
"""

import statistics
import sys
from pathlib import Path
from typing import Any

import harness
import report
from update import SETTINGS, SHAPES

CASES: dict[str, dict[str, Any]] = {
    "small": {**SHAPES["small"], "jit_compile": "auto"},
    "wide": {**SHAPES["wide"], "num_epochs": 1, "jit_compile": "auto"},
    "cnn": {**SHAPES["cnn"], "num_epochs": 1, "jit_compile": "auto"},
    "lstm": {**SHAPES["lstm"], "num_epochs": 2, "jit_compile": "auto"},
    "plain": {**SHAPES["small"], "num_epochs": 2, "jit_compile": False},
}
REPEATS = 20
MODES = ["skip", "off"]

# How much longer a guarded update may take, in percent.
TARGET = 3.0


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args(
        "guard",
        __doc__,
        peers=[],
        rounds=5,
        rounds_help="processes per case (default: %(default)s)",
        add_options=lambda parser: parser.add_argument(
            "--cases",
            type=harness.names_in,
            default=list(CASES),
            help=f"what to measure, of {','.join(CASES)}; all by default",
        ),
    )
    if unknown := set(args.cases) - set(CASES):
        sys.exit(f"--cases: got {','.join(sorted(unknown))}, want {list(CASES)}")
    cases = {name: CASES[name] for name in args.cases}
    machine = harness.machine()
    runs = []
    for number in range(args.rounds):
        for name, case in cases.items():
            harness.say(f"round {number + 1} of {args.rounds}: {name}")
            modes = MODES[:: 1 if number % 2 == 0 else -1]
            answer = harness.run_worker(
                harness.worker_of(harness.OURS, "guard"),
                Path(sys.executable),
                {**SETTINGS, **case, "modes": modes, "repeats": REPEATS},
            )
            percent = 100 * (answer["guarded_ms"] / answer["unguarded_ms"] - 1)
            runs.append({"case": name, "round": number, "percent": percent, **answer})

    summary = {name: _summary(name, runs) for name in cases}
    rows = [
        [
            name,
            f"{row['guarded_ms']:.2f} ms",
            f"{row['unguarded_ms']:.2f} ms",
            f"{row['percent']:.1f} % ({row['low']:.1f} to {row['high']:.1f})",
            f"{TARGET:g} %",
        ]
        for name, row in summary.items()
    ]
    columns = ["case", "guarded", "unguarded", "longer by", "at most"]
    report.print_table("The guard against non-finite steps", columns, rows)
    print(*report.versions([{"library": harness.OURS, **run} for run in runs]))
    results = {
        "benchmark": "guard",
        "machine": machine,
        "settings": {**SETTINGS, "cases": cases, "repeats": REPEATS},
        "targets": {"percent": TARGET},
        "summary": summary,
        "runs": runs,
    }
    missed = [
        f"{name}: a guarded update takes {row['percent']:.1f} % longer, want at most "
        f"{TARGET:g} %"
        for name, row in summary.items()
        if row["percent"] > TARGET
    ]

    def draw(axes) -> None:
        bars = axes.barh(list(summary), [row["percent"] for row in summary.values()])
        axes.bar_label(bars, fmt="%.1f %%", padding=3)
        axes.axvline(TARGET, linestyle="--")
        axes.set_xlabel("longer with the guard, in percent")

    return report.finish(args, results, missed, draw)


def _summary(name: str, runs: list[dict]) -> dict[str, float]:
    own = [run for run in runs if run["case"] == name]
    percents = [run["percent"] for run in own]
    return {
        "guarded_ms": statistics.median(run["guarded_ms"] for run in own),
        "unguarded_ms": statistics.median(run["unguarded_ms"] for run in own),
        "percent": statistics.median(percents),
        "low": min(percents),
        "high": max(percents),
    }


if __name__ == "__main__":
    sys.exit(main())
