"""Tests for `tflearner.checkpoint.files`."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from tflearner.checkpoint import files

FOLDER = pathlib.Path(files.__file__).parent
HOLD = """
import sys, time, pathlib
from tflearner.checkpoint import files
with files.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_write_and_read(tmp_path):
    pieces = [memoryview(b"abc"), memoryview(np.arange(10**6, dtype=np.uint8))]
    files.write_file(tmp_path / "a", pieces)
    data = files.read_file(tmp_path / "a", 10**6 + 3)
    assert data.tobytes() == b"".join(pieces) and data.flags.writeable


def test_what_is_written_is_flushed(tmp_path, monkeypatch):
    calls, fsync, close = [], os.fsync, os.close
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "close", lambda fd: (calls.append("close"), close(fd)))
    files.write_file(tmp_path / "a", [memoryview(b"abc")])
    files.sync_directory(tmp_path)
    assert calls == ["fsync", "close"] * 2


def test_short_writes_and_reads_go_on(tmp_path, monkeypatch):
    write, readv = os.write, os.readv
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:1000]))
    monkeypatch.setattr(os, "readv", lambda fd, views: readv(fd, [views[0][:999]]))
    data = os.urandom(10_500)
    files.write_file(tmp_path / "a", [memoryview(data)])
    assert files.read_file(tmp_path / "a", 10_500).tobytes() == data


def test_nothing_is_overwritten_and_no_link_is_followed(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    for name in ("a", "link"):
        with pytest.raises(FileExistsError):
            files.write_file(tmp_path / name, [memoryview(b"new")])
    assert (tmp_path / "a").read_bytes() == b"old"
    assert not (tmp_path / "new").exists()


def test_only_regular_files_of_the_right_size_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name, size in (("a", 2), ("a", 4), ("link", 3), ("directory", 3), ("fifo", 0)):
        with pytest.raises(OSError):
            files.read_file(tmp_path / name, size)


def _special(path, kind):
    """Puts something at a path that is no regular file."""
    if kind == "link":
        path.symlink_to(path.with_name("elsewhere"))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))  # Names of sockets are short.


@pytest.mark.parametrize("kind", ["link", "pipe", "socket", "directory"])
def test_only_a_regular_file_is_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    _special(tmp_path / "x", kind)
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT):
        with pytest.raises(OSError, match="regular file"):
            files.open_regular(tmp_path / "x", flags)
    with pytest.raises(OSError), files.locked(tmp_path / "x"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_no_device_is_opened_to_find_out_what_it_is(monkeypatch):
    monkeypatch.setattr(os, "open", None)
    with pytest.raises(OSError, match="regular file"):
        files.open_regular(pathlib.Path("/dev/zero"))


@pytest.mark.parametrize("text", ["precious", '{"pid": 1, "host": "h", "since": "T"}'])
def test_a_lock_that_is_another_file_as_well_is_not_written(tmp_path, text):
    (tmp_path / "precious").write_text(text)
    os.link(tmp_path / "precious", tmp_path / "lock")
    lock = tmp_path / "lock"
    with files.locked(lock), pytest.raises(files.HeldError), files.locked(lock):
        pass
    assert (tmp_path / "precious").read_text() == text


def test_a_lock_with_foreign_text_keeps_it(tmp_path):
    (tmp_path / "lock").write_text("a list of what to buy")
    with files.locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == "a list of what to buy"


def test_two_threads_exclude_each_other(tmp_path):
    inside, most, lost = [], [], []
    barrier = threading.Barrier(4)

    def work():
        barrier.wait()
        for _ in range(200):
            try:
                with files.locked(tmp_path / "lock"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except files.HeldError:
                lost.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and most and len(most) + len(lost) == 800


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(FOLDER.parents[1])},
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(files.HeldError) as caught, files.locked(lock):
            pass
        assert caught.value.holder["pid"] == holder.pid
        assert caught.value.holder["host"] and "T" in caught.value.holder["since"]
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with files.locked(lock):
        pass


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    lock = tmp_path / "lock"
    with files.locked(lock):
        links = {fd: pathlib.Path(f"/proc/self/fd/{fd}") for fd in range(3, 100)}
        (own,) = (
            n for n, link in links.items() if link.exists() and link.samefile(lock)
        )
        inherited = os.dup(own)  # As a child process has it.
    with files.locked(lock):
        pass
    os.close(inherited)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b'{"pid": 1}', b"\xff", b"9" * 9999, b"[" * 1024),
        b'{"pid": "1", "host": [], "since": 1}',
    ],
)
def test_what_a_lock_file_says_means_nothing(tmp_path, text):
    lock = tmp_path / "lock"
    lock.write_bytes(text)
    with files.locked(lock):
        lock.write_bytes(text)
        with pytest.raises(files.HeldError) as caught, files.locked(lock):
            pass
    assert caught.value.holder == {}


@pytest.mark.parametrize("exchange", [files._exchange, lambda one, other: False])
@pytest.mark.parametrize("old", [True, False])
def test_replace_directory(tmp_path, monkeypatch, exchange, old):
    monkeypatch.setattr(files, "_exchange", exchange)
    stage, target = tmp_path / "stage", tmp_path / "target"
    (stage / "sub").mkdir(parents=True)
    (stage / "sub" / "new").write_text("new")
    if old:
        target.mkdir()
        (target / "old").write_text("old")
    files.replace_directory(stage, target)
    assert (target / "sub" / "new").read_text() == "new"
    assert os.listdir(tmp_path) == ["target"] and os.listdir(target) == ["sub"]


def test_the_system_here_exchanges_in_one_step(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert files._exchange(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path / "a") == ["b"] and os.listdir(tmp_path / "b") == ["a"]


def test_a_file_is_not_replaced_by_a_directory(tmp_path):
    (tmp_path / "stage").mkdir()
    (tmp_path / "target").write_text("old")
    with pytest.raises(NotADirectoryError):
        files.replace_directory(tmp_path / "stage", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "old"


def test_if_the_second_rename_fails_the_old_directory_is_back(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    stage, target = tmp_path / "stage", tmp_path / "target"
    stage.mkdir()
    target.mkdir()
    (target / "old").touch()
    rename = os.rename

    def failing(source, goal):
        if source == stage:
            raise OSError("no")
        rename(source, goal)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError):
        files.replace_directory(stage, target)
    assert os.listdir(target) == ["old"]


def test_made_directories_are_flushed_into_their_parents(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    files.make_directories(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    files.make_directories(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_only_this_file_touches_the_disk():
    """Reads the source of what saves and reads; a builder may make a directory."""
    banned = r"^import (?:shutil|fcntl|ctypes|tempfile|mmap|io)|\bos\.(?!PathLike|fspath|fsencode)|\bopen\("
    for path in FOLDER.glob("*.py"):
        if path.name not in ("files.py", "checkpointable.py"):
            assert not re.findall(banned, path.read_text(), re.MULTILINE), path
