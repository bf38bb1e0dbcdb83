"""Measures one PPO update on several shapes of network and batch.

small  observations of 4 floats, 2 actions, separate policy and value networks of two
       tanh layers of 64; 2,048 rows, minibatches of 64, 10 epochs
wide   the same with observations of 376 floats and two layers of 256
cnn    84x84x4 pixels of uint8 through the convolutions of DQN's Nature paper and a
       layer of 512, shared; 512 rows, minibatches of 64, 2 epochs
lstm   a layer of 64 and an LSTM of 64, shared; 128 sequences of 20 steps, 32 in a
       minibatch, 10 epochs
four   four modules like that of "small" in one batch, 2,048 rows each

Ours is `PPOTfLearner.update_from_batch`; sb3 is Stable-Baselines3's own `PPO.train`;
rllib is RLlib's own `Learner.update` with PyTorch; torch, jax and tf-loop are the same
work written by hand: an eager PyTorch loop, one jitted JAX scan with Optax, and one
`tf.function` call per minibatch.

    python benchmarks/update.py --peers sb3,rllib,torch,jax,tf-loop --check
    python benchmarks/update.py --shapes cnn,lstm --peers torch --rounds 1
"""

import os
import statistics
import sys
import tempfile
from typing import Any

import harness
import report

SETTINGS: dict[str, Any] = {
    "lr": 3e-4,
    "clip_param": 0.2,
    "vf_loss_coeff": 0.5,
    "entropy_coeff": 0.0,
    "grad_clip": 0.5,
    # Every library is tried with each of these and keeps the faster.
    "threads": sorted({1, os.cpu_count() or 1}),
    # How long each process measures, after warming up.
    "seconds": 3.0,
}
SMALL: dict[str, Any] = {
    "num_modules": 1,
    "obs_shape": [4],
    "obs_dtype": "float32",
    "num_actions": 2,
    "rows": 2048,
    "sequence_length": None,
    "minibatch_size": 64,
    "num_epochs": 10,
    "hiddens": [64, 64],
    "activation": "tanh",
    "share_layers": False,
    "lstm_units": 0,
}
SHAPES: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "wide": {**SMALL, "obs_shape": [376], "hiddens": [256, 256]},
    "cnn": {
        **SMALL,
        "obs_shape": [84, 84, 4],
        "obs_dtype": "uint8",
        "num_actions": 6,
        "rows": 512,
        "num_epochs": 2,
        "hiddens": [512],
        "activation": "relu",
        "share_layers": True,
    },
    "lstm": {
        **SMALL,
        "rows": 128 * 20,
        "sequence_length": 20,
        "minibatch_size": 32 * 20,
        "hiddens": [64],
        "share_layers": True,
        "lstm_units": 64,
    },
    "four": {**SMALL, "num_modules": 4},
}

# Which peers there are for a shape, and how many times as long each must take.
TARGETS: dict[str, dict[str, float | None]] = {
    "small": {"sb3": 20.0, "rllib": 25.0, "torch": None, "jax": 1.0, "tf-loop": None},
    "wide": {"torch": 1.25},
    "cnn": {"torch": 1.1},
    "lstm": {"torch": 1.0},
    "four": {"rllib": 25.0},
}
PEERS = ["sb3", "rllib", "torch", "jax", "tf-loop"]

# How long our first update may take, with tracing and compiling, in seconds; and how
# long in a process that finds what an earlier one compiled (`compile_cache`).
FIRST_UPDATE = {"small": 5.0, "four": 15.0}
FIRST_UPDATE_CACHED = {"four": 8.0}

# TensorFlow cannot change its threads once it runs, so that these are tried in
# processes of their own, in front of the rounds.
ON_TENSORFLOW = (harness.OURS, "tf-loop")


def main() -> int:
    """Runs the benchmark and returns the exit status."""
    args = harness.parse_args(
        "update",
        __doc__,
        peers=PEERS,
        rounds=5,
        rounds_help="processes per library and shape, in turn (default: %(default)s)",
        add_options=lambda parser: parser.add_argument(
            "--shapes",
            type=harness.names_in,
            default=list(SHAPES),
            help=f"what to measure, of {','.join(SHAPES)}; all by default",
        ),
    )
    if unknown := set(args.shapes) - set(SHAPES):
        sys.exit(f"--shapes: got {','.join(sorted(unknown))}, want {list(SHAPES)}")
    machine = harness.machine()
    runs: list[dict] = []
    summary: dict[str, dict] = {}
    missed: list[str] = []
    first_s: dict[str, dict[str, float]] = {}
    for shape in args.shapes:
        own = _run_shape(shape, args)
        runs += own
        summary[shape] = report.compare(own, "median_ms")
        targets = {k: v for k, v in TARGETS[shape].items() if v is not None}
        missed += [
            f"{shape}: {line}"
            for line in report.missed_targets(summary[shape], targets)
        ]
        first_s[shape] = {"cold": _first_s(_runs_of(own, shape, harness.OURS))}
        if shape in FIRST_UPDATE_CACHED:
            first_s[shape]["cached"] = _cached_first_s(shape, args.rounds)
    missed += _late_first_updates(first_s)

    columns = ["shape", "library", "one update", "per step", "first", "ratio to ours"]
    rows = [row for shape in args.shapes for row in _rows(shape, summary[shape], runs)]
    report.print_table("One PPO update", [*columns, "want"], rows)
    for shape, kinds in first_s.items():
        if "cached" in kinds:
            print(
                f"first update of {shape} with the compile cache: "
                f"{kinds['cached']:.1f} s, want less than "
                f"{FIRST_UPDATE_CACHED[shape]:g} s"
            )
    for shape in args.shapes:
        ours = _runs_of(runs, shape, harness.OURS)[0]
        print(f"ours, {shape}: {'; '.join(ours['programs'])}")
    print(*report.versions(runs), sep="\n")
    results = {
        "benchmark": "update",
        "machine": machine,
        "settings": {**SETTINGS, "shapes": {k: SHAPES[k] for k in args.shapes}},
        "targets": {
            "ratios": TARGETS,
            "first_update_s": {"cold": FIRST_UPDATE, "cached": FIRST_UPDATE_CACHED},
        },
        "first_update_s": first_s,
        "summary": summary,
        "runs": runs,
    }
    return report.finish(args, results, missed, lambda axes: _draw(axes, summary))


def _run_shape(shape: str, args) -> list[dict]:
    """Runs ours and the chosen peers that have this shape in turn."""
    libraries = [name for name in args.names if name in (harness.OURS, *TARGETS[shape])]
    settings = {**SETTINGS, **SHAPES[shape]}
    settings["chosen_threads"] = {
        library: harness.faster_threads("update", library, settings, shape)
        for library in libraries
        if library in ON_TENSORFLOW
    }
    rounds = [settings] * args.rounds
    harness.say(f"{shape}: {settings['chosen_threads']} threads")
    runs = harness.run_in_turn("update", libraries, rounds, getattr(args, "envs", None))
    return [{"shape": shape, **run} for run in runs]


def _cached_first_s(shape: str, rounds: int) -> float:
    """Returns how long our first update takes where an earlier process compiled it."""
    seconds = []
    for number in range(rounds):
        harness.say(f"{shape}: first update with the compile cache, {number + 1}")
        with tempfile.TemporaryDirectory() as folder:
            settings = {
                **SETTINGS,
                **SHAPES[shape],
                "seconds": 0.0,
                "chosen_threads": {harness.OURS: 1},
                "compile_cache": folder,
            }
            for _ in range(2):
                answer = harness.run_worker(
                    harness.worker_of(harness.OURS, "update"),
                    harness.python_of(harness.OURS, harness.FOLDER),
                    settings,
                )
        seconds.append(answer["first_ms"] / 1000)
    return statistics.median(seconds)


def _late_first_updates(first_s: dict[str, dict[str, float]]) -> list[str]:
    missed = []
    for kind, targets in (("cold", FIRST_UPDATE), ("cached", FIRST_UPDATE_CACHED)):
        for shape, most in targets.items():
            seconds = first_s.get(shape, {}).get(kind, 0.0)
            if seconds >= most:
                missed.append(
                    f"{shape}: our first update takes {seconds:.1f} s ({kind}), want "
                    f"less than {most:g} s"
                )
    return missed


def _rows(shape: str, summary: dict, runs: list[dict]) -> list[list[str]]:
    """The lines of the table for one shape."""
    settings = SHAPES[shape]
    steps = settings["num_epochs"] * settings["rows"] // settings["minibatch_size"]
    rows = []
    for library, row in summary.items():
        target = TARGETS[shape].get(library)
        if library == harness.OURS and shape in FIRST_UPDATE:
            want = f"first < {FIRST_UPDATE[shape]:g} s"
        else:
            want = "" if target is None else f"{target:g}"
        rows.append(
            [
                shape,
                library,
                f"{row['median']:.1f} ms ({row['low']:.1f} to {row['high']:.1f})",
                f"{row['median'] / steps:.3f} ms",
                f"{_first_s(_runs_of(runs, shape, library)):.1f} s",
                report.ratio_cell(row),
                want,
            ]
        )
    return rows


def _runs_of(runs: list[dict], shape: str, library: str) -> list[dict]:
    return [r for r in runs if r["shape"] == shape and r["library"] == library]


def _first_s(runs: list[dict]) -> float:
    return statistics.median(run["first_ms"] for run in runs) / 1000


def _draw(axes, summary: dict[str, dict]) -> None:
    """Bars of the peers' ratios to ours, shape by shape."""
    ratios = {
        f"{shape}, {library}": row["ratio"]
        for shape, libraries in summary.items()
        for library, row in libraries.items()
        if "ratio" in row
    }
    if ratios:
        bars = axes.barh(list(ratios), list(ratios.values()))
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.set_xscale("log")
        axes.axvline(1.0, color="grey", linewidth=0.8, linestyle="--")
        axes.set_xlabel("times as long as ours")
    else:
        times = {shape: own[harness.OURS]["median"] for shape, own in summary.items()}
        bars = axes.barh(list(times), list(times.values()))
        axes.bar_label(bars, fmt="%.0f ms", padding=3)
        axes.set_xlabel("ms per update")
    axes.margins(x=0.2)
    axes.invert_yaxis()


if __name__ == "__main__":
    sys.exit(main())
