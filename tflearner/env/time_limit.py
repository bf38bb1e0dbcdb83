"""A time limit for code of users that runs in this process."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

_BETWEEN_CALLS_S = 0.5


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` inside a block that takes too long.

    It interrupts Python code, sleeping and waiting included; a call of native code has
    to return first. Signals reach the main thread only, so other threads have no limit.

    Args:
        seconds: The longest time that the block may take.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before: Any = signal.getsignal(signal.SIGALRM)
    if not is_main or before is None:  # `None` could not be restored.
        yield
        return
    main, is_over, is_late = threading.get_ident(), threading.Event(), False

    def watch() -> None:
        nonlocal is_late
        is_late = not is_over.wait(seconds)
        while is_late and not is_over.is_set():
            signal.pthread_kill(main, signal.SIGALRM)
            is_over.wait(_BETWEEN_CALLS_S)

    def act(number: int, frame: Any) -> None:
        if is_late and not is_over.is_set():
            raise TimeoutError(f"it took more than {seconds:g} seconds")
        if not is_late and callable(before):
            before(number, frame)

    thread = threading.Thread(target=watch, daemon=True)
    signal.signal(signal.SIGALRM, act)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        signal.signal(signal.SIGALRM, before)
