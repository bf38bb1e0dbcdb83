"""Kills a process that saves, reads and deletes checkpoints.

At random instants, and at every call to the operating system: before it and after it.
Arguments: kills {bytes of a state: kills}, seed. Reports counts; `failures` is a list of
texts.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
from collections import Counter

import forks
import stand_ins
import states

from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import CheckpointError

KEEP = 2
SMALL = 4096


def work_from(path, first, num_bytes, reads):
    """Returns a child's work: save, say so, maybe read, and so on for ever."""

    def work(acknowledge):
        run = CheckpointDirectory(path, keep=KEEP)
        step = first
        while True:
            run.save(states.state_of(step, num_bytes), {"step": step}, step=step)
            acknowledge(step)
            if reads:
                assert run.read().step == step
            step += 1

    return work


def look(path, acknowledged, num_bytes):
    """Returns what is wrong with a run's directory after a kill, and its newest step."""
    run = CheckpointDirectory(path, keep=KEEP)
    try:
        newest = run.read()
    except CheckpointError as error:
        return f"unusable: {error}", acknowledged
    if newest.step < acknowledged:
        return f"older: {newest.step} after {acknowledged}", newest.step
    right = states.same(newest.state, states.state_of(newest.step, num_bytes))
    if not right or newest.about != {"step": newest.step}:
        return f"step {newest.step} holds something else", newest.step
    for step in run.steps()[:-1]:  # Being deleted, maybe, but not under this name.
        try:
            run.read(step)
        except CheckpointError as error:
            return f"half of step {step} is there: {error}", newest.step
    return None, newest.step


def look_after_next_save(path, step, num_bytes):
    run = CheckpointDirectory(path, keep=KEEP)
    run.save(states.state_of(step, num_bytes), {"step": step}, step=step)
    left = states.debris(path)
    if left:
        return f"debris: {left}"
    if run.steps() != [step - 1, step]:
        return f"steps {run.steps()} kept, want {[step - 1, step]}"
    return None


def save_time(path, num_bytes) -> float:
    """Returns the seconds of one save."""
    run = CheckpointDirectory(path, keep=KEEP)
    times = []
    for step in (1, 2, 3):
        start = time.perf_counter()
        run.save(states.state_of(step, num_bytes), {"step": step}, step=step)
        times.append(time.perf_counter() - start)
    return sorted(times)[1]


def dies_at(path, step, number, after):
    """Returns a child's work: one save, in which it dies at a call."""

    def work(acknowledge):
        calls = 0

        def call(function, arguments, keywords):
            nonlocal calls
            calls += 1
            if calls == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*arguments, **keywords)
            finally:
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        with stand_ins.calling(call):
            run = CheckpointDirectory(path, keep=KEEP)
            run.save(states.state_of(step, SMALL), {"step": step}, step=step)
        acknowledge(step)

    return work


def kill_at_every_call(counts, failures):
    """Ends at the first number that no call has any more."""
    path, step = pathlib.Path("run-calls"), 3
    save_time(path, SMALL)
    for after in (False, True):
        for number in range(1, 1000):
            work = dies_at(path, step + 1, number, after)
            acknowledged = forks.run_killed(work, None)
            if acknowledged:
                break
            counts["calls"] += 1
            wrong, newest = look(path, step, SMALL)
            step = newest + 1
            wrong = wrong or look_after_next_save(path, step, SMALL)
            if wrong:
                when = "after" if after else "before"
                failures.append(f"killed {when} call {number}: {wrong}")
                shutil.rmtree(path, ignore_errors=True)
                save_time(path, SMALL)
                step = 3
        step += 1


def kill_at_random(kills, seed, counts, failures):
    rng = random.Random(seed)
    for num_bytes, num_kills in kills.items():
        num_bytes = int(num_bytes)
        path = pathlib.Path(f"run-{num_bytes}")
        seconds, step = save_time(path, num_bytes), 3
        for _ in range(num_kills):
            delay = rng.uniform(0.0, 4.0 * seconds)
            work = work_from(path, step + 1, num_bytes, reads=rng.random() < 0.3)
            acknowledged = forks.run_killed(work, delay)
            counts["kills"] += 1
            counts["saves"] += len(acknowledged)
            counts["amid"] += bool(states.debris(path))
            wrong, newest = look(path, max([step, *acknowledged]), num_bytes)
            step = newest + 1
            wrong = wrong or look_after_next_save(path, step, num_bytes)
            if wrong:
                counts[wrong.split(":")[0].split()[0]] += 1
                failures.append(f"{num_bytes} bytes: {wrong}")
                shutil.rmtree(path, ignore_errors=True)
                save_time(path, num_bytes)
                step = 3
        shutil.rmtree(path, ignore_errors=True)


def main(kills, seed):
    counts, failures = Counter(), []
    kill_at_every_call(counts, failures)
    kill_at_random(kills, seed, counts, failures)
    return counts | {"failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
