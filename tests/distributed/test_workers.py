"""Two processes that learn together, on this machine, with `MultiWorkerMirroredStrategy`.

They run once, side by side, and do all parts one after the other.
"""

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.deep
PROGRAMS = pathlib.Path(__file__).parent / "programs"
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What each of two processes said, {part: facts}, and the weights of each."""
    folder = tmp_path_factory.mktemp("workers")
    port = _two_free_ports()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(PROGRAMS)]),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, PROGRAMS / "worker.py", str(index), str(port), path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for index, path in enumerate((folder / "0.npz", folder / "1.npz"))
    ]
    said = []
    try:
        for process, code in zip(processes, (0, -9)):
            out, err = process.communicate(timeout=200)
            assert process.returncode == code, err[-3000:]
            facts = [json.loads(line) for line in out.splitlines()]
            said.append({own.pop("part"): own for own in facts})
    finally:
        for process in processes:
            process.kill()
    weights = [dict(np.load(folder / f"{index}.npz")) for index in (0, 1)]
    return said, weights


def test_two_processes_give_the_weights_of_one_on_the_joined_batch(parts):
    said, weights = parts
    spec = importlib.util.spec_from_file_location("w", PROGRAMS / "of_workers.py")
    of_workers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(of_workers)
    one = of_workers.make_learner(None)
    # Minibatch i is rows 16i to 16i + 16 of the first process, and of the second.
    order = np.arange(128).reshape(2, 4, 16).transpose(1, 0, 2).ravel()
    one.update_from_batch(of_workers.make_batch(order), num_epochs=2, minibatch_size=32)
    expected = one.get_state("rl_module")["rl_module"]["p0"]
    for name, weight in expected.items():
        ours, theirs = (own[name.replace("/", ".")] for own in weights)
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(ours, weight, atol=1e-6)
    for own in said:
        assert own["equal"]["distributed"]
        assert "on 2 devices in 2 processes" in own["equal"]["how"][0]


def test_processes_agree_on_steps_when_their_data_differ_in_length(parts):
    (first, second), _ = parts
    first, second = first["unlike lengths"], second["unlike lengths"]
    assert first == second
    assert first["steps"] == 8 + 8  # As many as the longer batch needs.


@pytest.mark.parametrize("part", ["refused", "ragged"])
def test_batch_that_one_process_refuses_is_refused_by_both(parts, part):
    (first, second), _ = parts
    assert "process 1 refused" in first[part]["error"]
    assert "actions" in second[part]["error"]


def test_iterators_of_unlike_length_are_an_error_in_both(parts):
    """What they had in common is trained on."""
    for own in parts[0]:
        assert "process 1 without a batch" in own["iterators"]["error"]
        assert "2 batches were trained on before" in own["iterators"]["error"]
        assert own["iterators"]["steps"] == 2


def test_processes_with_other_modules_are_an_error_in_both(parts):
    for own in parts[0]:
        assert "process 1 with other modules" in own["other modules"]["error"]


def test_process_that_is_killed_is_a_named_error_in_the_other(parts):
    first, second = parts[0]
    assert first["killed"]["error"].startswith("WorkerLostError: 2 processes")
    assert "killed" not in second


def _two_free_ports():
    """Returns the first of two ports side by side that nobody listens on."""
    for _ in range(50):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("localhost", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("localhost", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two free ports side by side")
