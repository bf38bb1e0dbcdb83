"""P9: what a released version saved can be read for ever."""

import hashlib
import importlib.util
import json
import os
import pathlib
import shutil
import struct

import numpy as np
import pytest

from tflearner.checkpoint import manifest
from tflearner.checkpoint.directory import CheckpointDirectory, read_checkpoint
from tflearner.errors import CheckpointVersionError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
VERSIONS = sorted(path for path in GOLDEN.glob("v*") if path.is_dir())
RUNS = sorted(GOLDEN.glob("runs-v*"))
MAX_BYTES = 200_000


@pytest.fixture(scope="module")
def made():
    """The script that wrote the files, which knows what should come out of them."""
    return load("make")


def load(name):
    """Returns a script of the golden files."""
    spec = importlib.util.spec_from_file_location(name, GOLDEN / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(got, want, path=""):
    """Returns how many leaves there are; fails at one that is not the same bit by bit."""
    assert type(got) is type(want), path
    if isinstance(want, dict):
        assert list(got) == list(want), path
        return sum(leaves(got[k], want[k], f"{path}/{k}") for k in want)
    if isinstance(want, list | tuple):
        assert len(got) == len(want), path
        pairs = enumerate(zip(got, want, strict=True))
        return sum(leaves(g, w, f"{path}/{n}") for n, (g, w) in pairs)
    if isinstance(want, np.ndarray | np.generic):
        assert got.dtype == want.dtype and got.shape == want.shape, path
        assert got.tobytes() == want.tobytes(), path
    elif isinstance(want, float):
        assert struct.pack("d", got) == struct.pack("d", want), path
    else:
        assert got == want, path
    return 1


def test_golden_files(made, line):
    assert f"v{manifest.VERSION}" in [path.name for path in VERSIONS]
    count = 0
    for path in VERSIONS:
        files = [file for file in path.rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) < MAX_BYTES
        for got in (read_checkpoint(path), CheckpointDirectory(path).read(made.STEP)):
            assert got.step == made.STEP and not got.skipped
            assert got.manifest["version"] == int(path.name.removeprefix("v"))
            count = leaves(got.state, made.state())
            leaves(got.about, made.ABOUT)
        assert sorted(f for f in path.rglob("*") if f.is_file()) == sorted(files)
    line(
        f"checkpoints of {len(VERSIONS)} format version{'s'[: len(VERSIONS) - 1]} read "
        f"back, {count} values each the same bit by bit; the next version is refused"
    )


@pytest.fixture(scope="module")
def runs():
    """The script that wrote the runs, which registers what users registered in them."""
    return load("make_runs")


@pytest.mark.parametrize("name", ["ppo", "dqn"])
@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_golden_runs_are_continued(path, name, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    algorithm, settings = runs.ALGORITHMS[name]
    if name == "dqn":  # Later versions write no directories.
        with pytest.warns(UserWarning, match="sets replay_buffer_config/memmap_dir"):
            run = algorithm.from_checkpoint(path / name)
        settings = settings | {"replay_buffer_config": run.config.replay_buffer_config}
        assert run.restore_report.dropped == ("replay_buffer_config/memmap_dir",)
        assert not os.listdir(tmp_path)
    else:
        run = algorithm.from_checkpoint(path / name)
    for setting, value in settings.items():
        if setting not in ("model_config", "rl_module_spec"):  # Those are complete now.
            assert getattr(run.config, setting) == value, setting
    assert run.get_state(not_components=["learner", "env_runner"])["iteration"] == 1
    run.stop()


@pytest.mark.parametrize("min_reader", [1, manifest.VERSION + 1])
def test_next_version_is_refused(made, tmp_path, min_reader):
    path = tmp_path / "run"
    shutil.copytree(GOLDEN / f"v{manifest.VERSION}", path)
    file = next(path.rglob("MANIFEST.json"))
    content = json.loads(file.read_bytes().split(b"\n")[0])
    later = {"version": manifest.VERSION + 1, "min_reader": min_reader}
    text = json.dumps(content | later).encode()
    file.write_bytes(text + b"\n" + hashlib.sha256(text).hexdigest().encode() + b"\n")
    # Going back to an older step would hide that there is a newer one to be had.
    for on_corrupt in ("raise", "previous"):
        with pytest.raises(CheckpointVersionError, match="upgrade") as caught:
            CheckpointDirectory(path).read(on_corrupt=on_corrupt)
        assert caught.value.found == manifest.VERSION + 1
        assert tuple(caught.value.supported) == (1, manifest.VERSION)
        assert "Nothing was changed." in str(caught.value)
