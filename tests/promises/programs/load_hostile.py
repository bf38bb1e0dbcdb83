"""Loads hostile checkpoints while an audit hook listens to what the interpreter does.

Arguments: seed. Reports counts; `failures` is a list of texts. A hook cannot be taken
away again: this needs a process of its own.
"""

import json
import os
import pathlib
import shutil
import signal
import stat
import sys
import time
from collections import Counter

import hostile
import states

from tflearner.checkpoint.directory import CheckpointDirectory, read_checkpoint
from tflearner.errors import CheckpointError

RUN, ELSEWHERE = pathlib.Path("run").absolute(), pathlib.Path("elsewhere").absolute()
STEP = 1200
MAX_SECONDS = 1.0
MB = 2**20

# Events that loading must not cause: running code, reaching out, changing files.
FORBIDDEN = (
    *("pickle", "marshal", "exec", "compile", "import", "code", "function"),
    *("subprocess", "ctypes", "socket", "pty", "webbrowser", "urllib", "shutil"),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink"),
    *("os.truncate", "os.chmod", "os.chown", "os.utime", "os.chdir", "os.kill"),
    *("os.putenv", "tempfile", "mmap.resize", "fcntl.ioctl"),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Hang(BaseException):
    """A load took too long."""


class Listener:
    """An audit hook that notes what is forbidden while `is_on`."""

    def __init__(self):
        self.is_on, self.heard, self.num_events = False, [], 0

    def __call__(self, event, arguments):
        if not self.is_on:
            return
        self.num_events += 1
        if event == "open":
            self._opened(*arguments)
        elif event in ("os.listdir", "os.scandir"):
            self._inside(event, arguments[0], follows=True)
        elif event.startswith(FORBIDDEN):
            self.heard.append(f"{event} {arguments!r:.100}")

    def _opened(self, path, mode, flags):
        if flags & WRITING:
            self.heard.append(f"open for writing: {path}")
        self._inside("open", path, follows=not flags & os.O_NOFOLLOW)

    def _inside(self, event, path, follows):
        if isinstance(path, int):  # A descriptor, whose opening was seen.
            return
        path = os.path.abspath(os.fsdecode(path))
        parent, name = os.path.split(path)
        real = os.path.realpath(path)
        if not follows:
            real = os.path.join(os.path.realpath(parent), name)
        if real != str(RUN) and not real.startswith(f"{RUN}/"):
            self.heard.append(f"{event} outside: {path}")


LISTENER = Listener()


def _memory(name) -> int:
    """Returns "VmRSS" or "VmHWM", its peak, in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def load(step):
    """Returns (checkpoint or error, seconds of CPU, bytes of memory beyond those before).

    Other work on the machine does not count; what waits for ever does.
    """
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, start = _memory("VmRSS"), time.process_time()
    signal.setitimer(signal.ITIMER_REAL, 5 * MAX_SECONDS)
    LISTENER.is_on = True
    try:
        result = read_checkpoint(step)
    except Exception as error:  # noqa: BLE001 - judged later
        result = error
    finally:
        LISTENER.is_on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    return result, time.process_time() - start, _memory("VmHWM") - before


def size_of(step) -> int:
    """Returns the bytes a step's files take."""
    if step.is_symlink():
        return 0
    found = [entry.stat(follow_symlinks=False) for entry in os.scandir(step)]
    return sum(s.st_blocks * 512 for s in found if stat.S_ISREG(s.st_mode))


def judge(case, step, path) -> str | None:
    """Returns what is wrong with how a case is met."""
    LISTENER.heard.clear()
    try:
        result, seconds, memory = load(path)
    except Hang:
        return "hangs"
    if LISTENER.heard:
        return f"{LISTENER.heard[:3]}"
    if (ELSEWHERE / "ran").exists():
        return "the payload ran"
    if seconds > MAX_SECONDS:
        return f"took {seconds:.1f} s"
    if memory > 2 * size_of(step) + 64 * MB:
        return f"took {memory / MB:.0f} MB"
    if isinstance(result, Exception):
        if case.loads:
            return f"refused: {result}"
        if not isinstance(result, CheckpointError):
            return f"raised {result!r}"
        if "Nothing was changed." not in str(result):
            return f"no promise: {result}"
        return None
    return "loaded" if case.loads is False else None


def remove(run):
    for path in [*run.glob("step-*"), *run.parent.glob(f"{run.name}-moved*")]:
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)


def main(seed):
    ELSEWHERE.mkdir()
    run = CheckpointDirectory(pathlib.Path("base"))
    base = run.save(states.state_of(STEP), {"step": STEP}, step=STEP).absolute()
    assert states.same(read_checkpoint(base).state, states.state_of(STEP))  # Imports.
    cases = hostile.corpus(base, ELSEWHERE, seed)
    # A case of its own kind, so that not everything is refused because of the harness.
    cases.append(hostile.Case("not hostile", lambda step: None, loads=True))
    RUN.mkdir()

    def too_late(*_):
        raise Hang

    signal.signal(signal.SIGALRM, too_late)
    sys.addaudithook(LISTENER)
    counts, failures = Counter(), []
    for number, case in enumerate(cases):
        step = RUN / base.name
        shutil.copytree(base, step)
        try:
            case.make(step)
        except PermissionError:  # Devices need the right to make them.
            counts["not made"] += 1
            shutil.rmtree(step)
            continue
        print(case.name.encode("ascii", "backslashreplace"), file=sys.stderr)
        # A link that the caller names himself may be followed.
        path = step if number % 2 and not step.is_symlink() else RUN
        wrong = judge(case, step, path)
        counts["cases"] += 1
        if wrong:
            failures.append(f"{case.name}: {wrong}")
        remove(RUN)
    counts["events"] = LISTENER.num_events
    return counts | {"failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
