"""Checkpoints that cannot be read, and saves that cannot be made: what is said."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tflearner.checkpoint import files
from tflearner.checkpoint.builders import Rebuilder
from tflearner.checkpoint.directory import CheckpointDirectory, read_checkpoint
from tflearner.errors import (
    BuilderError,
    CheckpointCorruptError,
    CheckpointError,
    CheckpointLockedError,
    CheckpointNotFoundError,
    CheckpointVersionError,
    DiskFullError,
    NonFiniteStateError,
    StepExistsError,
)

WEIGHTS = "m0.weights.safetensors"


def state(value=1.0):
    kernel = np.full((8, 32), value, np.float32)
    slots = {"default_optimizer": {"iterations": np.int64(7), "0/momentum": kernel + 1}}
    return {
        "learner": {
            "rl_module": {"p0": {"0/kernel": kernel}},
            "optimizer": {"p0": slots},
            "weights_seq_no": 3,
        },
        "extra": np.arange(4),
    }


@pytest.fixture
def run(tmp_path):
    """A run's directory with the steps 10 and 20."""
    run = CheckpointDirectory(tmp_path / "run")
    run.save(state(1.0), {"step": 10}, step=10)
    run.save(state(2.0), {"step": 20}, step=20)
    return run


@pytest.fixture
def step(run):
    """The directory of the newest step."""
    return pathlib.Path(run.path) / "step-000000000020"


@contextlib.contextmanager
def refused(root, error_class, *patterns):
    """Expects an error that says all of this, and that `root` stays as it was."""
    before = snapshot(root)
    with pytest.raises(error_class) as caught:
        yield caught
    text = str(caught.value)
    for pattern in ("Nothing was changed", *patterns):
        assert re.search(pattern, text), f"{pattern!r} not in: {text}"
    assert isinstance(caught.value, CheckpointError) and len(text) < 1000, text
    assert snapshot(root) == before


def snapshot(root):
    """Returns what is below a directory, links not followed; locks may come and go."""
    root = pathlib.Path(root)
    return {
        str(path.relative_to(root)): path.read_bytes()
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 2**25
        else path.lstat().st_mode
        for path in root.rglob("*")
        if path.name != ".lock"
    }


def manifest_of(step):
    return json.loads((step / "MANIFEST.json").read_bytes().split(b"\n")[0])


def write_manifest(step, text):
    """Writes a manifest whose second line, the hash of the first, is right."""
    text = text if isinstance(text, bytes) else text.encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    (step / "MANIFEST.json").write_bytes(text + b"\n" + digest + b"\n")


def forge(step, name, content):
    """Replaces a file and makes the manifest agree."""
    (step / name).write_bytes(content)
    manifest = manifest_of(step)
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"bytes": len(content), "sha256": digest}
    write_manifest(step, json.dumps(manifest))


# C41, C42: nothing there.


@pytest.mark.parametrize("kind", ["absent", "a file", "empty", "other things"])
def test_c41_no_checkpoint(tmp_path, kind):
    path = tmp_path / "run"
    if kind == "a file":
        path.write_text("hello")
    elif kind != "absent":
        path.mkdir()
    if kind == "other things":
        (path / "notes.txt").touch()
    with refused(tmp_path, CheckpointNotFoundError, "no committed checkpoint", "run"):
        read_checkpoint(path)
    with refused(tmp_path, CheckpointNotFoundError, "no committed checkpoint"):
        CheckpointDirectory(path).read()
    if kind == "other things":
        with refused(tmp_path, CheckpointNotFoundError, "notes.txt"):
            read_checkpoint(path)


def test_c41_step_that_is_not_there(run):
    with refused(run.path, CheckpointNotFoundError, "15", r"\[10, 20\]"):
        run.read(15)


def test_c42_only_a_stage(run, step):
    step.rename(step.with_name(".stage-000000000020-0a1b2c3d4e5f6071"))
    shutil.rmtree(step.with_name("step-000000000010"))
    with refused(run.path, CheckpointNotFoundError, "uncommitted", "nothing to load"):
        run.read()


# C43 to C49: not what was written.


@pytest.mark.parametrize("name", [WEIGHTS, "m0.slots.safetensors", "extra.safetensors"])
def test_c43_a_bit_flipped(run, step, name):
    content = bytearray((step / name).read_bytes())
    content[-1] ^= 1
    (step / name).write_bytes(content)
    with refused(run.path, CheckpointCorruptError, name, "sha256 differs"):
        run.read()
    assert run.read(on_corrupt="previous").step == 10


@pytest.mark.parametrize("change", [-100, 100])
def test_c44_wrong_size(run, step, change):
    size = (step / WEIGHTS).stat().st_size
    os.truncate(step / WEIGHTS, size + change)
    patterns = (WEIGHTS, f"{size} recorded", f"{size + change} found")
    with refused(run.path, CheckpointCorruptError, *patterns):
        run.read()


def test_c44_file_of_another_step(run, step):
    shutil.copy(step.with_name("step-000000000010") / WEIGHTS, step)
    with refused(run.path, CheckpointCorruptError, WEIGHTS, "sha256 differs"):
        run.read()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", ""),
        (b'{"format": 1, "format": 2}', "duplicate key 'format'"),
        (b'{"step": NaN}', "NaN"),
        (b"[" * 10**5 + b"]" * 10**5, "deep, over the limit of 64"),
        (b'{"a": "' + b"x" * 17 * 2**20 + b'"}', "limit"),
        (b"[]", ""),
        (b"{}", ""),
        (b"\xff\xfe", ""),
    ],
    ids=["no JSON", "duplicate", "NaN", "deep", "17 MB", "list", "empty", "no UTF-8"],
)
@pytest.mark.parametrize("hashed", [True, False])
def test_c45_manifest_invalid(run, step, content, reason, hashed):
    write_manifest(step, content)
    if not hashed:
        (step / "MANIFEST.json").write_bytes(content)
        reason = ""
    patterns = ("manifest invalid", reason)
    with refused(run.path, CheckpointCorruptError, *patterns):
        run.read()


def test_c45_manifest_bit_flipped(run, step):
    content = bytearray((step / "MANIFEST.json").read_bytes())
    content[20] ^= 1
    (step / "MANIFEST.json").write_bytes(content)
    with refused(run.path, CheckpointCorruptError, "manifest invalid"):
        run.read()


def test_c45_manifest_of_a_gigabyte(run, step):
    os.truncate(step / "MANIFEST.json", 2**30)
    with refused(run.path, CheckpointCorruptError, "manifest invalid", "limit"):
        run.read()


def test_c46_later_format(run, step):
    manifest = manifest_of(step) | {"version": 99, "min_reader": 99}
    write_manifest(step, json.dumps(manifest))
    patterns = ("format 99", r"1\.\.1", "upgrade")
    with refused(run.path, CheckpointVersionError, *patterns) as caught:
        run.read()
    assert caught.value.found == 99 and tuple(caught.value.supported) == (1, 1)


def _link(path, target):
    target.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        ("notes.txt", lambda s, out: (s / "notes.txt").touch()),
        ("more", lambda s, out: (s / "more").mkdir()),
        (WEIGHTS, lambda s, out: _link(s / WEIGHTS, out)),
        ("state.json", lambda s, out: _link(s / "state.json", out)),
        ("MANIFEST.json", lambda s, out: _link(s / "MANIFEST.json", out)),
        (WEIGHTS, lambda s, out: ((s / WEIGHTS).unlink(), os.mkfifo(s / WEIGHTS))),
        (
            "MANIFEST.json",
            lambda s, out: (
                (s / "MANIFEST.json").unlink(),
                os.mkfifo(s / "MANIFEST.json"),
            ),
        ),
        (WEIGHTS, lambda s, out: ((s / WEIGHTS).unlink(), (s / WEIGHTS).mkdir())),
    ],
)
def test_c47_unexpected_entry(run, step, tmp_path, entry, change):
    change(step, tmp_path / "outside")
    with refused(run.path, CheckpointCorruptError, re.escape(entry)):
        run.read()
    assert run.read(on_corrupt="previous").step == 10


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", "", "a\0b", "a\\b"]
)
def test_c47_name_that_leads_elsewhere(run, step, name):
    manifest = manifest_of(step)
    manifest["files"][name] = manifest["files"][WEIGHTS]
    write_manifest(step, json.dumps(manifest))
    pattern = f"unexpected entry {re.escape(repr(name))}"
    with refused(run.path, CheckpointCorruptError, pattern):
        run.read()


def _tensors(header, data=bytes(8), length=None):
    header = json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_tensors({"a": _tensor()}, length=2**63), ""),
        (_tensors({"a": _tensor(), "b": _tensor()}), "overlap"),
        (_tensors({"a": _tensor(offsets=(8, 16))}, bytes(16)), "hole"),
        (_tensors({"a": _tensor(shape=(-1, -2))}), "negative"),
        (_tensors({"a": _tensor(shape=(2**33, 2**33))}), "overflow"),
        (_tensors({"a": _tensor(dtype="object")}), "dtype 'object'"),
        (_tensors({"a": _tensor(shape=(3,))}), "'a'"),
        (_tensors({"a": _tensor()}, bytes(9)), "1 bytes that belong to no tensor"),
    ],
    ids=["2^63", "overlap", "hole", "negative", "overflow", "dtype", "shape", "more"],
)
def test_c48_tensor_file_invalid(run, step, content, reason):
    forge(step, WEIGHTS, content)
    with refused(run.path, CheckpointCorruptError, WEIGHTS, reason):
        run.read()


def _npy_of_objects(path):
    with path.open("wb") as file:
        np.save(file, np.array([object], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(pickle.dumps({"a": 1})),
        lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=0)),
        _npy_of_objects,
        lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)),
        lambda path: zipfile.ZipFile(path, "w").close(),
    ],
    ids=["pickle", "pickle 0", "npy", "h5", "zip"],
)
def test_c49_another_format(run, step, make, tmp_path):
    make(tmp_path / "other")
    forge(step, WEIGHTS, (tmp_path / "other").read_bytes())
    patterns = (WEIGHTS, "not a safetensors file; tflearner never unpickles")
    with refused(run.path, CheckpointCorruptError, *patterns):
        run.read()


# C50: code by name.


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "posix.system"])
def test_c50_unregistered_builder(tmp_path, name):
    patterns = (re.escape(name), "not registered", "pass builders=")
    with refused(tmp_path, BuilderError, *patterns):
        Rebuilder().build({"tflearner:builder": name, "arguments": {"command": "true"}})


# C52: numbers that are not finite.


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["rl_module", "optimizer"])
def test_c52_not_finite(run, value, where):
    sick = state(3.0)
    place = sick["learner"][where]["p0"]
    place = place["0/kernel"] if where == "rl_module" else place["default_optimizer"]
    array = place if where == "rl_module" else place["0/momentum"]
    array[2, 3] = value
    patterns = ("module 'p0'", "allow_nonfinite=True")
    with refused(run.path, NonFiniteStateError, *patterns):
        run.save(sick, {}, step=30)
    assert run.steps() == [10, 20]

    run.save(sick, {}, step=30, allow_nonfinite=True)
    with refused(run.path, NonFiniteStateError, *patterns):
        run.read()
    got = run.read(allow_nonfinite=True)
    np.testing.assert_equal(got.state, sick)


def test_c52_flag_that_lies(run, step):
    """What counts is the numbers, not what the manifest says of them."""
    sick = state(np.nan)
    path = run.save(sick, {}, step=30, allow_nonfinite=True)
    write_manifest(path, json.dumps(manifest_of(path) | {"finite": True}))
    with refused(run.path, CheckpointError):
        run.read()


# C53: saves that cannot be made.


def test_c53_step_exists(run):
    with refused(run.path, StepExistsError, "20"):
        run.save(state(), {}, step=20)
    assert run.read().about == {"step": 20}


def test_c53_disk_full_beforehand(run, monkeypatch):
    """Asked before anything is written."""
    real = os.statvfs(run.path)

    def nearly_full(path):
        return os.statvfs_result((real.f_bsize, real.f_frsize, 9, *[0] * 7))

    monkeypatch.setattr(files.os, "statvfs", nearly_full)
    monkeypatch.setattr(files.os, "fstatvfs", nearly_full, raising=False)
    with refused(run.path, DiskFullError) as caught:
        run.save(state(), {}, step=30)
    error = caught.value
    assert error.need > error.free >= 0
    assert f"{error.need:,}" in str(error) or str(error.need) in str(error)


def test_c53_disk_full_while_writing(run, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "write", full)
    monkeypatch.setattr(files.os, "writev", full, raising=False)
    with refused(run.path, DiskFullError):
        run.save(state(), {}, step=30)


def test_c53_read_only_directory(run):
    """As root, which may write everywhere, a process drops that right first."""
    script = (
        "import os, sys\n"
        "from tflearner.checkpoint.directory import CheckpointDirectory\n"
        "from tflearner.errors import CheckpointError\n"
        "os.geteuid() or os.setuid(65534)\n"
        "try:\n"
        "    CheckpointDirectory(sys.argv[1]).save({'a': 1}, {}, step=30)\n"
        "except CheckpointError as error:\n"
        "    print(error)\n"
    )
    root = pathlib.Path(run.path)
    for path in [root, *root.parents]:
        if path.owner() == "root" or path.stat().st_uid == os.getuid():
            with contextlib.suppress(PermissionError):
                path.chmod(path.stat().st_mode | 0o055)
        if path.name.startswith("pytest-of"):
            break
    root.chmod(0o555)
    before = snapshot(root)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(root)],
            env=os.environ
            | {"PYTHONPATH": str(pathlib.Path(files.__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        root.chmod(0o755)
    assert re.search("Permission denied.*Nothing was changed", done.stdout), done
    assert snapshot(root) == before


def test_c53_lock_held(run):
    lock = os.open(pathlib.Path(run.path) / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with refused(run.path, CheckpointLockedError):
            run.save(state(), {}, step=30)
    finally:
        os.close(lock)
    run.save(state(), {}, step=30)


def test_c53_existence_of_a_lock_file_means_nothing(run):
    (pathlib.Path(run.path) / ".lock").write_text('{"pid": 1, "host": "x"}')
    run.save(state(), {}, step=30)
    assert run.steps() == [10, 20, 30]


# What would take much more memory than it takes on the disk.


@pytest.mark.parametrize("size", [2**31, 2**42])
def test_a_file_of_holes_is_not_read(run, step, monkeypatch, size):
    os.truncate(step / WEIGHTS, size)
    manifest = manifest_of(step)
    manifest["files"][WEIGHTS]["bytes"] = size
    write_manifest(step, json.dumps(manifest))
    read, opened = files.read_file, []
    monkeypatch.setattr(
        files,
        "read_file",
        lambda path, size: (opened.append(path), read(path, size))[1],
    )
    with refused(run.path, CheckpointCorruptError, WEIGHTS, "never written"):
        run.read()
    assert [path.name for path in opened] == ["MANIFEST.json"]
    assert run.read(on_corrupt="previous").step == 10


def test_a_file_with_some_holes_is_read(run):
    """File systems that compress make holes of zeros."""
    path = run.save({"zeros": np.zeros(2**22, np.uint8)}, {}, step=30)
    file = path / "extra.safetensors"
    content = file.read_bytes()
    start = content.index(bytes(2**20))
    with file.open("wb") as new:
        new.write(content[:start])
        new.truncate(len(content))
    assert 2**22 - 8192 < files.bytes_in_holes(file) <= 2**22
    assert not run.read().state["zeros"].any()


def test_a_state_of_many_names_is_not_parsed(run, step):
    names = ",".join(f'"name_of_a_thing_{n:08d}":0' for n in range(250_000))
    content = f'{{"about":{{}},"state":{{{names}}}}}'
    header = {f"{n}": _tensor("U8", (0,), (0, 0)) for n in range(1000)}
    forge(step, "state.json", content.encode())
    for name in (WEIGHTS, "m0.slots.safetensors", "extra.safetensors"):
        forge(step, name, _tensors({}, b""))
    with refused(run.path, CheckpointCorruptError, "names in JSON, over the limit"):
        run.read()
    forge(step, WEIGHTS, _tensors(header, b""))
    with refused(run.path, CheckpointCorruptError, "1000 tensors, 0 of them in use"):
        run.read()


# Text of strangers.


def test_escape_codes_do_not_reach_the_terminal(run):
    evil = "x\x1b]0;owned\x07\nOK: all is well"
    path = pathlib.Path(run.path)
    (path / ".lock").write_text(json.dumps({"pid": 1, "host": evil, "since": evil}))
    lock = os.open(path / ".lock", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CheckpointLockedError) as caught:
            run.save(state(), {}, step=30)
    finally:
        os.close(lock)
    assert str(caught.value).isprintable() and r"x\x1b]0;owned\x07\n" in str(
        caught.value
    )
    rebuilder = Rebuilder()
    rebuilder.arguments({evil: {"tflearner:given": evil}})
    with pytest.raises(BuilderError) as refusal:
        rebuilder.check("from_checkpoint()")
    assert str(refusal.value).isprintable()
