"""Measures how the cost of an update grows, and how many programs updates need.

The small shape of `update.py`, with one of these growing at a time:

minibatches  10 to 1,000 gradient steps on 640 rows
rows         512 to 32,768, one epoch in minibatches of 64
modules      1 to 8, with 2,048 rows each
replicas     1, 2 and 4 parts of the CPU under a MirroredStrategy; without a target,
             for they share the same cores
programs     1,000 updates of 1 to 4,096 rows each, drawn at random: what tracing and
             compiling make of them

The points of an axis run in turn, in one process; each number of replicas has a process
of its own, because TensorFlow does not let strategies share devices.

    python benchmarks/growth.py --check
"""

import statistics
import sys
from pathlib import Path
from typing import Any

import harness
import report
from update import SETTINGS, SHAPES

AXES: dict[str, dict[str, Any]] = {
    "minibatches": {"points": [10, 100, 1000], "rows": 640},
    "rows": {"points": [512, 4096, 32768], "num_epochs": 1},
    "modules": {"points": [1, 2, 4, 8], "num_epochs": 2},
    "replicas": {"points": [1, 2, 4], "num_epochs": 1},
    "programs": {"points": [1, 4096], "num_epochs": 1, "num_updates": 1000},
}

# How much more a unit may cost at the largest point than at the smallest. An update has
# a cost of its own, some milliseconds, which makes units of small updates expensive.
# Therefore what each further unit costs is compared as well: between the last two points
# against between the first two. That is a difference of two times, of which the smaller
# is some ten milliseconds, so it gets more room for noise.
PER_UNIT = 1.15
PER_FURTHER_UNIT = 1.25
FLAT = ("minibatches", "rows", "modules")
PROGRAMS = {"num_traces": 13, "num_compilations": 52, "seconds": 60.0}


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args(
        "growth",
        __doc__,
        peers=[],
        rounds=3,
        rounds_help="processes per axis (default: %(default)s)",
        add_options=lambda parser: parser.add_argument(
            "--axes",
            type=harness.names_in,
            default=list(AXES),
            help=f"what to measure, of {','.join(AXES)}; all by default",
        ),
    )
    if unknown := set(args.axes) - set(AXES):
        sys.exit(f"--axes: got {','.join(sorted(unknown))}, want {list(AXES)}")
    machine = harness.machine()
    runs = []
    for number in range(args.rounds):
        for axis in args.axes:
            harness.say(f"round {number + 1} of {args.rounds}: {axis}")
            runs.append({"axis": axis, "round": number, **_run(axis)})

    summary: dict[str, dict] = {}
    for axis in args.axes:
        own = [run for run in runs if run["axis"] == axis]
        summary[axis] = _programs(own) if axis == "programs" else _growth(axis, own)
    _print(summary)
    print(*report.versions([{"library": harness.OURS, **run} for run in runs]))
    results = {
        "benchmark": "growth",
        "machine": machine,
        "settings": {**SETTINGS, **SHAPES["small"], "axes": AXES},
        "targets": {
            "per_unit": PER_UNIT,
            "per_further_unit": PER_FURTHER_UNIT,
            "programs": PROGRAMS,
        },
        "summary": summary,
        "runs": runs,
    }
    return report.finish(
        args, results, _missed(summary), lambda axes: _draw(axes, summary)
    )


def _run(axis: str) -> dict:
    """Runs an axis in one process, or one per point where points exclude each other."""
    settings = {**SETTINGS, **SHAPES["small"], **AXES[axis], "axis": axis}
    points = settings["points"]
    groups = [[point] for point in points] if axis == "replicas" else [points]
    answers = [
        harness.run_worker(
            harness.worker_of(harness.OURS, "growth"),
            Path(sys.executable),
            {**settings, "points": group},
        )
        for group in groups
    ]
    joined = answers[0]
    for answer in answers[1:]:
        joined["median_ms"] += answer["median_ms"]
        joined["times_ms"] += answer["times_ms"]
    return joined


def _growth(axis: str, runs: list[dict]) -> dict:
    """What an update, a unit and a further unit take at each point of an axis."""
    points = AXES[axis]["points"]
    times = [statistics.median(own) for own in zip(*(r["median_ms"] for r in runs))]
    further = [
        (times[i] - times[i - 1]) / (points[i] - points[i - 1])
        for i in range(1, len(points))
    ]
    return {
        "update_ms": times,
        "unit_ms": [time / point for time, point in zip(times, points)],
        "further_unit_ms": further,
        "per_unit": times[-1] / times[0] * points[0] / points[-1],
        "per_further_unit": further[-1] / further[0],
    }


def _programs(runs: list[dict]) -> dict:
    return {
        "num_traces": max(run["num_traces"] for run in runs),
        "num_compilations": max(run["num_compilations"] for run in runs),
        "seconds": statistics.median(run["seconds"] for run in runs),
    }


def _print(summary: dict[str, dict]) -> None:
    rows = []
    for axis, row in summary.items():
        if axis == "programs":
            continue
        further = ["", *(f"{1000 * ms:.1f} us" for ms in row["further_unit_ms"])]
        for i, point in enumerate(AXES[axis]["points"]):
            rows.append(
                [
                    axis,
                    f"{point:,}",
                    f"{row['update_ms'][i]:.1f} ms",
                    f"{1000 * row['unit_ms'][i]:.1f} us",
                    further[i],
                ]
            )
        if axis in FLAT:
            grown = f"{row['per_unit']:.2f} (want {PER_UNIT})"
            slope = f"{row['per_further_unit']:.2f} (want {PER_FURTHER_UNIT})"
            rows.append(["", "last / first", "", grown, slope])
    if rows:
        columns = ["growing", "number", "one update", "per unit", "per further unit"]
        report.print_table("Growth", columns, rows)
    if "programs" in summary:
        report.print_table(
            f"{AXES['programs']['num_updates']:,} updates of 1 to 4,096 rows",
            ["what", "measured", "at most"],
            [
                [what, f"{summary['programs'][what]:.4g}", f"{most:g}"]
                for what, most in PROGRAMS.items()
            ],
        )


def _missed(summary: dict[str, dict]) -> list[str]:
    missed = []
    for axis in FLAT:
        for key, most in (
            ("per_unit", PER_UNIT),
            ("per_further_unit", PER_FURTHER_UNIT),
        ):
            if axis in summary and summary[axis][key] > most:
                missed.append(
                    f"{axis}: cost {key} grows by {summary[axis][key]:.2f}, want at "
                    f"most {most:g}"
                )
    for what, most in PROGRAMS.items():
        if "programs" in summary and summary["programs"][what] > most:
            missed.append(f"{what}: {summary['programs'][what]:.4g}, want {most:g}")
    return missed


def _draw(axes, summary: dict[str, dict]) -> None:
    for axis, row in summary.items():
        if axis != "programs":
            axes.plot(AXES[axis]["points"], row["update_ms"], marker="o", label=axis)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("number of minibatches, rows, modules or replicas")
    axes.set_ylabel("ms per update")
    axes.legend()


if __name__ == "__main__":
    sys.exit(main())
