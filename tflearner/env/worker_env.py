"""Environments in worker processes, which live as long as the process that acts.

Ctrl-C at a terminal and a SIGTERM to the process group reach workers, too. They ignore
both: what acts decides when they end, and they end by themselves when it is gone.
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
CLOSING_AFTER_ERROR_S = 1.0  # The same, where one of them is broken.
ENDING_S = 1.0  # For a process to end that was told to.
ORPHAN_S = 5.0  # How long a worker outlives its parent, to close its environment.

_STARTER = "TFLEARNER_STARTS_WORKERS"  # The process that is starting workers.


_running: weakref.WeakSet = weakref.WeakSet()  # Of `WorkerVectorEnv`.


class LateError(multiprocessing.TimeoutError):
    """Environments that did not answer in time.

    Args:
        name: What they were asked to do.
        indices: Which environments.
        seconds: How long they had.
    """

    def __init__(self, name: str, indices: list[int], seconds: float):
        super().__init__(f"{name}() took longer than {seconds:g} seconds")
        self.indices, self.seconds = indices, seconds


class WorkerVectorEnv(AsyncVectorEnv):
    """An `AsyncVectorEnv` that bounds the time of a step and of its own end.

    Args:
        env_fns: Functions that make the environments; in a worker they have to call
            `follow_parent` first.
        timeout_s: The most seconds of a step or reset; `None` does not bound it.
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
            os.environ.pop(_STARTER, None)  # Of another thread, it may be gone.
        _running.add(self)
        self._pollers = []  # `Connection.poll` takes 50 times as long.
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
    """Asks workers to close their environments and to end, and ends those that do not.

    Args:
        env: The vector environment; it is closed then.
        closing_s: Seconds to wait for them.
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
    """Ends the workers of a program that ends without `stop()`."""
    for env in [*_running]:
        if not env.closed and env._starter == os.getpid():
            end_workers(env, CLOSING_AFTER_ERROR_S)


class _Workers:
    """Those worker processes of a vector environment that have not ended."""

    def __init__(self, env: AsyncVectorEnv):
        # The end of its pipe tells that a worker has ended. Its sentinel, which a dead
        # fork server closes as well, has to do where there is no pipe.
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
    """Whether a sentinel or pipe is one of a worker that has ended."""
    if isinstance(handle, int):
        return True
    try:
        handle.recv()  # A late answer, or that to what `ask` sent.
    except (EOFError, OSError):
        return True
    except Exception:  # noqa: BLE001 - answers hold objects of the user's.
        return False
    return False


def _start_method() -> str | None:
    # A fork of a process with TensorFlow's threads may inherit a lock that nobody will
    # ever release, so workers start from a clean process.
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
    # A worker that waits for orders sees the end of its pipe, and closes its
    # environment; one that hangs does not.
    time.sleep(ORPHAN_S)
    os.kill(os.getpid(), signal.SIGKILL)


def refuse_in_import_of_script(where: str, *, any_module: bool = False) -> None:
    """Raises `UsageError` while a worker of ours imports the script that started it.

    A new process imports the program's script to know its classes. Without a guard the
    script would do in each worker all that it does.

    Args:
        where: What is to be built.
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
    """Whether the module whose import has got here is the script of the program."""
    frame: Any = sys._getframe()
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == "__mp_main__"
