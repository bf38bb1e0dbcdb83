"""Random sequences of saves, refusals, crashes and damage in directories that keep few.

Arguments: count, seed. Reports counts; `failures` is a list of texts, each with the
sequence that led there.
"""

import json
import logging
import os
import pathlib
import random
import shutil
import sys
from collections import Counter

import numpy as np
import states

from tflearner.checkpoint import files
from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import (
    CheckpointCorruptError,
    CheckpointNotFoundError,
    NonFiniteStateError,
)

NUM_BYTES = 4096


class Broken(Exception):
    """A promise that was not kept."""


class Sequence:
    """One run's directory, what was done to it, and what it should still hold."""

    def __init__(self, path: pathlib.Path, rng: random.Random):
        self.path, self.rng, self.done = path, rng, []
        self.healthy: set[int] = set()  # Steps that are intact and finite.
        self.sick: set[int] = set()  # Intact, but not finite.
        self.torn: set[int] = set()
        self.reopen()

    def reopen(self):
        """Opens the directory anew, maybe to keep another number of steps."""
        self.keep = self.rng.choice([None, 1, 1, 2, 2, 3, 4])
        self.run = CheckpointDirectory(self.path, keep=self.keep)
        self.did("open", self.keep)

    def save(self):
        step = self._new_step()
        self.run.save(states.state_of(step, NUM_BYTES), {}, step=step)
        self.did("save", step)
        self.healthy.add(step)
        self._look_after_save()

    def save_sick(self):
        """Is told that numbers that are not finite are fine."""
        step = self._new_step()
        self.run.save(self._sick_state(step), {}, step=step, allow_nonfinite=True)
        self.did("save_sick", step)
        self.sick.add(step)
        self._look_after_save()

    def save_refused(self):
        """Is not told, and refuses."""
        step, before = self._new_step(), self._listing()
        self.did("save_refused", step)
        try:
            self.run.save(self._sick_state(step), {}, step=step)
        except NonFiniteStateError as error:
            if "Nothing was changed." not in str(error):
                raise Broken(f"no promise: {error}") from error
        else:
            raise Broken(f"saved {step}, which is not finite")
        if self._listing() - {".lock"} != before - {".lock"}:
            raise Broken(f"refused, and left {self._listing() ^ before}")

    def crash(self):
        """Leaves what a process leaves that is killed in mid-save or mid-deletion."""
        kind = self.rng.choice(["stage", "trash"])
        ending = f"{self._new_step():012}-{self.rng.getrandbits(64):016x}"
        left = self.path / f".{kind}-{ending}"
        steps = sorted(self.path.glob("step-*"))
        if steps:
            shutil.copytree(self.rng.choice(steps), left)
            for name in self.rng.sample(os.listdir(left), 2):
                (left / name).unlink()
        else:
            left.mkdir(parents=True)
        self.did("crash", left.name)

    def tear(self):
        """Damages a step, the newest ones first of all."""
        steps = sorted(self.healthy | self.sick)[-3:]
        if steps:
            step = self.rng.choice(steps)
            self.did("tear", step)
            self._flip_a_bit(step)
            self.healthy.discard(step)
            self.sick.discard(step)
            self.torn.add(step)

    def did(self, what, which):
        self.done.append(f"{what} {which}")

    def look(self):
        """Raises `Broken` unless the newest healthy step is there and is what is read."""
        newest = max(self.healthy, default=None)
        if newest is None:
            return
        intact = self.healthy | self.sick
        try:
            found = self.run.read(on_corrupt="previous", allow_nonfinite=True)
            got = found if found.step == newest else self.run.read(newest)
        except (CheckpointCorruptError, CheckpointNotFoundError) as error:
            raise Broken(f"step {newest} is gone: {error}") from error
        if not states.same(got.state, states.state_of(newest, NUM_BYTES)):
            raise Broken(f"step {newest} holds something else")
        if found.step != max(intact):
            raise Broken(f"read step {found.step}, intact are {sorted(intact)}")

    def _new_step(self):
        """A step that is not there; mostly, but not always, beyond all others."""
        known = self.healthy | self.sick | self.torn | {0}
        step = max(known) + self.rng.randint(1, 3)
        if self.rng.random() < 0.15:
            step = self.rng.randint(1, step)
        while step in known:
            step += 1
        return step

    def _sick_state(self, step):
        state = states.state_of(step, NUM_BYTES)
        learner = state["learner"]
        slots = learner["optimizer"]["p0"]["default_optimizer"]
        tensor = self.rng.choice(
            [learner["rl_module"]["p0"]["000/kernel"], slots["000/kernel/velocity"]]
        )
        place = self.rng.randrange(tensor.size)
        tensor.flat[place] = self.rng.choice([np.nan, np.inf, -np.inf])
        return state

    def _flip_a_bit(self, step):
        directory = self.path / f"step-{step:012}"
        file = self.rng.choice(sorted(directory.iterdir()))
        content = bytearray(file.read_bytes())
        content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
        file.write_bytes(content)

    def _listing(self):
        return set(os.listdir(self.path)) if self.path.exists() else set()

    def _look_after_save(self):
        """What retention may drop it may drop now: the model follows the directory."""
        left = states.debris(self.path)
        if left:
            raise Broken(f"debris: {left}")
        there = set(self.run.steps())
        newest = max(self.healthy, default=None)
        if newest is not None and newest not in there:
            raise Broken(f"the newest healthy step {newest} is gone; left {there}")
        everything = self.healthy | self.sick | self.torn
        if self.keep is None and there != everything:
            raise Broken(f"{everything - there} are gone though all are to be kept")
        if self.keep is not None and len(there) < min(self.keep, len(everything)):
            raise Broken(f"only {there} of {everything} left, keep={self.keep}")
        # Beside the newest ones stay the newest healthy one and the one just saved.
        if self.keep is not None and len(there) > self.keep + 2:
            raise Broken(f"{there} left, keep={self.keep}")
        self.healthy &= there
        self.sick &= there
        self.torn &= there


WEIGHTS = {
    Sequence.save: 5,
    Sequence.save_sick: 2,
    Sequence.save_refused: 1,
    Sequence.crash: 1,
    Sequence.tear: 3,
    Sequence.reopen: 1,
}
CHANGING = (Sequence.save, Sequence.save_sick, Sequence.tear)


def play(path, rng, counts):
    sequence = Sequence(path, rng)
    try:
        for _ in range(rng.randint(3, 9)):
            event = rng.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
            event(sequence)
            counts[event.__name__] += 1
            if event in CHANGING:
                sequence.look()
    except Exception as error:  # noqa: BLE001 - everything counts
        return f"{', '.join(sequence.done)}: {type(error).__name__}: {error}"
    return None


def main(count, seed):
    # Nothing is killed here, so nothing has to be on the disk.
    files.os.fsync = lambda descriptor: None
    logging.disable()
    rng, counts, failures = random.Random(seed), Counter(), []
    for number in range(count):
        path = pathlib.Path(f"run-{number}")
        wrong = play(path, rng, counts)
        counts["sequences"] += 1
        if wrong:
            failures.append(wrong)
        shutil.rmtree(path, ignore_errors=True)
        if len(failures) > 20:
            break
    return counts | {"failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
