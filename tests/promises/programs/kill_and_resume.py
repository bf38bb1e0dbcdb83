"""Chains of processes, each of which goes on where the one before was killed.

Arguments: count, seed. Reports counts; `failures` is a list of texts.

This process imports TensorFlow but runs no op of it, so that its children can: forking
takes milliseconds, and importing seconds.
"""

import dataclasses
import gc
import json
import os
import pathlib
import random
import select
import shutil
import signal
import statistics
import sys
import time
import traceback
from collections import Counter

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import forks
import runs_to_kill as runs

WORKERS = 2
MAX_KILLS = 2  # In one chain.
MAX_SECONDS = 120.0  # Of one life.


@dataclasses.dataclass
class Life:
    """What a process said until it ended: what it began, and when, in seconds."""

    begun: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    digest: str | None = None  # None: it was killed.
    error: str | None = None

    def stage(self):
        return self.begun[-1][0] if self.begun else "starting"

    def durations(self, stage):
        """Seconds of each time it did something."""
        ends = [*[time for _, time in self.begun[1:]], self.seconds]
        return [
            end - start for (name, start), end in zip(self.begun, ends) if name == stage
        ]


@dataclasses.dataclass
class Moment:
    """When a process is killed: `delay` seconds after it has begun `stage` `nth` times."""

    stage: str
    nth: int
    delay: float

    @classmethod
    def at_random(cls, rng, usual: Life, is_first: bool) -> "Moment":
        """Anywhere in a life, but mostly in what takes little of its time."""
        begin = "building" if is_first else "restoring"
        often = ["training", "saving"] if is_first else [begin]
        stage = rng.choice(["any", begin, "training", "saving", *often])
        if stage == "any":
            return cls(begin, 1, rng.uniform(0.0, usual.seconds))
        if stage == begin:
            return cls(begin, 1, rng.uniform(0.0, usual.durations("building")[0]))
        seconds = statistics.median(usual.durations(stage))
        num_saves = len(usual.durations("saving"))
        nth = rng.randint(1, num_saves) + (
            stage == "training"
        )  # It traces in the first.
        return cls(stage, nth, rng.uniform(0.0, 1.2 * seconds))

    def seconds_left(self, life: Life) -> float | None:
        """Seconds until then; `None` as long as it has not begun that."""
        times = [time for stage, time in life.begun if stage == self.stage]
        if len(times) < self.nth:
            return None
        return times[self.nth - 1] + self.delay - life.seconds


def live(cell, path, how, moment=None) -> Life:
    """Lets a child train, to the end or until it is killed."""
    reader, writer = os.pipe()

    def child():
        os.close(reader)
        say = lambda *what: os.write(writer, json.dumps(what).encode() + b"\n")
        try:
            say(
                "digest", runs.train(cell, path, how, lambda stage: say("begin", stage))
            )
        except BaseException:  # noqa: BLE001 - everything counts
            say("error", traceback.format_exc()[-3000:])

    start, pid = time.monotonic(), forks.fork(child)
    os.close(writer)
    life, text, is_killed = Life(), b"", False
    while True:
        life.seconds = time.monotonic() - start
        left = moment.seconds_left(life) if moment else None
        if left is not None and left <= 0.0 and not is_killed:
            os.kill(pid, signal.SIGKILL)
            is_killed = True
        if life.seconds > MAX_SECONDS:
            os.kill(pid, signal.SIGKILL)
            life.error = f"hung while {life.stage()}"
            break
        timeout = 5.0 if left is None or is_killed else left
        if select.select([reader], [], [], timeout)[0]:
            more = os.read(reader, 65536)
            if not more:
                break
            *lines, text = (text + more).split(b"\n")
            for each in lines:
                kind, what = json.loads(each)
                if kind == "begin":
                    life.begun.append((what, time.monotonic() - start))
                else:
                    setattr(life, kind, what)
    os.close(reader)
    code = forks.exit_code(pid)
    life.error = life.error or (None if code in (0, -9) else f"ended with {code}")
    return life


def chain(cell, usual, rng, path, counts):
    """Kills a run some times; returns what is wrong with it in the end."""
    told = []
    for left in reversed(range(rng.randint(1, MAX_KILLS) + 1)):
        how = runs.How.at_random(rng)
        is_first = not runs.CheckpointDirectory(path).steps()
        moment = Moment.at_random(rng, usual, is_first) if left else None
        life = live(cell, path, how, moment)
        told.append(f"{how}, {moment}, ended {life.stage()} after {life.seconds:.2f} s")
        if life.error:
            return "\n".join([*told, life.error])
        if life.digest is not None:
            break
        counts["kills"] += 1
        counts[f"kills while {life.stage()}"] += 1
    if life.digest != usual.digest:
        return "\n".join([*told, "goes on differently"])
    return None


def work(number, count, seed, send):
    """Does every other chain."""
    counts, failures, uninterrupted = Counter(), [], {}
    for chain_number in range(number, count, WORKERS):
        cell = runs.CELLS[chain_number % len(runs.CELLS)]
        if cell not in uninterrupted:
            path = pathlib.Path("-".join(map(str, cell)))
            uninterrupted[cell] = live(cell, path, runs.How())
        usual = uninterrupted[cell]
        if usual.digest is None:
            failures.append(f"{cell}: {usual.error}")
            break
        rng, path = random.Random(f"{seed}-{chain_number}"), f"chain-{chain_number}"
        wrong = chain(cell, usual, rng, path, counts)
        counts["chains"] += 1
        counts[f"{cell[0]} chains"] += 1
        if wrong:
            failures.append(f"{path} of {cell}: {wrong}")
        shutil.rmtree(path, ignore_errors=True)
        if len(failures) > 5:
            break
    send(json.dumps([counts, failures]).encode() + b"\n")


def main(count, seed):
    runs.warm_up()
    gc.disable()  # What it would find is little, and that it looks makes copies of pages.
    gc.freeze()
    reader, writer = os.pipe()
    workers = [
        forks.fork(work, number, count, seed, lambda text: os.write(writer, text))
        for number in range(WORKERS)
    ]
    codes = [forks.exit_code(pid) for pid in workers]
    os.close(writer)
    assert not any(codes), codes
    counts, failures = Counter(), []
    with open(reader, "rb") as pipe:
        for each in pipe:
            own_counts, own_failures = json.loads(each)
            counts += Counter(own_counts)
            failures += own_failures
    return counts | {"failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
