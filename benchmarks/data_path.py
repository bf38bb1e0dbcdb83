"""Measures the way from episodes to a train batch, and the memory of an update.

rows    2,048 steps in 16 episodes, some terminated, some truncated, some cut off;
        observations of 4 floats, separate policy and value networks of two tanh
        layers of 64
four    the same with the episodes of four modules
lstm    the same with an LSTM of 64 behind a shared layer of 64, sequences of 20 steps
images  512 steps of 84x84x4 pixels through the convolutions of DQN's Nature paper and
        a layer of 512; the value network's forward pass is nearly all of it

Ours is the learner's connector pipeline (columns, GAE with the value network's forward
pass, standardising) and the checks at its door; rllib is RLlib's own learner connector
pipeline with PyTorch.

The memory is that of an update on 4,096 rows of 84x84x4 pixels, 110 MB, from a batch
and from episodes: the most that data and update together take at any moment.

    python benchmarks/data_path.py --peers rllib --check
"""

import os
import sys
from typing import Any

import harness
import report

SETTINGS: dict[str, Any] = {
    # PyTorch is tried with each of these and keeps the faster.
    "threads": sorted({1, os.cpu_count() or 1}),
    # How long each process measures, after warming up.
    "seconds": 2.0,
}
LENGTHS = [9, 200, 31, 118, 500, 64, 23, 77, 250, 12, 180, 300, 41, 83, 100, 60]
ROWS: dict[str, Any] = {
    "lengths": LENGTHS,
    "obs_shape": [4],
    "obs_dtype": "float32",
    "num_actions": 2,
    "num_modules": 1,
    "hiddens": [64, 64],
    "share_layers": False,
    "conv_filters": None,
    "lstm_units": 0,
}
IMAGES: dict[str, Any] = {
    **ROWS,
    "lengths": [length // 4 for length in LENGTHS],
    "obs_shape": [84, 84, 4],
    "obs_dtype": "uint8",
    "hiddens": [512],
    "share_layers": True,
    "conv_filters": [[32, 8, 4], [64, 4, 2], [64, 3, 1]],
}
CASES: dict[str, dict[str, Any]] = {
    "rows": ROWS,
    "four": {**ROWS, "num_modules": 4},
    "lstm": {**ROWS, "hiddens": [64], "share_layers": True, "lstm_units": 64},
    "images": IMAGES,
}
MEMORY: dict[str, Any] = {
    **IMAGES,
    "rows": 4096,
    "num_episodes": 16,
    "minibatch_size": 64,
    "num_minibatches": 4,
}

# How many times as long RLlib must take.
TARGETS = {"rows": 3.0}

# The most memory of an update, in multiples of its batch, the weights left out.
MOST_MEMORY = 3.0


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args(
        "data_path",
        __doc__,
        peers=["rllib"],
        rounds=5,
        rounds_help="processes per library and case, in turn (default: %(default)s)",
        add_options=lambda parser: parser.add_argument(
            "--cases",
            type=harness.names_in,
            default=[*CASES, "memory"],
            help=f"what to measure, of {','.join([*CASES, 'memory'])}; all by default",
        ),
    )
    if unknown := set(args.cases) - {*CASES, "memory"}:
        sys.exit(f"--cases: got {','.join(sorted(unknown))}, want {[*CASES, 'memory']}")
    machine = harness.machine()
    runs: list[dict] = []
    summary: dict[str, dict] = {}
    missed: list[str] = []
    for case in [name for name in CASES if name in args.cases]:
        harness.say(f"case {case}")
        settings = {**SETTINGS, **CASES[case]}
        threads = harness.faster_threads("data_path", harness.OURS, settings, case)
        settings["chosen_threads"] = {harness.OURS: threads}
        rounds = [settings] * args.rounds
        own = harness.run_in_turn("data_path", args.names, rounds, args.envs)
        runs += [{"case": case, **run} for run in own]
        summary[case] = report.compare(own, "median_ms")
        if case in TARGETS:
            targets = {"rllib": TARGETS[case]}
            missed += [
                f"{case}: {line}"
                for line in report.missed_targets(summary[case], targets)
            ]
    if summary:
        columns = ["case", "library", "episodes to batch", "ratio to ours", "want"]
        rows = [row for case, own in summary.items() for row in _rows(case, own)]
        report.print_table("From episodes to a train batch", columns, rows)
    memory: dict[str, dict] = {}
    if "memory" in args.cases:
        harness.say("memory")
        own = harness.run_in_turn("memory", [harness.OURS], [MEMORY], args.envs)
        runs += [{"case": "memory", **run} for run in own]
        memory = own[0]["sources"]
        missed += _print_memory(memory)
    print(*report.versions(runs), sep="\n")
    results = {
        "benchmark": "data_path",
        "machine": machine,
        "settings": {**SETTINGS, "cases": CASES, "memory": MEMORY},
        "targets": {"ratios": TARGETS, "most_memory": MOST_MEMORY},
        "summary": {**summary, "memory": memory},
        "runs": runs,
    }
    return report.finish(args, results, missed, lambda axes: _draw(axes, summary))


def _rows(case: str, summary: dict[str, dict]) -> list[list[str]]:
    """The lines of the table for one case."""
    return [
        [
            case,
            library,
            f"{row['median']:.2f} ms ({row['low']:.2f} to {row['high']:.2f})",
            report.ratio_cell(row),
            f"{TARGETS[case]:g}" if "ratio" in row and case in TARGETS else "",
        ]
        for library, row in summary.items()
    ]


def _print_memory(memory: dict[str, dict]) -> list[str]:
    """Prints what an update takes; returns what takes too much."""
    rows = [
        [
            f"from {source}",
            f"{own['batch_mb']:.0f} MB",
            f"{own['given_mb']:.0f} MB",
            f"{own['peak_mb']:.0f} MB",
            f"{own['factor']:.2f}",
            f"at most {MOST_MEMORY:g}",
        ]
        for source, own in memory.items()
    ]
    columns = ["update", "batch", "data given", "with update", "x batch", "want"]
    report.print_table("Memory of an update", columns, rows)
    return [
        f"memory: an update from {source} takes {own['factor']:.2f} times its batch, "
        f"want at most {MOST_MEMORY:g}"
        for source, own in memory.items()
        if own["factor"] > MOST_MEMORY
    ]


def _draw(axes, summary: dict[str, dict]) -> None:
    """Bars of the times, case by case."""
    times = {
        f"{case}, {library}": row["median"]
        for case, own in summary.items()
        for library, row in own.items()
    }
    bars = axes.barh(list(times), list(times.values()))
    axes.bar_label(bars, fmt="%.1f ms", padding=3)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_xlabel("ms from episodes to a train batch")


if __name__ == "__main__":
    sys.exit(main())
