"""Ctrl-C and SIGTERM while training: stop at the end of an iteration, not inside one."""

import queue
import signal
import threading
from typing import Any, Self

from tflearner.env.env_runner import StopWatch

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_S = 4.0  # How long sampling may continue after a signal.
_BETWEEN_CALLS_S = 0.5


class Interruption:
    """Records the first Ctrl-C or SIGTERM; a second one has its usual effect.

        with Interruption(stop_watch) as interruption:
            while not interruption.requested:
                ...

    If sampling continues for `PATIENCE_S` after the signal, its stop watch runs out.
    `BrokenOff` is then raised, even inside an environment that is running.

    Signals reach the main thread only; on other threads nothing is caught.

    Args:
        stop_watch: The stop watch of the environment runners.

    Attributes:
        requested: The signal that was received; `None` before.
    """

    def __init__(self, stop_watch: StopWatch | None = None) -> None:
        self.requested: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._stop_watch = stop_watch or StopWatch()
        # A signal handler may use this queue, but must not take locks.
        self._news: queue.SimpleQueue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_called = False  # By the thread, not by a second signal.

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._thread = threading.Thread(target=self._call, daemon=True)
            self._thread.start()
            for number in _SIGNALS:
                # Ignored signals stay ignored, such as Ctrl-C in background jobs. A
                # handler of `None` could not be restored.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._handlers[number] = signal.signal(number, self._take_note)
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish()
        self._give_back()

    def finish(self) -> None:
        """Ends the time limit: sampling is not interrupted from now on."""
        if self._thread is not None:
            self._news.put(None)
            self._thread.join()  # Its later signals would count as the user's.
            self._thread = None
        self._stop_watch.has_run_out = False

    def pass_on(self) -> None:
        """Ends the process if SIGTERM was received; call it when all is saved.

        Raises:
            SystemExit: With status 143, unless the program handles SIGTERM itself.
        """
        if self.requested != signal.SIGTERM:
            return
        if callable(self._handlers.get(signal.SIGTERM)):
            self._give_back()
            signal.raise_signal(signal.SIGTERM)
        else:
            raise SystemExit(128 + signal.SIGTERM)

    def _take_note(self, number: int, frame: Any) -> None:
        if self._is_called:
            self._is_called = False
            if self._stop_watch.is_in_env:
                self._stop_watch.check()
        elif self.requested is None:
            self.requested = signal.Signals(number)
            self._news.put(number)
        else:
            self._news.put(None)
            self._give_back()
            signal.raise_signal(number)

    def _call(self) -> None:
        """Lets the stop watch run out, on a thread of its own."""
        main: Any = threading.main_thread().ident
        number = self._news.get()
        if number is None or self._is_over_in(PATIENCE_S):
            return
        self._stop_watch.has_run_out = True
        while not self._is_over_in(_BETWEEN_CALLS_S):
            if self._stop_watch.is_in_env:  # It may sleep; a signal wakes it.
                self._is_called = True
                signal.pthread_kill(main, number)

    def _is_over_in(self, seconds: float) -> bool:
        try:
            self._news.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
