"""Measures gradient steps of DQN and SAC, and what drawing from a large buffer costs.

dqn     DQN on CartPole-v1's spaces: two ReLU layers of 64, 64 rows in a step, uniform
        replay, neither double nor dueling; 64 steps in a call
sac     SAC on Pendulum-v1's spaces: ReLU layers of 256, 256 rows in a step, twin
        critics and their targets after every step, a temperature that is learned;
        64 steps in a call
replay  1,000,000 observations of 4 floats: drawing the rows of 64 steps of "dqn",
        uniformly, and with priorities that are written back, against the steps

sb3 is Stable-Baselines3's own `DQN.train` and `SAC.train`; ours draws by
`replay_buffer.sample` and learns by `learner.update_from_batch`, as `algo.train()`
does. Both draw inside the measured time. "sac" is measured with XLA and without, too.

    python benchmarks/off_policy.py --peers sb3 --check
    python benchmarks/off_policy.py --cases replay --check
"""

import os
import statistics
import sys
from typing import Any

import harness
import report

SETTINGS: dict[str, Any] = {
    "gamma": 0.99,
    "jit_compile": "auto",
    "steps_per_call": 64,
    # Every library is tried with each of these and keeps the faster.
    "threads": sorted({1, os.cpu_count() or 1}),
    # How long each process measures, after warming up.
    "seconds": 3.0,
}
DQN: dict[str, Any] = {
    "algorithm": "dqn",
    "num_floats": 4,
    "num_actions": 2,
    "transitions": 100_000,
    "capacity": 200_000,
    "batch_size": 64,
    "hiddens": [64, 64],
    "lr": 1e-4,
    "grad_clip": 10.0,
    # Stable-Baselines3's defaults: it samples 4 steps for each gradient step.
    "env_steps_per_gradient_step": 4,
    "target_update_freq": 10_000,
    "tau": 1.0,
}
CASES: dict[str, dict[str, Any]] = {
    "dqn": DQN,
    "sac": {
        **DQN,
        "algorithm": "sac",
        "num_floats": 3,
        "num_actions": None,
        "batch_size": 256,
        "hiddens": [256, 256],
        "lr": 3e-4,
        "grad_clip": None,
        "env_steps_per_gradient_step": 1,
        "target_update_freq": 0,
        "tau": 0.005,
    },
    "replay": {**DQN, "transitions": 1_000_000, "capacity": 1_010_000},
}
ALGORITHMS = ("dqn", "sac")

# How many times as long as ours a peer must take.
TARGETS: dict[str, dict[str, float]] = {"dqn": {"sb3": 5.0}, "sac": {"sb3": 1.5}}

# How many times a gradient step drawing its rows may take.
REPLAY_TARGETS = {"uniform": 1.0, "prioritized": 3.0}

# Ours once more, compiled in the one way and the other, whichever "auto" takes.
VARIANTS: dict[str, dict[str, dict]] = {
    "dqn": {},
    "sac": {f"jit_compile={value}": {"jit_compile": value} for value in (True, False)},
}


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args(
        "off_policy",
        __doc__,
        peers=["sb3"],
        rounds=5,
        rounds_help="processes per library and case, in turn (default: %(default)s)",
        add_options=lambda parser: parser.add_argument(
            "--cases",
            type=harness.names_in,
            default=list(CASES),
            help=f"what to measure, of {','.join(CASES)}; all by default",
        ),
    )
    if unknown := set(args.cases) - set(CASES):
        sys.exit(f"--cases: got {','.join(sorted(unknown))}, want {list(CASES)}")
    machine = harness.machine()
    runs: list[dict] = []
    summary: dict[str, dict] = {}
    missed: list[str] = []
    for case in args.cases:
        own = _run_case(case, args)
        runs += own
        if case in ALGORITHMS:
            summary[case] = report.compare(own, "median_ms")
            lines = report.missed_targets(summary[case], TARGETS[case])
        else:
            summary[case] = _replay_summary(own)
            lines = _slow_drawing(summary[case])
        missed += [f"{case}: {line}" for line in lines]

    _print_tables(summary, runs)
    results = {
        "benchmark": "off_policy",
        "machine": machine,
        "settings": {**SETTINGS, "cases": {k: CASES[k] for k in args.cases}},
        "targets": {"ratios": TARGETS, "replay": REPLAY_TARGETS},
        "summary": summary,
        "runs": runs,
    }
    return report.finish(args, results, missed, lambda axes: _draw(axes, summary))


def _run_case(case: str, args) -> list[dict]:
    """Runs ours, its variants and the peers in turn; each with its best threads."""
    shared = {**SETTINGS, **CASES[case], "is_replay": case == "replay"}
    libraries: dict[str, dict] = {harness.OURS: shared}
    if case in ALGORITHMS:
        libraries |= dict.fromkeys(args.peers, shared)
        variants = VARIANTS[case].items()
        libraries |= {name: {**shared, **own} for name, own in variants}
    for name, settings in libraries.items():
        if name in args.peers:  # Tries them inside its process.
            continue
        threads = harness.faster_threads(
            "off_policy", harness.OURS, settings, f"{case}, {name}"
        )
        libraries[name] = {**settings, "chosen_threads": {harness.OURS: threads}}
    runs = []
    for number in range(args.rounds):
        for name, settings in libraries.items():
            harness.say(f"round {number + 1} of {args.rounds}: {case}, {name}")
            library = name if name in args.peers else harness.OURS
            python = harness.python_of(library, getattr(args, "envs", None))
            script = harness.worker_of(library, "off_policy")
            answer = harness.run_worker(script, python, settings)
            runs.append({"case": case, "library": name, "round": number, **answer})
    return runs


def _replay_summary(runs: list[dict]) -> dict[str, dict]:
    """Returns times per step, and how many gradient steps drawing one's rows takes."""
    summary: dict[str, dict] = {}
    for name in ("gradient_step", *REPLAY_TARGETS):
        times = [run["per_step_us"][name] for run in runs]
        ratios = [
            run["per_step_us"][name] / run["per_step_us"]["gradient_step"]
            for run in runs
        ]
        summary[name] = {
            "median_us": statistics.median(times),
            "low_us": min(times),
            "high_us": max(times),
        }
        if name in REPLAY_TARGETS:
            summary[name] |= {
                "ratio": statistics.median(ratios),
                "ratio_low": min(ratios),
                "ratio_high": max(ratios),
            }
    return summary


def _slow_drawing(summary: dict[str, dict]) -> list[str]:
    return [
        f"{name} drawing takes {summary[name]['ratio']:.2f} times a gradient step, "
        f"want less than {most:g}"
        for name, most in REPLAY_TARGETS.items()
        if summary[name]["ratio"] >= most
    ]


def _print_tables(summary: dict[str, dict], runs: list[dict]) -> None:
    num_steps = SETTINGS["steps_per_call"]
    rows = []
    for case in (name for name in summary if name in ALGORITHMS):
        for library, row in summary[case].items():
            own = [
                run for run in runs if (run["case"], run["library"]) == (case, library)
            ]
            first_s = statistics.median(run["first_ms"] for run in own) / 1000
            low, median, high = (
                1000 * row[key] / num_steps for key in ("low", "median", "high")
            )
            want = TARGETS[case].get(library)
            rows.append(
                [
                    case,
                    library,
                    _range(median, low, high),
                    f"{1e6 / median:,.0f}",
                    f"{first_s:.1f} s",
                    report.ratio_cell(row),
                    "" if want is None else f"{want:g}",
                ]
            )
    if rows:
        columns = ["case", "library", "one step", "steps/s", "first call"]
        columns += ["ratio to ours", "want"]
        report.print_table("Gradient steps, drawing included", columns, rows)
    if "replay" in summary:
        rows = [
            [
                name.replace("_", " "),
                _range(row["median_us"], row["low_us"], row["high_us"]),
                report.ratio_cell(row),
                f"{REPLAY_TARGETS[name]:g}" if name in REPLAY_TARGETS else "",
            ]
            for name, row in summary["replay"].items()
        ]
        title = f"Drawing from {CASES['replay']['transitions']:,} transitions"
        columns = ["", "per gradient step", "times a gradient step", "less than"]
        report.print_table(title, columns, rows)
    programs = {(run["case"], run["library"]): run.get("programs") for run in runs}
    for (case, library), texts in programs.items():
        if texts:
            print(f"{case}, {library}: {'; '.join(texts)}")
    plain = [run for run in runs if "jit_compile" not in run["library"]]
    print(*report.versions(plain), sep="\n")


def _range(median_us: float, low_us: float, high_us: float) -> str:
    if median_us >= 1000.0:
        median, low, high = median_us / 1000, low_us / 1000, high_us / 1000
        return f"{median:.2f} ms ({low:.2f} to {high:.2f})"
    return f"{median_us:.0f} us ({low_us:.0f} to {high_us:.0f})"


def _draw(axes, summary: dict[str, dict]) -> None:
    """Bars of ratios: to ours, and of drawing to a gradient step."""
    ratios = {
        f"{case}, {name}": row["ratio"]
        for case, rows in summary.items()
        for name, row in rows.items()
        if "ratio" in row
    }
    bars = axes.barh(list(ratios), list(ratios.values()))
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.axvline(1.0, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("times as long as ours; replay: as a gradient step")
    axes.margins(x=0.2)
    axes.invert_yaxis()


if __name__ == "__main__":
    sys.exit(main())
