"""What the tests of the promises share: how many trials, from which seed, and one line.

A promise is a test with a published number. Its file is called `test_p<number>_<name>.py`
and asks for these fixtures:

* `count`: the trials of this tier, from `TIERS`. Such a test exists three times: in the
  plain run (unless it takes long), and with the markers `deep` and `slow`.
* `seed`: where its random numbers start; `PROMISE_SEED=7 pytest ...` sets another one.
* `line`: a function that takes what is printed at the end of the run, under "promises":
  `line(f"{kills:,} kills, 0 unusable")` becomes `P1: 300 kills, 0 unusable [seed 0]`.
* `run_program`: runs a file of `programs/` in a process of its own, for what pytest must
  not do itself: fork, kill, set audit hooks. Programs share `programs/forks.py`.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

PROGRAMS = pathlib.Path(__file__).parent / "programs"
ROOT = pathlib.Path(__file__).parents[2]

# Promise: (in the plain run, with the marker `deep`, with the marker `slow`).
TIERS = {
    "P1": (30, 300, 1_000),  # Kills.
    "P3": (500, 5_000, 100_000),  # Faults.
    "P5": ((2, 10, 1), (2, 20, 2), (8, 200, 4)),  # Writers, saves of each, readers.
    "P6": (None, 5, 500),  # Chains of kills.
    "P7": (4, 30, 1_000),  # Pairs of steps.
    "P8": (40, 100, 2_000),  # Pairs of specifications.
    "P27": (100, 500, 20_000),  # Sequences of saves.
    "P29": (None, 12, 200),  # Kills.
}
SLOW = (pytest.mark.slow, pytest.mark.timeout(3600))


def promise_of(module) -> str:
    """Returns "P1" for `test_p1_kill_during_save.py`."""
    return re.match(r"test_(p\d+)_", pathlib.Path(module.__file__).name)[1].upper()


def pytest_generate_tests(metafunc):
    if "count" in metafunc.fixturenames:
        plain, deep, slow = TIERS[promise_of(metafunc.module)]
        tiers = [
            pytest.param(deep, id="deep", marks=pytest.mark.deep),
            pytest.param(slow, id="slow", marks=SLOW),
        ]
        if plain is not None:
            tiers.insert(0, pytest.param(plain, id="plain"))
        metafunc.parametrize("count", tiers)


@pytest.fixture
def seed():
    """The seed of the trials."""
    return int(os.environ.get("PROMISE_SEED", "0"))


@pytest.fixture
def line(request, record_property):
    """Returns a function that keeps the one line of this promise."""

    def keep(text: str) -> None:
        if "seed" in request.fixturenames:
            text += f" [seed {request.getfixturevalue('seed')}]"
        record_property("promise", f"{promise_of(request.module)}: {text}")

    return keep


@pytest.fixture
def run_program(tmp_path):
    """Returns a function that runs `programs/<name>` and returns what it reports.

    A program gets its arguments as one JSON object in `sys.argv[1]`, works in an empty
    directory, prints one JSON object last and ends with 0.
    """

    def run(name: str, *, timeout: float = 3000.0, **arguments):
        process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / name), json.dumps(arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            printed, errors = process.communicate(timeout=timeout)
        finally:  # With the children of a program that is stuck.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, f"{name} {arguments}\n{printed}\n{errors}"
        return json.loads(printed.splitlines()[-1])

    return run
