"""Ctrl-C and SIGTERM while training: stop at the end of an iteration, not inside one."""

import signal
import threading
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Takes note of the first Ctrl-C or SIGTERM; a second one acts as it ever does.

        with Interruption() as interruption:
            while not interruption.requested:
                ...

    Signals reach the main thread only; on other threads nothing is caught.

    Attributes:
        requested: The signal that came; `None` as long as none did.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # What the program ignores, as jobs in the background do Ctrl-C, stays
                # ignored; a handler of `None` could not be given back.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._handlers[number] = signal.signal(number, self._take_note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._give_back()

    def pass_on(self) -> None:
        """Ends the process if SIGTERM asked for it; call it when all is saved.

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
        self.requested = signal.Signals(number)
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
