"""Measures acting: connectors, policy and draws of a vector step, without environments.

32 vector steps of CartPole with 1, 8, 64 and 256 environments, and the default network
(256-256) or 64-64; on an idle machine, and beside two programs that keep two cores busy.
Each case also runs with `OPENBLAS_NUM_THREADS=1`: threads of NumPy's products that wait
for each other would show as a ratio above 1.

    python benchmarks/acting.py --check
"""

import statistics
import sys
from pathlib import Path

import harness
import report

NETWORKS = {"default": [256, 256], "64-64": [64, 64]}
NUM_ENVS = (1, 8, 64, 256)
PROGRAMS = {"idle": 0, "busy": 2}
SETTINGS = {"vector_steps": 32, "repeats": 15}

# How many times as long as with OPENBLAS_NUM_THREADS=1 acting may take.
TARGET = 2.0


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args("acting", __doc__, peers=[], rounds=3)
    machine = harness.machine()
    runs = []
    for number in range(args.rounds):
        for network, hiddens in NETWORKS.items():
            for num_envs in NUM_ENVS:
                for load, busy_programs in PROGRAMS.items():
                    case = f"{network}, {num_envs} environments, {load}"
                    harness.say(f"round {number + 1} of {args.rounds}: {case}")
                    settings = {
                        **SETTINGS,
                        "hiddens": hiddens,
                        "num_envs": num_envs,
                        "busy_programs": busy_programs,
                    }
                    runs.append({"case": case, "round": number, **_pair(settings)})

    summary = {
        case: _summary(case, runs) for case in dict.fromkeys(r["case"] for r in runs)
    }
    rows = [
        [
            case,
            f"{row['median_ms']:.2f} ms",
            f"{row['one_thread_ms']:.2f} ms",
            f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
            f"{TARGET:g}",
        ]
        for case, row in summary.items()
    ]
    columns = ["case", "as it is", "with one thread", "times as long", "at most"]
    report.print_table("Acting, 32 vector steps", columns, rows)
    print(*report.versions([{"library": harness.OURS, **run} for run in runs]))
    results = {
        "benchmark": "acting",
        "machine": machine,
        "settings": SETTINGS,
        "targets": {"ratio": TARGET},
        "summary": summary,
        "runs": runs,
    }
    missed = [
        f"{case}: {row['ratio']:.2f} times as long as with one thread, want at most "
        f"{TARGET:g}"
        for case, row in summary.items()
        if row["ratio"] > TARGET
    ]

    def draw(axes) -> None:
        bars = axes.barh(list(summary), [row["ratio"] for row in summary.values()])
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.axvline(TARGET, linestyle="--")
        axes.set_xlabel("times as long as with OPENBLAS_NUM_THREADS=1")

    return report.finish(args, results, missed, draw)


def _pair(settings: dict) -> dict:
    """Returns the answer of a worker, and the time of one that has one BLAS thread."""
    script = harness.worker_of(harness.OURS, "acting")
    answers = [
        harness.run_worker(
            script, Path(sys.executable), {**settings, "one_thread": one_thread}
        )
        for one_thread in (False, True)
    ]
    return {**answers[0], "one_thread_ms": answers[1]["median_ms"]}


def _summary(case: str, runs: list[dict]) -> dict[str, float]:
    own = [run for run in runs if run["case"] == case]
    ratios = [run["median_ms"] / run["one_thread_ms"] for run in own]
    return {
        "median_ms": statistics.median(run["median_ms"] for run in own),
        "one_thread_ms": statistics.median(run["one_thread_ms"] for run in own),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


if __name__ == "__main__":
    sys.exit(main())
