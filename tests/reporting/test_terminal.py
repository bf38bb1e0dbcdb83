"""Lines pinned to the bottom of a terminal, as its screen shows them."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading

import pytest

from tflearner.reporting.output import Output
from tflearner.reporting.progress import Progress
from tflearner.reporting.terminal import PinnedLines

ROWS, COLUMNS = 20, 40
CONTROLS = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b([78D])|(.)", re.DOTALL)


class Screen:
    """What a terminal shows: rows of text, a cursor and a region that scrolls."""

    def __init__(self, rows=ROWS, columns=COLUMNS):
        self.lines, self.columns = [""] * rows, columns
        self.scrolled = []
        self.row = self.column = 0
        self.saved = (0, 0)
        self.last = rows - 1  # Of the region, which begins at the top.
        self.is_cursor_visible = True

    def feed(self, text):
        for numbers, letter, escape, char in CONTROLS.findall(text):
            number = int(numbers.split(";")[-1]) if numbers[:1].isdigit() else 0
            if letter in ("h", "l"):
                self.is_cursor_visible = letter == "h"
            elif letter == "H":
                self.row, self.column = int(numbers.split(";")[0]) - 1, 0
            elif letter == "A":
                self.row = max(0, self.row - number)
            elif letter == "r":
                self.last = (number or len(self.lines)) - 1
                self.row = self.column = 0
            elif letter == "J":
                self.put(self.lines[self.row][: self.column])
                self.lines[self.row + 1 :] = [""] * (len(self.lines) - self.row - 1)
            elif letter == "K":
                self.put("")
            elif escape == "7":
                self.saved = self.row, self.column
            elif escape == "8":
                self.row, self.column = self.saved
            elif escape == "D" or char == "\n":
                self.down()
            elif char == "\r":
                self.column = 0
            elif char:
                self.type(char)
            else:
                assert letter == "m", (numbers, letter)

    def put(self, line):
        self.lines[self.row] = line

    def down(self):
        if self.row != self.last:
            self.row = min(self.row + 1, len(self.lines) - 1)
            return
        self.scrolled.append(self.lines.pop(0))
        self.lines.insert(self.last, "")

    def type(self, char):
        if self.column == self.columns:
            self.down()
            self.column = 0
        line = self.lines[self.row].ljust(self.column)
        self.put(line[: self.column] + char + line[self.column + 1 :])
        self.column += 1

    @property
    def shown(self):
        """All rows that were ever there, without blanks."""
        rows = [*self.scrolled, *self.lines]
        return [row.rstrip() for row in rows if row.strip()]


class Terminal:
    """A pseudo terminal and the screen behind it."""

    def __init__(self, rows=ROWS, columns=COLUMNS):
        self.reader, self.writer = os.openpty()
        self.resize(rows, columns)
        self.file = os.fdopen(self.writer, "w", encoding="utf-8")
        self.output = Output(self.file)
        self.screen = Screen(rows, columns)

    def resize(self, rows, columns):
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.writer, termios.TIOCSWINSZ, size)

    def read(self, wait_s=0.1):
        received = b""
        while select.select([self.reader], [], [], wait_s)[0]:
            received += os.read(self.reader, 1 << 16)
        self.screen.feed(received.decode(errors="replace"))
        return self.screen

    def close(self):
        self.file.close()
        os.close(self.reader)


@pytest.fixture
def terminal(monkeypatch):
    """Returns a function that makes a terminal; all are closed after the test."""
    monkeypatch.setenv("TERM", "xterm-256color")
    made = []

    def make(*size):
        made.append(Terminal(*size))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_what_others_write_scrolls_above_the_pinned_lines(terminal):
    terminal = terminal()
    os.write(terminal.writer, b"title\n")
    pinned = PinnedLines.take(terminal.output, 2)
    for i in range(30):
        pinned.draw([f"one {i}", f"two {i}"])
        os.write(terminal.writer, f"line {i}\nand ".encode())
        subprocess.run(["echo", f"child {i}"], stdout=terminal.writer, check=True)
    screen = terminal.read()
    assert [line.rstrip() for line in screen.lines[-2:]] == ["one 29", "two 29"]
    pinned.release()
    os.write(terminal.writer, b"end\n")
    lines = [text for i in range(30) for text in (f"line {i}", f"and child {i}")]
    assert terminal.read().shown == ["title", *lines, "end"]
    assert screen.last == ROWS - 1 and screen.is_cursor_visible


def test_line_that_somebody_began_is_ended_before_the_next_text(terminal):
    terminal = terminal()
    pinned = PinnedLines.take(terminal.output, 1)
    pinned.draw(["pinned"])
    os.write(terminal.writer, b"begun")
    pinned.draw(["pinned"])
    os.write(terminal.writer, b" and continued")
    pinned.release()
    os.write(terminal.writer, b"end\n")
    assert terminal.read().shown == ["begun and continued", "end"]


def test_pinned_lines_follow_the_size_of_the_terminal(terminal):
    terminal = terminal()
    os.write(terminal.writer, b"title\n" * 15)
    pinned = PinnedLines.take(terminal.output, 2)
    pinned.draw(["one", "two"])
    terminal.read()
    terminal.resize(ROWS + 10, COLUMNS)
    terminal.screen.lines += [""] * 10
    pinned.draw(["three", "four"])
    screen = terminal.read()
    assert screen.lines[-2:] == ["three", "four"] and screen.last == ROWS + 7
    assert "one" not in screen.shown
    terminal.resize(5, COLUMNS)  # Too small for both.
    pinned.draw(["five", "six"])
    assert "five" not in terminal.read().shown
    pinned.release()


def test_terminal_that_does_not_say_its_size_has_24_rows(terminal, monkeypatch):
    for name in ("LINES", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    terminal = terminal(0, 0)
    terminal.screen = Screen(24, 80)
    pinned = PinnedLines.take(terminal.output, 1)
    pinned.draw(["pinned"])
    assert terminal.read().lines[23] == "pinned"
    pinned.release()


# With a view of progress.


def test_view_in_a_view_is_lines_above_it(terminal):
    terminal = terminal(24, 120)
    with Progress("outer", 1000, file=terminal.file) as outer:
        with Progress("inner", 1000, file=terminal.file) as inner:
            inner.update({"loss": 0.5}, {}, steps=10, seconds=1.0)
        outer.update({"loss": 0.25}, {}, steps=500, seconds=1.0)
        shown = terminal.read().shown
        assert shown[:2] == ["outer", "inner"] and shown[2].startswith("10/1000 steps")
        assert len(shown) == 9 and shown[3].startswith(" steps   ━━━")
    with Progress("next", 1000, file=terminal.file):
        assert terminal.read().lines[18].startswith(" steps ")


def test_small_terminal_gets_lines(terminal):
    terminal = terminal(9, 120)
    with Progress("title", 1000, file=terminal.file) as shown:
        shown.update({"loss": 0.5}, {}, steps=10, seconds=1.0)
    assert terminal.read().shown[1].startswith("10/1000 steps")


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_terminal_scrolls_everywhere_after_an_error(terminal, error):
    terminal = terminal(24, 80)
    with pytest.raises(error), Progress("title", 1000, file=terminal.file):
        raise error
    screen = terminal.read()
    assert screen.last == 23 and screen.is_cursor_visible
    assert [line[:8].strip() for line in screen.shown][:2] == ["title", "steps"]
    with Progress("title", 1000, file=terminal.file):
        assert terminal.read().last == 17


PROGRAM = """
import os, sys, threading, time
from tflearner.reporting.progress import Progress

def train():
    with Progress("title", 1000):
        how()
        time.sleep(60)

def crash():
    os.write(2, b"F0000 check failed\\n")
    os.abort()

def log_at_length():
    for i in range(4000):
        os.write(2, b"x" * 63 + b"\\n")
    sys.stdout.write("partial")
    os._exit(0)

begun = threading.Event()
how = {"crash": crash, "log": log_at_length, "thread": begun.set}[sys.argv[1]]
if sys.argv[1] == "thread":
    threading.Thread(target=train, daemon=True).start()
    begun.wait(30)
else:
    train()
"""


@pytest.mark.parametrize(
    ("how", "status"), [("crash", -signal.SIGABRT), ("log", 0), ("thread", 0)]
)
def test_programs_that_end_in_other_ways(terminal, how, status):
    terminal, ended = terminal(24, 80), threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how],
        stdin=terminal.writer,
        stdout=terminal.writer,
        stderr=terminal.writer,
    )
    threading.Thread(target=lambda: (process.wait(), ended.set())).start()
    while not ended.is_set():
        terminal.read()
    screen = terminal.read()
    assert process.returncode == status
    if how == "crash":
        assert "F0000 check failed" in screen.shown
    elif how == "log":
        assert screen.shown.count("x" * 63) == 4000
    else:
        assert screen.last == 23 and screen.is_cursor_visible
