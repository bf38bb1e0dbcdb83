"""Lines pinned to the bottom of a terminal, while other output scrolls above.

The rows above the pinned ones become the terminal's scrolling region, and the cursor
stays in it. So text that Python, C++ or another process writes to the terminal appears
above the pinned lines. No file descriptor is redirected: the last output of a crashing
program is visible, and prompts, debuggers and child processes have a terminal.
"""

import atexit
import os
import shutil
import threading

from tflearner.reporting.output import Output

LEAST_ROWS_ABOVE = 4
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_SAVE_CURSOR, _RESTORE_CURSOR = "\x1b7", "\x1b8"
_SCROLL_EVERYWHERE = f"{_SAVE_CURSOR}\x1b[r{_RESTORE_CURSOR}"  # "r" moves the cursor.
_ERASE_LINE, _ERASE_BELOW = "\x1b[2K", "\x1b[J"
_DOWN = "\x1bD"  # Scrolls at the bottom, and stays in its column.

_only_one = threading.Lock()  # Pinned views of one terminal would overwrite each other.


class PinnedLines:
    """A number of lines at the bottom of a terminal.

        pinned = PinnedLines.take(Output(sys.stdout), num_lines=6)
        pinned.draw(lines)
        ...
        pinned.release()

    Args:
        output: A terminal.
        num_lines: The number of pinned lines.
    """

    def __init__(self, output: Output, num_lines: int):
        self._output = output
        self._num_lines = num_lines
        self._size: os.terminal_size | None = None  # The region was made for this size.
        self._is_released = False
        atexit.register(self.release)  # A thread may train while the program ends.

    @classmethod
    def take(cls, output: Output, num_lines: int) -> "PinnedLines | None":
        """Returns new pinned lines, if the terminal has room for them.

        Returns:
            The lines; `None` if the terminal is too small or has pinned lines already.
        """
        if not _fits(size_of(output), num_lines) or not _only_one.acquire(False):
            return None
        return cls(output, num_lines)

    def draw(self, lines: list[str]) -> None:
        """Replaces the pinned lines in one write, which no other text interrupts.

        Args:
            lines: Text with colours, not wider than the terminal.
        """
        if self._is_released:
            return
        size = size_of(self._output)
        if not _fits(size, self._num_lines):
            return self._let_go()
        top = size.lines - self._num_lines + 1
        # A carriage return changes nothing, and keeps lines apart in a recorded session.
        rows = (
            f"\x1b[{row};1H\x1b[m{_ERASE_LINE}{line}\r"
            for row, line in enumerate(lines, start=top)
        )
        self._output.write(
            "".join(
                (
                    _HIDE_CURSOR,
                    "" if size == self._size else self._making_room(top),
                    _SAVE_CURSOR,
                    *rows,
                    _RESTORE_CURSOR,
                    _SHOW_CURSOR,
                )
            )
        )
        self._size = size
        return None

    def release(self) -> None:
        """Removes the pinned lines; then the cursor starts an empty line."""
        if self._is_released:
            return
        self._is_released = True
        atexit.unregister(self.release)
        self._let_go()
        # Ends an unfinished line, if there is one: blanks for the width of the terminal
        # lead to the next line, except from the first column.
        columns = size_of(self._output).columns
        self._output.write(f"{' ' * columns}\r{_ERASE_LINE}{_SHOW_CURSOR}")
        _only_one.release()

    def _making_room(self, top: int) -> str:
        """Returns codes that add empty rows below the cursor, outside the region."""
        room = f"{_DOWN * self._num_lines}\x1b[{self._num_lines}A"
        region = f"{_SAVE_CURSOR}\x1b[1;{top - 1}r{_RESTORE_CURSOR}"
        return self._clearing() + room + region

    def _let_go(self) -> None:
        if clearing := self._clearing():
            self._output.write(clearing)
        self._size = None

    def _clearing(self) -> str:
        return "" if self._size is None else _SCROLL_EVERYWHERE + _ERASE_BELOW


def size_of(output: Output) -> os.terminal_size:
    """Returns the size of a terminal; 80 columns and 24 lines if it is unknown."""
    try:
        size = os.get_terminal_size(output.file.fileno())  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):  # ValueError for a closed file.
        size = os.terminal_size((0, 0))
    fallback = shutil.get_terminal_size((80, 24))
    return os.terminal_size(
        (size.columns or fallback.columns, size.lines or fallback.lines)
    )


def _fits(size: os.terminal_size, num_lines: int) -> bool:
    return size.lines >= num_lines + LEAST_ROWS_ABOVE
