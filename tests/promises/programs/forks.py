"""Children of a process, and how they are killed.

Import nothing heavy in a program that forks: a process that runs threads, as TensorFlow
does, must not.
"""

import os
import signal
import time
import traceback


def fork(work, *args) -> int:
    """Runs `work(*args)` in a child and returns the child's process id.

    The child ends with 0 when `work` returns and with 1, after a traceback, when it
    raises.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        work(*args)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the child ends here
        traceback.print_exc()
        os._exit(1)


def exit_code(pid: int) -> int:
    """Waits for a child: 0 is well, -9 killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_killed(work, after_s: float | None) -> list[int]:
    """Runs `work(acknowledge)` in a child and kills it; returns what it acknowledged.

    Args:
        work: Takes a function to which it gives an int whenever something is done that
            must not be lost.
        after_s: When the child is killed, in seconds from its first word on; it says
            `-1` first when it is ready. `None`: it does that itself.
    """
    reader, writer = os.pipe()

    def child():
        os.close(reader)
        acknowledge = lambda number: os.write(writer, b"%d\n" % number)
        acknowledge(-1)
        work(acknowledge)

    pid = fork(child)
    os.close(writer)
    with open(reader, "rb") as pipe:
        first = pipe.readline()
        if after_s is not None:
            time.sleep(after_s)
            os.kill(pid, signal.SIGKILL)
        numbers = [int(each) for each in pipe.read().splitlines()]
    code = exit_code(pid)
    assert first == b"-1\n" and code in (0, -signal.SIGKILL), f"child ended with {code}"
    return numbers
