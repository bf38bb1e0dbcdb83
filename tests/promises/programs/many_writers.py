"""Writers and readers in one run's directory, all at once.

Arguments: writers, saves (of each), readers. Reports counts; a process that meets
something wrong prints why and ends with 1.
"""

import json
import os
import pathlib
import signal
import sys
import time
from collections import Counter

import forks
import states

from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import (
    CheckpointLockedError,
    CheckpointNotFoundError,
    StepExistsError,
)

PATH = pathlib.Path("run")
KEEP = 3
BIG = 30_000_000  # Bytes: a save that others have time to meet.


def write(number, writers, saves, say, start):
    """Saves `saves` times; whoever is locked out tries again with a later step."""
    run, counts = CheckpointDirectory(PATH, keep=KEEP), Counter()
    while counts["saved"] < saves:
        clock = (time.monotonic_ns() - start) // 1000
        step = clock * writers + number
        try:
            run.save(states.state_of(step), {"step": step}, step=step)
            counts["saved"] += 1
        except CheckpointLockedError as error:
            assert error.pid is None or error.pid > 0, error
            counts["locked"] += 1
            time.sleep(0.0005)
        assert not isinstance(step, StepExistsError)
    say(counts)


def read(say, stop):
    """Reads the newest checkpoint until told to stop."""
    run, counts = CheckpointDirectory(PATH), Counter()
    newest = 0
    while not os.path.exists(stop):
        try:
            got = run.read()
        except CheckpointNotFoundError:
            assert newest == 0, "there was one before"
            continue
        assert states.same(got.state, states.state_of(got.step)), f"step {got.step}"
        assert got.about == {"step": got.step}
        newest = max(newest, got.step)
        counts["read"] += 1
    say(counts)


def race(writers, saves, readers):
    reader, writer = os.pipe()

    def say(counts):
        os.write(writer, json.dumps(counts).encode() + b"\n")

    start, stop = time.monotonic_ns(), "stop"
    readings = [forks.fork(read, say, stop) for _ in range(readers)]
    writings = [
        forks.fork(write, number, writers, saves, say, start)
        for number in range(writers)
    ]
    codes = [forks.exit_code(pid) for pid in writings]
    pathlib.Path(stop).touch()
    codes += [forks.exit_code(pid) for pid in readings]
    assert not any(codes), codes
    os.close(writer)
    with open(reader, "rb") as pipe:
        counts = sum((Counter(json.loads(each)) for each in pipe), Counter())
    run = CheckpointDirectory(PATH, keep=KEEP)
    for step in run.steps():
        assert states.same(run.read(step).state, states.state_of(step)), step
    assert len(run.steps()) == KEEP and not states.debris(PATH), os.listdir(PATH)
    return counts


def lock_of_a_killed_holder():
    """A holder is stopped in mid-save, then killed: others are refused, then served."""
    path = pathlib.Path("held")
    run = CheckpointDirectory(path)
    run.save(states.state_of(1), {}, step=1)
    holder = forks.fork(
        lambda: CheckpointDirectory(path).save(states.state_of(2, BIG), {}, step=2)
    )
    while not states.debris(path):
        time.sleep(0.0002)
    os.kill(holder, signal.SIGSTOP)
    assert states.debris(path), "the holder was too fast"
    started = time.time()
    try:
        run.save(states.state_of(3), {}, step=3)
        raise AssertionError("saved while another process was saving")
    except CheckpointLockedError as error:
        assert error.pid == holder, (error.pid, holder)
        assert error.host == os.uname().nodename, error.host
        text = str(error)
    assert time.time() - started < 5, "waited for the lock"
    assert str(holder) in text and "Nothing was changed." in text, text
    assert run.read().step == 1
    os.kill(holder, signal.SIGKILL)
    forks.exit_code(holder)
    run.save(states.state_of(3), {}, step=3)
    assert run.steps() == [1, 3] and not states.debris(path), os.listdir(path)


def main(writers, saves, readers):
    counts = race(writers, saves, readers)
    lock_of_a_killed_holder()
    return counts


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
