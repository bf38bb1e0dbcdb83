"""Environments in worker processes, which end with the process that acts.

Ctrl-C at a terminal and a SIGTERM to the process group reach workers, too. Workers
ignore both. The acting process ends them, and they end on their own if it dies.
"""

import atexit
import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from gymnasium.vector import AsyncVectorEnv

from tflearner.errors import UsageError

# Seconds. `stop()` takes less than 10 in all.
CLOSING_S = 5.0  # For environments to close.
CLOSING_AFTER_ERROR_S = 1.0  # For environments to close after an error.
ENDING_S = 1.0  # For a process to end after a signal.
ORPHAN_S = 5.0  # How long a worker outlives its parent, to close its environment.

_STARTER = "TFLEARNER_STARTS_WORKERS"  # The process that is starting workers.


_running: weakref.WeakSet = weakref.WeakSet()  # Every `WorkerVectorEnv`.


class LateError(multiprocessing.TimeoutError):
    """Raised when environments do not answer in time.

    Args:
        name: The call that they did not answer: "step" or "reset".
        indices: The environments that did not answer.
        seconds: The time limit.
    """

    def __init__(self, name: str, indices: list[int], seconds: float):
        super().__init__(f"{name}() took longer than {seconds:g} seconds")
        self.indices, self.seconds = indices, seconds


class WorkerVectorEnv(AsyncVectorEnv):
    """An `AsyncVectorEnv` with time limits for steps, resets and closing.

    Args:
        env_fns: Functions that make the environments; in a worker they have to call
            `follow_parent` first.
        timeout_s: The time limit of a step or reset; `None` for no limit.
        **kwargs: As for `AsyncVectorEnv`.
    """

    def __init__(
        self, env_fns: Sequence[Callable], *, timeout_s: float | None, **kwargs: Any
    ):
        self._timeout_s = timeout_s
        self._starter = os.getpid()
        os.environ[_STARTER] = str(os.getpid())  # For a fork server.
        try:
            super().__init__(env_fns, context=_start_method(), **kwargs)
        finally:
            os.environ.pop(_STARTER, None)  # Another thread may have removed it.
        _running.add(self)
        self._pollers = []  # `Connection.poll` would take 50 times as long.
        for pipe in self.parent_pipes:
            poller = select.poll()
            poller.register(pipe.fileno(), select.POLLIN)
            self._pollers.append(poller)

    def reset(self, *, seed: Any = None, options: dict | None = None):
        """Resets all environments.

        Raises:
            LateError: If it takes too long.
        """
        self.reset_async(seed=seed, options=options)
        self._wait_for_answers("reset")
        return self.reset_wait()

    def step(self, actions: Any):
        """Steps all environments.

        Raises:
            LateError: If it takes too long.
        """
        self.step_async(actions)
        self._wait_for_answers("step")
        return self.step_wait()

    def _wait_for_answers(self, name: str) -> None:
        if self._timeout_s is None:
            return
        deadline, late = time.monotonic() + self._timeout_s, []
        for index, poller in enumerate(self._pollers):
            left = max(0.0, deadline - time.monotonic())
            if not poller.poll(math.ceil(left * 1e3)):
                late.append(index)
        if late:
            raise LateError(name, late, self._timeout_s)

    def close_extras(self, timeout: float | None = None, terminate: bool = False):
        """Lets the environments close, and ends the workers."""
        end_workers(self, 0.0 if terminate else CLOSING_S)


def end_workers(env: AsyncVectorEnv, closing_s: float) -> None:
    """Asks workers to close their environments, and kills workers that do not end.

    Args:
        env: The vector environment; closed afterwards.
        closing_s: Seconds to wait before killing workers.
    """
    workers = _Workers(env)
    workers.ask()
    workers.wait(closing_s)
    # Workers of `WorkerVectorEnv` ignore SIGTERM.
    is_own = isinstance(env, WorkerVectorEnv)
    for kind in [signal.SIGKILL] if is_own else [signal.SIGTERM, signal.SIGKILL]:
        workers.send(kind)
        workers.wait(ENDING_S)
    for pipe in env.parent_pipes:
        if pipe is not None:
            pipe.close()
    env.closed = True


@atexit.register  # Before `multiprocessing` waits for all processes.
def _end_all() -> None:
    """Ends the workers of a program that exits without `stop()`."""
    for env in [*_running]:
        if not env.closed and env._starter == os.getpid():
            end_workers(env, CLOSING_AFTER_ERROR_S)


class _Workers:
    """The worker processes of a vector environment that are still running."""

    def __init__(self, env: AsyncVectorEnv):
        # The end of a worker's pipe shows that it has ended. A sentinel is only used
        # where there is no pipe, since a dead fork server closes sentinels as well.
        self._left: dict[Any, Any] = {
            (process.sentinel if pipe is None or pipe.closed else pipe): process
            for process, pipe in zip(env.processes, env.parent_pipes)
        }

    def ask(self) -> None:
        for handle in self._left:
            with contextlib.suppress(AttributeError, OSError):
                handle.send(("close", None))

    def send(self, number: signal.Signals) -> None:
        for process in self._left.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._left:
            left = max(0.0, deadline - time.monotonic())
            ready = multiprocessing.connection.wait([*self._left], left)
            if not ready:
                return
            for handle in ready:
                if _has_ended(handle):
                    self._left.pop(handle).join(ENDING_S)


def _has_ended(handle: Any) -> bool:
    """Returns whether the worker behind a sentinel or pipe has ended."""
    if isinstance(handle, int):
        return True
    try:
        handle.recv()  # A late answer, or the answer to `ask`.
    except (EOFError, OSError):
        return True
    except Exception:  # noqa: BLE001 - answers hold objects of the user's.
        return False
    return False


def _start_method() -> str | None:
    # A fork of a process with TensorFlow's threads may inherit a lock that is never
    # released, so workers start from a clean process.
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods else None


# In a worker.


def follow_parent() -> None:
    """Ignores Ctrl-C and SIGTERM from now on, and ends this worker with its parent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # `SIG_IGN` would be inherited by the programs that an environment starts.
        signal.signal(number, _ignore)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _ignore(number: int, frame: Any) -> None:
    pass


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    # A worker that waits for commands sees the end of its pipe, closes its environment
    # and ends. A worker that hangs in its environment does not.
    time.sleep(ORPHAN_S)
    os.kill(os.getpid(), signal.SIGKILL)


def refuse_in_import_of_script(where: str, *, any_module: bool = False) -> None:
    """Raises `UsageError` while a worker imports the script that started it.

    A new process imports the program's script to know its classes. Without a guard,
    each worker would run the whole script again.

    Args:
        where: The object to be built, which the error names.
        any_module: Whether to raise as well while the worker imports other modules.
    """
    process = multiprocessing.current_process()
    if not getattr(process, "_inheriting", False):
        return
    is_worker = process.name.startswith(f"Worker<{WorkerVectorEnv.__name__}>")
    is_fork_server = os.environ.get(_STARTER) == str(os.getppid())
    if (is_worker or is_fork_server) and (any_module or _is_called_by_script()):
        raise UsageError(
            where,
            "a call while a worker process imports this script",
            "calls by the program itself, once",
            "put what the script does under `if __name__ == '__main__':`",
        )


def _is_called_by_script() -> bool:
    """Returns whether the module that is being imported is the program's script."""
    frame: Any = sys._getframe()
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == "__mp_main__"
