"""Lets every call of a save, and of a read, to the operating system fail in turn.

No arguments. Reports counts; `failures` is a list of texts. A mounted file system of 8
MiB fills up for real, where this process may mount one.
"""

import errno
import json
import logging
import os
import pathlib
import subprocess
import sys
from collections import Counter

import stand_ins
import states

from tflearner.checkpoint import files
from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import CheckpointError, DiskFullError

ERRORS = {
    name: getattr(errno, name)
    for name in ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EMFILE")
}
FULL = ("ENOSPC", "EDQUOT")
KEEP = 2
CREATING = os.O_CREAT | os.O_WRONLY | os.O_RDWR


class Faulty:
    """An operating system of which one call fails.

    Attributes:
        calls: What was called so far, as "name path".
        fail_at: The number of the call that fails.
        error: The name of the error it fails with.
        lasting: Whether all later calls fail that would for this reason.
        failed: The calls that did.
    """

    def __init__(self, fail_at=None, error="EIO", lasting=False):
        self.fail_at, self.error, self.lasting = fail_at, error, lasting
        self.calls, self.failed = [], []

    def commits_at(self):
        """The number of the call that makes a step durable."""
        renames = [n for n, c in enumerate(self.calls) if c.startswith("rename")]
        first = renames[0] if renames else len(self.calls)
        syncs = [n for n, c in enumerate(self.calls) if c.startswith("fsync")]
        return next((n for n in syncs if n > first), len(self.calls))

    def call(self, function, arguments, keywords):
        name = function.__name__
        call = f"{name} {arguments[0] if arguments else ''}"
        self.calls.append(call)
        number = len(self.calls) - 1
        fails = number == self.fail_at
        if self.lasting and self.fail_at is not None and number > self.fail_at:
            fails = self._fails_later(name, arguments)
        frees = name == "close" or (
            name == "flock" and arguments[1] & files.fcntl.LOCK_UN
        )
        if frees:  # Done, whatever it says.
            function(*arguments, **keywords)
        if fails:
            self.failed.append(call)
            code = ERRORS[self.error]
            raise OSError(code, os.strerror(code))
        if frees or name == "fsync":  # Nothing is killed: it need not be on the disk.
            return None
        return function(*arguments, **keywords)

    def _fails_later(self, name, arguments):
        creates = name == "open" and arguments[1] & CREATING
        if self.error in FULL:
            return creates or name in ("write", "writev", "pwrite", "mkdir", "fsync")
        if self.error == "EMFILE":
            return name in ("open", "listdir", "scandir", "walk", "rmtree")
        if self.error == "EROFS":
            changes = ("mkdir", "rename", "replace", "unlink", "rmdir", "rmtree")
            return creates or name in (*changes, "write", "pwrite", "ftruncate")
        return True


def save(path, step):
    run = CheckpointDirectory(path, keep=KEEP)
    return run.save(states.state_of(step), {"step": step}, step=step)


def holds(path, step) -> bool:
    got = CheckpointDirectory(path).read(step)
    return states.same(got.state, states.state_of(step)) and got.about == {"step": step}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def fail_save(path, faulty) -> str | None:
    """Returns what is wrong with a save of which calls fail."""
    old = CheckpointDirectory(path).steps()
    before, error, step = descriptors(), None, old[-1] + 1
    with stand_ins.calling(faulty.call):
        try:
            save(path, step)
        except CheckpointError as caught:
            error = caught
    steps = CheckpointDirectory(path).steps()
    if descriptors() != before:
        return "leaves files open"
    if step not in steps:
        if error is None:
            return "returned, but saved nothing"
        if steps != old or not all(holds(path, each) for each in old):
            return f"earlier steps are gone: {steps}"
        # Nobody can promise what he cannot look at any more.
        if not faulty.lasting and "Nothing was changed." not in str(error):
            return f"no promise: {error}"
    elif not holds(path, step) or not holds(path, old[-1]):
        return "damaged"
    elif error is not None and "Nothing was changed." in str(error):
        return f"a promise that is not kept: {error}"
    left = [n for n in states.debris(path) if step not in steps or ".stage" in n]
    if left and not faulty.lasting:
        return f"left {left}"
    return judge_error(error, faulty)


def fail_read(path, faulty) -> str | None:
    """Returns what is wrong with a read of which calls fail."""
    newest = CheckpointDirectory(path).steps()[-1]
    before, error = descriptors(), None
    with stand_ins.calling(faulty.call):
        try:
            got = CheckpointDirectory(path).read()
        except CheckpointError as caught:
            error = caught
    if descriptors() != before:
        return "leaves files open"
    if error is None and not states.same(got.state, states.state_of(newest)):
        return "read something else"
    if error is not None and "Nothing was changed." not in str(error):
        return f"no promise: {error}"
    return None if holds(path, newest) else "damaged by reading"


def clean(path) -> str | None:
    """Saves without faults; returns what is wrong with what is there then."""
    step = CheckpointDirectory(path).steps()[-1] + 1
    save(path, step)
    if states.debris(path) or not holds(path, step):
        return f"the next save left {states.debris(path)}"
    return None


def judge_error(error, faulty) -> str | None:
    if error is None and not faulty.failed:
        return None
    if error is None:
        # Once a step is committed, old ones may go another time.
        careless = faulty.fail_at <= faulty.commits_at()
        return f"{faulty.failed[0]} failed unnoticed" if careless else None
    if isinstance(error, DiskFullError) != (faulty.error in FULL):
        return f"is a {type(error).__name__}: {error}"
    if faulty.error in FULL and error.need is None:
        return f"does not say what it needs: {error}"
    if not isinstance(error.__cause__ or error.__context__, OSError):
        return f"without its cause: {error}"
    return None


def every_call(what, path, counts, failures):
    """Runs `what` once for each of its calls, each error, and once or lasting."""
    for lasting in (False, True):
        for error in ERRORS:
            number, total = -1, 1
            while number < total:
                # Without faults first, to learn what is called.
                faulty = Faulty(None if number < 0 else number, error, lasting)
                try:
                    wrong = what(path, faulty)
                except Exception as raw:  # noqa: BLE001 - must never be met
                    wrong = f"raised {raw!r}"
                if what is fail_save:
                    wrong = wrong or clean(path)
                if number < 0:
                    assert not wrong, wrong
                    counts[f"calls of {what.__name__}"] = total = len(faulty.calls)
                elif wrong:
                    when = "and on " if lasting else ""
                    failures.append(
                        f"{what.__name__}: {error} {when}at {faulty.failed[:1]}: {wrong}"
                    )
                counts["faults"] += bool(faulty.failed)
                number += 1


def short_writes(path):
    """Disks may take part of what is written, and readers get part of what they ask."""

    class Short(Faulty):
        def call(self, function, arguments, keywords):
            if function.__name__ == "write":
                arguments = (arguments[0], arguments[1][:1000])
            if function.__name__ == "readv":
                views = [view[:1000] for view in arguments[1]]
                arguments = (arguments[0], views)
            return super().call(function, arguments, keywords)

    with stand_ins.calling(Short().call):
        save(path, 1)
        assert holds(path, 1)


def full_disk(counts):
    """Fills a file system of 8 MiB, twice: the second time it lies about its space."""
    disk = pathlib.Path("disk")
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return
    try:
        run = CheckpointDirectory(disk / "run")
        for lies in (False, True):
            step = 2 if lies else 1
            run.save(states.state_of(step), {}, step=step)
            filler = disk / "filler"
            filler.write_bytes(bytes(5 * 2**20))
            real = files.free_bytes
            files.free_bytes = (lambda path: 2**40) if lies else real
            try:
                run.save(states.state_of(9, 6 * 2**20), {}, step=9)
                raise AssertionError("saved 6 MiB where there are 3")
            except DiskFullError as error:
                assert error.need > 6_000_000, error
                assert lies or error.free < 4 * 2**20, error
                assert "Nothing was changed." in str(error)
            finally:
                files.free_bytes = real
            assert not states.debris(disk / "run"), os.listdir(disk / "run")
            assert states.same(run.read().state, states.state_of(step))
            filler.unlink()
        run.save(states.state_of(9, 6 * 2**20), {}, step=9)
        assert states.same(run.read().state, states.state_of(9, 6 * 2**20))
        counts["full disks"] = 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def main():
    logging.disable()
    counts, failures = Counter(), []
    short_writes(pathlib.Path("short"))
    path = pathlib.Path("run")
    save(path, 1)
    save(path, 2)
    every_call(fail_save, path, counts, failures)
    every_call(fail_read, path, counts, failures)
    full_disk(counts)
    return counts | {"failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
