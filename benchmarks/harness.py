"""Runs the same work in several libraries, each in an environment of its own, in turn.

A worker is one process: `peers/<library>_<benchmark>.py`, started with the settings
as JSON, answering with one line of JSON. "ours" runs with the interpreter that runs
the benchmark and imports this checkout; a peer runs in a virtual environment that is
made on first use and kept, or with our interpreter if it needs nothing else.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
OURS = "ours"

# The peers and the versions they are measured in. A changed line makes a new
# environment on the next run. A peer without a line runs with our interpreter.
REQUIREMENTS = {
    "sb3": [
        "stable-baselines3==2.9.2",
        "torch==2.13.0",
        "gymnasium==1.4.0",
        "numpy==2.4.6",
    ],
    "rllib": [
        "ray[rllib]==2.60.0",
        "torch==2.13.0",
        "gymnasium==1.2.2",
        "numpy==2.4.6",
    ],
    "torch": ["torch==2.13.0", "numpy==2.4.6"],
    "jax": ["jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8", "numpy==2.4.6"],
}

# Variables that change what a worker imports, how many threads it takes, or what it
# has compiled before: workers are started without them.
_REMOVED = (
    "PYTHONPATH",
    "PYTHONHOME",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "XLA_FLAGS",
    "TF_XLA_FLAGS",
    "JAX_COMPILATION_CACHE_DIR",
)


class WorkerError(RuntimeError):
    """A worker that failed; the text holds the end of what it wrote."""


def parse_args(
    name: str,
    description: str,
    peers: list[str],
    rounds: int,
    rounds_help: str = "processes, in turn (default: %(default)s)",
    add_options: Callable[[argparse.ArgumentParser], object] | None = None,
) -> argparse.Namespace:
    """Reads the command line that all benchmarks share.

    Args:
        name: The benchmark's name: of its workers and of its results.
        description: What `--help` says.
        peers: The libraries that it has workers for; without any there is no `--peers`.
        rounds: How often each library runs by default.
        rounds_help: What a round is.
        add_options: Adds what only this benchmark has.

    Returns:
        The arguments, with `names`: "ours" and the chosen peers.
    """
    cache = Path("~/.cache/tflearner-benchmarks").expanduser()
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(peers=[])
    if peers:
        parser.add_argument(
            "--peers",
            type=names_in,
            help=f"libraries to compare with, of {','.join(peers)}; none by default",
        )
        parser.add_argument(
            "--envs",
            type=Path,
            default=Path(os.environ.get("TFLEARNER_BENCHMARK_ENVS", cache)),
            help="where the peers' environments are kept (default: %(default)s)",
        )
    if add_options is not None:
        add_options(parser)
    parser.add_argument("--rounds", type=int, default=rounds, help=rounds_help)
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 when a target is missed"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=FOLDER / "results" / f"{name}.json",
        help="where the results go (default: %(default)s)",
    )
    parser.add_argument("--png", type=Path, help="draw the results (needs matplotlib)")
    args = parser.parse_args()
    if unknown := set(args.peers) - set(peers):
        parser.error(f"--peers: got {','.join(sorted(unknown))}, want {peers}")
    if args.rounds < 1:
        parser.error(f"--rounds: got {args.rounds}, want at least 1")
    args.names = [OURS, *args.peers]
    return args


def names_in(text: str) -> list[str]:
    """Returns the names of a list with commas."""
    return [name for name in text.split(",") if name]


def run_in_turn(
    name: str, libraries: list[str], rounds: list[dict], envs: Path
) -> list[dict]:
    """Runs every library once per round, A B A B, and gathers their answers.

    Neighbours in time share what else the machine is doing, so ratios within a round
    are steadier than times.

    Args:
        name: The benchmark's name.
        libraries: "ours" or names of peers.
        rounds: The settings of each round.
        envs: Where the peers' environments are.

    Returns:
        The workers' answers, each with its `library` and `round`.
    """
    pythons = {library: python_of(library, envs) for library in libraries}
    runs = []
    for number, settings in enumerate(rounds):
        for library in libraries:
            say(f"round {number + 1} of {len(rounds)}: {library}")
            answer = run_worker(worker_of(library, name), pythons[library], settings)
            runs.append({"library": library, "round": number, **answer})
    return runs


def worker_of(library: str, name: str) -> Path:
    """Returns the script of a library in a benchmark."""
    return FOLDER / "peers" / f"{library.replace('-', '_')}_{name}.py"


def python_of(library: str, envs: Path) -> Path:
    """Returns the interpreter of a library, making its environment if there is none."""
    if library not in REQUIREMENTS:
        return Path(sys.executable)
    folder = envs / library
    windows = os.name == "nt"
    python = folder / ("Scripts/python.exe" if windows else "bin/python")
    wanted = "\n".join([platform.python_version(), *REQUIREMENTS[library]])
    # Written last, so that an installation that broke off is made again.
    made = folder / "made-by-tflearner-benchmarks.txt"
    if made.is_file() and made.read_text() == wanted:
        return python
    say(f"installing {library} into {folder}: {' '.join(REQUIREMENTS[library])}")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[library]],
    ):
        subprocess.run(command, check=True, stdout=sys.stderr)
    made.write_text(wanted)
    return python


def run_worker(script: Path, python: Path, settings: dict) -> dict:
    """Runs one worker on the CPU, in an empty folder, and returns its answer.

    Args:
        script: The worker.
        python: The interpreter.
        settings: What it gets as JSON.

    Returns:
        What it printed last.

    Raises:
        WorkerError: If it fails or prints no JSON.
    """
    environment = {k: v for k, v in os.environ.items() if k not in _REMOVED}
    environment |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    if script.name.startswith(OURS):
        environment["PYTHONPATH"] = str(FOLDER.parent)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [str(python), str(script), json.dumps(settings)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    lines = done.stdout.strip().splitlines()
    try:
        done.check_returncode()
        return json.loads(lines[-1])
    except (subprocess.CalledProcessError, IndexError, json.JSONDecodeError) as error:
        said = "\n".join([*lines, done.stderr])[-3000:]
        raise WorkerError(f"{script.name} exited {done.returncode}:\n{said}") from error


def faster_threads(name: str, library: str, settings: dict, what: str) -> int:
    """Returns with how many threads a TensorFlow library takes the least time.

    TensorFlow cannot change its threads once it runs, so that each number of
    `settings["threads"]` is tried in a process of its own.

    Args:
        name: The benchmark's name.
        library: One that runs with our interpreter.
        settings: What its worker gets, with "chosen_threads" added.
        what: What is measured, for the line about progress.
    """
    times = {}
    for number in settings["threads"]:
        say(f"{what}: trying {library} with {number} threads")
        own = {**settings, "seconds": 0.5, "chosen_threads": {library: number}}
        answer = run_worker(worker_of(library, name), Path(sys.executable), own)
        times[number] = answer["median_ms"]
    return min(times, key=times.__getitem__)


def machine() -> dict:
    """Returns what the figures were taken on, and how busy it was."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x for x in cpuinfo.read_text().splitlines() if "model name" in x]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def say(text: str) -> None:
    """Writes a line about progress, which goes to stderr."""
    print(text, file=sys.stderr, flush=True)
