"""Trains what the examples train, several seeds each, and holds what they promise.

dqn_cartpole, sac_pendulum, sac_discrete_cartpole, ppo_cartpole, ppo_pendulum,
impala_cartpole
    the example of that name: the mean return of its 20 greedy episodes, after at most
    so many environment steps
ppo_defaults
    PPO on CartPole-v1 with no setting but the seed: the best mean return of training
    episodes on the way
impala_old_weights
    IMPALA on CartPole-v1, acting with weights up to 8 updates old: the mean return of 20
    greedy episodes at the end

A demand holds if every seed holds it. Two runs go side by side, each with one thread.
Exits with 1 on a miss.

    python benchmarks/learning.py --seeds 0-4
    python benchmarks/learning.py --seeds 0,3 --demands dqn_cartpole,sac_pendulum
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import harness
import report

# Example: the least mean return, and the most environment steps.
DEMANDS: dict[str, tuple[float, int]] = {
    "dqn_cartpole": (450.0, 60_000),
    "sac_pendulum": (-200.0, 20_000),
    "sac_discrete_cartpole": (400.0, 60_000),
    "ppo_cartpole": (475.0, 100_000),
    "ppo_pendulum": (-300.0, 300_000),
    "impala_cartpole": (475.0, 200_000),
    "ppo_defaults": (200.0, 100_000),
    "impala_old_weights": (450.0, 400_000),
}
NO_EXAMPLES = ("ppo_defaults", "impala_old_weights")
SIDE_BY_SIDE = 2

# Read by TensorFlow as it starts, so that two runs fit two cores.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
}


def main() -> int:
    """Runs the demands and returns the exit status."""
    args = _parse_args()
    machine = harness.machine()
    jobs = [(name, seed) for name in args.demands for seed in args.seeds]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        runs = list(pool.map(lambda job: _run(*job), jobs))
    summary = {name: _summary(name, runs) for name in args.demands}

    columns = ["demand", "mean return", "min", "max", "std", "env steps", "seconds"]
    rows = [[name, *_cells(name, row)] for name, row in summary.items()]
    seeds = ", ".join(map(str, args.seeds))
    report.print_table(f"What is learned, seeds {seeds}", [*columns, "want", ""], rows)
    packages = ("tensorflow", "keras", "gymnasium", "numpy")
    versions = {name: metadata.version(name) for name in packages}
    print(*report.versions([{"library": harness.OURS, "versions": versions}]))
    results = {
        "benchmark": "learning",
        "machine": machine,
        "settings": {"seeds": args.seeds, "side_by_side": SIDE_BY_SIDE},
        "targets": {name: DEMANDS[name] for name in args.demands},
        "versions": versions,
        "summary": summary,
        "runs": runs,
    }
    missed = [run["missed"] for run in runs if run["missed"]]
    return report.finish(args, results, missed, lambda axes: _draw(axes, runs))


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # What `report.finish` asks for: a miss always counts.
    parser.set_defaults(check=True)
    parser.add_argument(
        "--seeds",
        type=_seeds_in,
        default=_seeds_in("0-4"),
        help="such as 0-4 or 0,3 (default: 0-4)",
    )
    parser.add_argument(
        "--demands",
        type=harness.names_in,
        default=list(DEMANDS),
        help=f"what to run, of {','.join(DEMANDS)}; all by default",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=harness.FOLDER / "results" / "learning.json",
        help="where the results go (default: %(default)s)",
    )
    parser.add_argument("--png", type=Path, help="draw the results (needs matplotlib)")
    args = parser.parse_args()
    if unknown := set(args.demands) - set(DEMANDS):
        parser.error(f"--demands: got {','.join(sorted(unknown))}, want {[*DEMANDS]}")
    return args


def _seeds_in(text: str) -> list[int]:
    """Returns the seeds of a list with commas and of ranges with both ends."""
    seeds: set[int] = set()
    for part in text.split(","):
        if not (match := re.fullmatch(r"(\d+)(?:-(\d+))?", part)):
            raise argparse.ArgumentTypeError(f"got {text!r}, want such as 0-4 or 0,3")
        first, last = int(match[1]), int(match[2] or match[1])
        seeds.update(range(first, last + 1))
    if not seeds:
        raise argparse.ArgumentTypeError(f"got {text!r}, want at least one seed")
    return sorted(seeds)


def _run(name: str, seed: int) -> dict[str, Any]:
    """Trains one seed in a process of its own and says whether it holds its demand."""
    harness.say(f"{name}: seed {seed}")
    least, most_steps = DEMANDS[name]
    if name in NO_EXAMPLES:
        settings = {"demand": name, "seed": seed, "max_env_steps": most_steps}
        script = harness.worker_of(harness.OURS, "learning")
        command = [str(script), json.dumps(settings)]
    else:
        script = harness.FOLDER.parent / "examples" / f"{name}.py"
        command = [str(script), "--seed", str(seed)]
    paths = {"PYTHONPATH": str(harness.FOLDER.parent)}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, **ONE_THREAD, **paths},
            capture_output=True,
            text=True,
            check=False,
        )
    lines = done.stdout.strip().splitlines()
    numbers = dict(re.findall(r"(\w+)=(\S+)", lines[-1] if lines else ""))
    run: dict[str, Any] = {"demand": name, "seed": seed, "missed": None}
    if done.returncode or "mean_return" not in numbers:
        said = "\n".join([*lines, done.stderr])[-2000:]
        missed = f"{name}, seed {seed}: exited {done.returncode}:\n{said}"
        return {**run, "missed": missed}
    run |= {
        "mean_return": float(numbers["mean_return"]),
        "env_steps": int(numbers["env_steps"]),
        "seconds": float(numbers["seconds"]),
    }
    harness.say(f"{name}: seed {seed}: {lines[-1]}")
    # `not >=`: also where it is NaN.
    if not run["mean_return"] >= least or run["env_steps"] > most_steps:
        run["missed"] = (
            f"{name}, seed {seed}: {run['mean_return']:.1f} after "
            f"{run['env_steps']:,} steps, want at least {least:g} within "
            f"{most_steps:,}"
        )
    return run


def _summary(name: str, runs: list[dict]) -> dict[str, Any]:
    own = [run for run in runs if run["demand"] == name]
    ended = [run for run in own if "mean_return" in run]
    summary: dict[str, Any] = {
        "seeds": [run["seed"] for run in own],
        "holds": not any(run["missed"] for run in own),
    }
    if ended:
        returns = [run["mean_return"] for run in ended]
        summary |= {
            "mean": statistics.mean(returns),
            "min": min(returns),
            "max": max(returns),
            "std": statistics.pstdev(returns),
            "env_steps": [run["env_steps"] for run in ended],
            "seconds": [run["seconds"] for run in ended],
        }
    return summary


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    """The cells of a demand's line behind its name."""
    least, most_steps = DEMANDS[name]
    cells = ["", "", "", "", "", ""]
    if "mean" in row:
        steps, seconds = row["env_steps"], row["seconds"]
        cells = [f"{row[key]:.1f}" for key in ("mean", "min", "max", "std")] + [
            f"{min(steps):,} to {max(steps):,}",
            f"{min(seconds):.0f} to {max(seconds):.0f}",
        ]
    want = f"{least:g} within {most_steps:,}"
    return [*cells, want, "pass" if row["holds"] else "miss"]


def _draw(axes, runs: list[dict]) -> None:
    """Points of the seeds' returns, above or below what is wanted."""
    for run in runs:
        if "mean_return" in run:
            above = run["mean_return"] - DEMANDS[run["demand"]][0]
            axes.plot(above, run["demand"], "o", color="C0", alpha=0.6)
    axes.axvline(0.0, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("mean return above what is wanted, each seed")
    axes.invert_yaxis()


if __name__ == "__main__":
    sys.exit(main())
