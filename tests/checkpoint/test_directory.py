"""Tests for `tflearner.checkpoint.directory` and `tflearner.checkpoint.steps`."""

import json
import logging
import os
import pathlib
import shutil
import threading

import numpy as np
import pytest

from tflearner.checkpoint import files, steps
from tflearner.checkpoint.directory import CheckpointDirectory, read_checkpoint
from tflearner.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointLockedError,
    CheckpointNotFoundError,
    DiskFullError,
    NonFiniteStateError,
    StepExistsError,
    UsageError,
)

ABOUT = {"class": "tflearner/TfLearner", "lr": [0.1, None]}


def state_of(number, *, bad=False) -> dict:
    kernel = np.full((3, 4), number, np.float32)
    kernel[0, 0] = np.nan if bad else 0
    return {
        "learner": {"weights_seq_no": number, "rl_module": {"p0": {"kernel": kernel}}},
        "count": number,
    }


@pytest.fixture
def run(tmp_path):
    return CheckpointDirectory(tmp_path / "some" / "run")


def save(run, *numbers, **options):
    for number in numbers:
        run.save(state_of(number), ABOUT, step=number, **options)


def damage(run, step, name="m0.weights.safetensors"):
    path = run.path / steps.name_of(step) / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def listing(run):
    return sorted(os.listdir(run.path))


def test_save_and_read(run):
    assert run.steps() == []
    path = run.save(state_of(7), ABOUT, step=1200)
    assert path == run.path / "step-000000001200"
    assert sorted(os.listdir(path)) == [
        "MANIFEST.json",
        "m0.weights.safetensors",
        "state.json",
    ]
    found = run.read()
    assert (found.path, found.step, found.about, found.skipped) == (
        path,
        1200,
        ABOUT,
        (),
    )
    assert found.state["count"] == 7
    kernel = found.state["learner"]["rl_module"]["p0"]["kernel"]
    np.testing.assert_array_equal(
        kernel, state_of(7)["learner"]["rl_module"]["p0"]["kernel"], strict=True
    )
    facts = found.manifest
    assert (facts["seq"], facts["finite"], facts["parent"]) == (7, True, None)


@pytest.mark.parametrize(
    ("state", "seq"),
    [
        ({"weights_seq_no": 3, "learner": {"weights_seq_no": 4}}, 3),
        ({"learner": {"weights_seq_no": 4}}, 4),
        ({"learner": 5}, 0),
        ({"weights_seq_no": "3"}, 0),
        ({}, 0),
    ],
)
def test_sequence_number(run, state, seq):
    run.save(state, {})
    assert run.read().manifest["seq"] == seq


def test_steps_are_numbered_from_1_above_the_newest(run):
    for _ in range(2):
        run.save({}, {})
    save(run, 10, 5)
    run.save({}, {})
    assert run.steps() == [1, 2, 5, 10, 11]
    assert run.read(11).manifest["parent"] == 10
    assert run.read(5).state["count"] == 5


def test_no_step_is_overwritten(run):
    save(run, 1)
    (run.path / "step-000000000002").mkdir()  # Who knows whose.
    for step in (1, 2):
        with pytest.raises(StepExistsError, match=f"step {step}: got an existing step"):
            save(run, step)
    assert run.read(1).state["count"] == 1


def test_directory_whose_numbers_are_used_up_is_named(run):
    (run.path / "step-999999999999999999").mkdir(parents=True)
    for call in (run.next_step, lambda: run.save({}, {})):
        with pytest.raises(CheckpointError, match=r"directory .*: got step 10{18} as"):
            call()
    assert run.steps() == [10**18 - 1]


@pytest.mark.parametrize("path", ["a\0b", 5, b"x\0", "\ud800"])
def test_what_is_no_path_is_named(path):
    with pytest.raises(CheckpointError, match="directory "):
        CheckpointDirectory(path)
    with pytest.raises(CheckpointError, match="directory "):
        read_checkpoint(path)


def test_current_directory_that_is_gone_is_an_error_of_checkpoints(
    tmp_path, monkeypatch
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(
        CheckpointError, match="directory 'c': .*the current directory was removed"
    ):
        CheckpointDirectory("c")


@pytest.mark.parametrize("step", [-1, 1.0, True, "1", 10**18])
def test_steps_are_whole_numbers(run, step):
    with pytest.raises(UsageError, match="step"):
        run.save({}, {}, step=step)
    assert not run.path.exists()


@pytest.mark.parametrize("keep", [0, -1, True, 1.5, "1"])
def test_keep_is_a_whole_number(tmp_path, keep):
    with pytest.raises(UsageError, match="keep"):
        CheckpointDirectory(tmp_path, keep=keep)


def test_names_that_are_no_steps_are_left_alone(run):
    save(run, 3)
    for name in (
        "step-3",
        "step-0000000000004",
        "Step-000000000005",
        "step-00000000000٦",
    ):
        (run.path / name).mkdir()
    (run.path / "step-000000000007").write_text("a file")
    (run.path / "step-000000000008").symlink_to("step-000000000003")
    assert run.steps() == [3]


def test_what_cannot_be_stored_touches_nothing(run):
    with pytest.raises(CheckpointError, match="state 'a/b': got a builtins.object"):
        run.save({"a": {"b": object()}}, {})
    with pytest.raises(
        NonFiniteStateError, match="module 'p0', weights, tensor 'kernel'"
    ):
        run.save(state_of(1, bad=True), {})
    assert not run.path.parent.exists()


def test_numbers_that_are_not_finite_on_request(run):
    save(run, 1)
    run.save(state_of(2, bad=True), {}, allow_nonfinite=True)
    with pytest.raises(
        NonFiniteStateError, match="module 'p0', weights, tensor 'kernel'"
    ):
        run.read()
    found = run.read(allow_nonfinite=True)
    assert found.manifest["finite"] is False
    assert np.isnan(found.state["learner"]["rl_module"]["p0"]["kernel"][0, 0])
    found = run.read(on_corrupt="previous")
    assert found.step == 1 and found.skipped == (run.path / "step-000000000002",)


def test_previous_goes_back_to_the_newest_undamaged_step(run, caplog):
    save(run, 1, 2, 3, 4)
    for step, name in (
        (2, "state.json"),
        (3, "MANIFEST.json"),
        (4, "m0.weights.safetensors"),
    ):
        damage(run, step, name)
    with pytest.raises(CheckpointCorruptError, match="m0.weights.*sha256 differs"):
        run.read()
    with caplog.at_level(logging.WARNING):
        found = run.read(on_corrupt="previous")
    assert found.step == 1 and [path.name[-1] for path in found.skipped] == [
        "4",
        "3",
        "2",
    ]
    assert "sha256 differs" in caplog.text
    assert run.read(3, on_corrupt="previous").skipped[0].name[-1] == "3"
    damage(run, 1)
    with pytest.raises(CheckpointCorruptError, match="000000000004"):
        run.read(on_corrupt="previous")
    with pytest.raises(UsageError, match="on_corrupt"):
        run.read(on_corrupt="ignore")


def test_a_step_that_is_not_there(run):
    for path in (run.path, run.path.parent):
        with pytest.raises(CheckpointNotFoundError, match="no such directory"):
            read_checkpoint(path)
    save(run, 1)
    with pytest.raises(
        CheckpointNotFoundError, match=r"step 2 .*not found among \[1\]"
    ):
        run.read(2)


def test_paths_of_runs_steps_and_copies(run, monkeypatch, tmp_path):
    save(run, 1, 2)
    one = run.path / steps.name_of(1)
    assert read_checkpoint(run.path).step == 2
    assert read_checkpoint(str(one)).step == 1
    monkeypatch.chdir(run.path.parent)
    assert read_checkpoint("run").path == run.path / steps.name_of(2)
    assert read_checkpoint(f"run/{one.name}").step == 1
    monkeypatch.setenv("HOME", str(run.path.parent))
    assert read_checkpoint("~/run").step == 2
    shutil.copytree(one, tmp_path / "best")
    assert read_checkpoint(tmp_path / "best").state["count"] == 1
    shutil.copytree(one, run.path / steps.name_of(9))
    with pytest.raises(CheckpointCorruptError, match="that of step 1"):
        read_checkpoint(run.path)
    assert read_checkpoint(run.path / steps.name_of(9), on_corrupt="previous").step == 2


@pytest.mark.parametrize("keep", [1, 2, 10])
def test_retention_keeps_the_newest(tmp_path, keep):
    run = CheckpointDirectory(tmp_path, keep=keep)
    save(run, 1, 2, 3, 4)
    assert run.steps() == [1, 2, 3, 4][-keep:]
    assert listing(run) == [".lock", *map(steps.name_of, run.steps())]


def test_retention_keeps_the_last_healthy_step(tmp_path):
    run = CheckpointDirectory(tmp_path, keep=1)
    save(run, 1)
    for step in (2, 3):
        run.save(state_of(step, bad=True), {}, step=step, allow_nonfinite=True)
    assert run.steps() == [1, 3]
    save(run, 4)
    assert run.steps() == [4]


def test_retention_does_not_take_a_damaged_step_for_a_healthy_one(tmp_path):
    run = CheckpointDirectory(tmp_path, keep=2)
    save(run, 1, 2)
    damage(run, 2)
    run.save(state_of(3, bad=True), {}, step=3, allow_nonfinite=True)
    assert run.steps() == [1, 2, 3]


def test_retention_never_removes_what_was_just_saved(tmp_path):
    save(CheckpointDirectory(tmp_path), 7, 8, 9)
    run = CheckpointDirectory(tmp_path, keep=1)
    save(run, 3)
    assert run.steps() == [3, 9]


def test_an_error_of_retention_does_not_undo_the_save(tmp_path, monkeypatch, caplog):
    run = CheckpointDirectory(tmp_path, keep=1)
    save(run, 1)
    remove = files.remove
    monkeypatch.setattr(
        files, "remove", lambda path: (_ for _ in ()).throw(OSError("no"))
    )
    save(run, 2)
    assert run.steps() == [2] and "could not be removed" in caplog.text
    monkeypatch.setattr(files, "remove", remove)
    save(run, 3)
    assert listing(run) == [".lock", steps.name_of(3)]


def test_debris_is_removed_and_strange_things_stay(run):
    save(run, 1)
    debris = [
        ".stage-000000000002-0123456789abcdef",
        ".trash-000000000001-fedcba9876543210",
    ]
    strange = [
        ".stage-2-0123456789abcdef",
        ".trash-x",
        ".stage-000000000002-xyz",
        "notes",
    ]
    for name in (*debris, *strange):
        (run.path / name / "sub").mkdir(parents=True)
    # A save that is killed leaves directories alone.
    links = [name.replace("2-", "3-") for name in debris[:1]]
    (run.path / links[0]).symlink_to("notes")
    pipes = [name.replace("2-", "4-") for name in debris[:1]]
    os.mkfifo(run.path / pipes[0])
    strange += links + pipes
    run.read()
    assert set(debris) < set(listing(run))  # Readers touch nothing.
    save(run, 2)
    assert sorted(listing(run)) == sorted(
        [*strange, ".lock", *map(steps.name_of, (1, 2))]
    )


def test_while_somebody_saves_others_are_sent_away(run):
    save(run, 1)
    lock = run.path / ".lock"
    with files.locked(lock):
        (run.path / ".stage-000000000002-0123456789abcdef").mkdir()
        with pytest.raises(
            CheckpointLockedError, match="has been saving here"
        ) as caught:
            save(run, 2)
        assert caught.value.pid == os.getpid()
        assert caught.value.host and caught.value.since
        lock.write_text("")
        with pytest.raises(CheckpointLockedError, match="another process") as caught:
            save(run, 2)
        assert caught.value.pid is None
        assert run.read().step == 1  # Readers take no lock.
        assert len(listing(run)) == 3  # Not ours to clean up.
    save(run, 2)


def test_space_is_asked_for_before_the_disk_is_touched(run, monkeypatch):
    save(run, 1)
    before = listing(run)
    monkeypatch.setattr(files, "free_bytes", lambda path: 100)
    with pytest.raises(DiskFullError, match="got 100 bytes free, want") as caught:
        save(run, 2)
    assert caught.value.free == 100 and caught.value.need > 10_000
    assert listing(run) == before
    monkeypatch.setattr(files, "free_bytes", lambda path: None)  # It does not know.
    save(run, 2)


def test_ctrl_c_leaves_no_stage(run, monkeypatch):
    save(run, 1)

    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "sync_directory", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(run, 2)
    assert listing(run) == [".lock", steps.name_of(1)]


def test_the_order_of_writing(run, monkeypatch):
    """Manifest after all else, flushed before the name; retention only afterwards."""
    calls = []

    def recorded(name):
        function = getattr(files, name)

        def call(*args):
            calls.append(
                (
                    name,
                    *(
                        pathlib.Path(a).name.split("-")[0]
                        for a in args[: 2 if name == "rename" else 1]
                    ),
                )
            )
            return function(*args)

        monkeypatch.setattr(files, name, call)

    run = CheckpointDirectory(run.path, keep=1)
    save(run, 1)
    for name in ("make_directory", "write_file", "sync_directory", "rename", "remove"):
        recorded(name)
    save(run, 2)
    assert calls == [
        ("make_directory", ".stage"),
        ("write_file", "state.json"),
        ("write_file", "m0.weights.safetensors"),
        ("write_file", "MANIFEST.json"),
        ("sync_directory", ".stage"),
        ("rename", ".stage", "step"),
        ("sync_directory", "run"),
        ("rename", "step", ".trash"),
        ("sync_directory", "run"),
        ("remove", ".trash"),
    ]


def test_a_step_that_is_removed_while_it_is_read(tmp_path, monkeypatch):
    run = CheckpointDirectory(tmp_path, keep=1)
    save(run, 1)
    read_file, times = files.read_file, []

    def slow(path, size):
        times.append(path)
        if len(times) == 2:  # The manifest of step 1 has been read.
            save(run, 2)
        return read_file(path, size)

    monkeypatch.setattr(files, "read_file", slow)
    found = run.read()
    assert found.step == 2 and found.skipped == ()
    assert times[0].parent.name == steps.name_of(1)


def test_readers_beside_a_writer_see_whole_steps(tmp_path):
    run = CheckpointDirectory(tmp_path, keep=1)
    save(run, 0)
    faults, done, seen = [], threading.Event(), []

    def read():
        last = 0
        while not done.is_set():
            try:
                found = run.read()
                kernel = found.state["learner"]["rl_module"]["p0"]["kernel"]
                assert last <= found.step == found.state["count"] == kernel[1, 1]
                last = found.step
                seen.append(last)
            except Exception as error:  # noqa: BLE001
                faults.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    save(run, *range(1, 40))
    done.set()
    for thread in threads:
        thread.join()
    assert not faults and seen


@pytest.mark.parametrize("name", ["state.json", "MANIFEST.json"])
def test_huge_files_are_refused_before_they_are_read(run, name):
    save(run, 1)
    path = run.path / steps.name_of(1)
    os.truncate(path / name, 2**30)  # A hole: it takes no space.
    if name == "state.json":
        manifest_path = path / "MANIFEST.json"
        content = json.loads(manifest_path.read_bytes().splitlines()[0])
        content["files"][name]["bytes"] = 2**30
        line = json.dumps(content).encode()
        digest = steps._sha256([memoryview(line)]).encode()
        manifest_path.write_bytes(line + b"\n" + digest + b"\n")
    with pytest.raises(CheckpointCorruptError, match="limit"):
        run.read()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / "notes.txt").write_text("mine"),
        lambda path: (path / "sub").mkdir(),
        lambda path: (path / "m1.weights.safetensors").symlink_to("state.json"),
        lambda path: (path / "state.json").rename(path / "extra.safetensors"),
        lambda path: (path / "state.json").unlink(),
    ],
)
def test_the_set_of_files_is_exact(run, change):
    save(run, 1)
    change(run.path / steps.name_of(1))
    with pytest.raises(CheckpointCorruptError, match="unexpected entry|missing"):
        run.read()


def test_trouble_with_the_system_is_no_damage(run, monkeypatch):
    save(run, 1, 2)
    read_file = files.read_file

    def out_of_descriptors(path, size):
        if path.parent.name == steps.name_of(2):
            raise OSError(24, "Too many open files")
        return read_file(path, size)

    monkeypatch.setattr(files, "read_file", out_of_descriptors)
    with pytest.raises(CheckpointError, match="Too many open files") as caught:
        run.read(on_corrupt="previous")  # Going back silently would be worse.
    assert type(caught.value) is CheckpointError
