"""Tests for `tflearner.reporting.run_directory`."""

import concurrent.futures
import contextlib
import json
import math
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from tflearner.reporting import run_directory
from tflearner.reporting.run_directory import JsonLinesWriter


def lines(path):
    def no_constant(name):
        raise AssertionError(f"{name} is not JSON")

    text = path.read_text()
    return [json.loads(line, parse_constant=no_constant) for line in text.splitlines()]


def test_directories_are_numbered_from_one(tmp_path):
    parent = tmp_path / "a" / "b"
    made = [run_directory.make_run_directory("ppo", "X-v1", parent) for _ in range(2)]
    assert made == [parent / "ppo-X-v1-1", parent / "ppo-X-v1-2"]
    assert all(directory.is_dir() for directory in made)


def test_first_free_number_is_taken(tmp_path):
    for n in (1, 3):
        (tmp_path / f"ppo-X-{n}").mkdir()
    assert run_directory.make_run_directory("ppo", "X", tmp_path).name == "ppo-X-2"
    assert run_directory.make_run_directory("ppo", "X", tmp_path).name == "ppo-X-4"


def test_default_parent_is_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_directory.make_run_directory("ppo", "X")
    assert (tmp_path / "runs" / "ppo-X-1").is_dir()


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ("ALE/Pong-v5", "ALE-Pong-v5"),
        ("pkg.mod:Env_1-v0", "pkg.mod-Env_1-v0"),
        ("../../etc/x", "etc-x"),
        ("<lambda>", "lambda"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("日本 x", "x"),
        ("e" * 300, "e" * 80),
    ],
)
def test_environment_ids_become_file_names(tmp_path, env, name):
    directory = run_directory.make_run_directory("ppo", env, tmp_path)
    assert directory == tmp_path / f"ppo-{name}-1"


def test_runs_that_start_together_get_their_own(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(
                lambda _: run_directory.make_run_directory("ppo", "X", tmp_path),
                range(24),
            )
        )
    assert len(set(made)) == 24


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(FileExistsError):
        run_directory.make_run_directory("ppo", "X", tmp_path / "runs")


def test_each_line_is_there_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with JsonLinesWriter(path) as writer:
        for i in range(3):
            writer.write({"training_iteration": i, "learners": {"p0": {"loss": 0.5}}})
            assert len(lines(path)) == i + 1
    assert lines(path)[2] == {
        "training_iteration": 2,
        "learners": {"p0": {"loss": 0.5}},
    }


def test_an_existing_file_is_continued(tmp_path):
    for i in range(2):
        with JsonLinesWriter(tmp_path / "x.jsonl") as writer:
            writer.write({"i": i})
    assert lines(tmp_path / "x.jsonl") == [{"i": 0}, {"i": 1}]


@contextlib.contextmanager
def files_up_to(num_bytes):
    """No file grows above so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_costs_the_lines_it_does_not_take_and_no_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with JsonLinesWriter(path) as writer:
        writer.write({"i": 0})
        with files_up_to(15), pytest.warns(RuntimeWarning, match="missing in"):
            writer.write({"i": 1})
        with files_up_to(15):
            writer.write({"i": 2})
        writer.write({"i": 4})
    assert lines(path) == [{"i": 0}, {"i": 4}]


def test_file_that_cannot_be_opened_is_tried_again(tmp_path):
    path = tmp_path / "later" / "metrics.jsonl"
    with pytest.warns(RuntimeWarning, match="No such file"):
        writer = JsonLinesWriter(path)
    writer.write({"i": 0})
    path.parent.mkdir()
    writer.write({"i": 1})
    writer.close()
    assert lines(path) == [{"i": 1}]


def test_file_is_none_of_the_standard_streams(tmp_path):
    program = (
        "import os, sys; from tflearner.reporting.run_directory import JsonLinesWriter\n"
        "os.close(1); os.close(2); writer = JsonLinesWriter(sys.argv[1])\n"
        "writer.write({'i': 0})\n"
        "for descriptor in (1, 2):\n"
        "    try: os.write(descriptor, b'a log line')\n"
        "    except OSError: pass\n"
        "writer.write({'i': 1})"
    )
    path = tmp_path / "metrics.jsonl"
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert lines(path) == [{"i": 0}, {"i": 1}]


def test_error_while_closing_is_a_warning(tmp_path):
    writer = JsonLinesWriter(tmp_path / "x.jsonl")
    os.close(writer._descriptor)
    with pytest.warns(RuntimeWarning, match="Bad file descriptor"):
        writer.close()
    writer.close()


def test_what_json_does_not_know_is_translated(tmp_path):
    with JsonLinesWriter(tmp_path / "x.jsonl") as writer:
        writer.write(
            {
                "nan": math.nan,
                "inf": [math.inf, -math.inf, np.float32("nan")],
                "scalar": np.float32(0.5),
                "int": np.int64(7),
                "bool": np.bool_(True),
                "array": np.array([[1.0, math.nan]]),
                "tuple": (1, None, "x"),
                "path": tmp_path,
                3: True,
                ("p0", "loss"): 1,
            }
        )
    assert lines(tmp_path / "x.jsonl") == [
        {
            "nan": None,
            "inf": [None, None, None],
            "scalar": 0.5,
            "int": 7,
            "bool": True,
            "array": [[1.0, None]],
            "tuple": [1, None, "x"],
            "path": str(tmp_path),
            "3": True,
            "('p0', 'loss')": 1,
        }
    ]
