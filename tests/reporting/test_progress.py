"""Tests for `tflearner.reporting.progress`."""

import contextlib
import io
import math
import os
import select
import time
import warnings

import pytest

import tflearner as tfl
from tflearner.errors import ConfigError
from tflearner.reporting import progress, summary
from tflearner.reporting.progress import Progress, View

FLAT = {
    "episode_return": 471.23,
    "episode_return_min": 392.0,
    "episode_return_max": 500.0,
    "episode_length": 471.23,
    "policy_loss": -0.01234,
    "vf_loss": 3.4,
    "entropy": 0.512,
    "mean_kl_loss": 0.0081,
}
LABELS = {
    "policy_loss": "policy",
    "vf_loss": "value",
    "entropy": "entropy",
    "mean_kl_loss": "kl",
}
TIMERS = {"env_step_s": 0.4, "act_s": 0.2, "sample_s": 0.7, "learn_s": 0.3}


class Clock:
    """Time that passes when the test says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def terminal(monkeypatch):
    """A pseudo terminal: the file to write to, and what a person would be sent."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    reader, writer = os.openpty()

    def sent(wait_s=0.1):
        # The kernel hands the bytes over a little later than they were written.
        received = b""
        while select.select([reader], [], [], wait_s)[0]:
            received += os.read(reader, 1 << 16)
        return received.decode(errors="replace")

    with os.fdopen(writer, "w", encoding="utf-8") as file:
        yield file, sent
    os.close(reader)


def run(num_updates, **settings):
    file = settings.pop("file", None) or io.StringIO()
    settings = {"total_steps": 1000, "file": file, "labels": LABELS, **settings}
    with Progress("PPO on X", **settings) as shown:
        for i in range(num_updates):
            shown.update(FLAT, TIMERS, steps=100 * (i + 1), seconds=0.5 * (i + 1))
    return file.getvalue()


def test_lines_without_a_terminal(clock):
    assert run(1) == (
        "PPO on X\n"
        "100/1000 steps  10%  return 471.2 [392.0, 500.0]  length 471.2  "
        "policy -0.0123  value 3.4  entropy 0.512  kl 0.0081  "
        "200 steps/s  left 0:04\n"
    )


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_a_pipe_gets_no_control_characters(monkeypatch, verbose):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    text = run(3, verbose=verbose, interval_s=0.0)
    assert len(text.splitlines()) == 4
    assert all(char.isprintable() or char == "\n" for char in text)


def test_lines_keep_their_distance_and_the_last_one_comes(clock):
    file = io.StringIO()
    with Progress("title", 1000, file=file, interval_s=5.0) as shown:
        for i in range(12):
            clock.now = float(i)
            shown.update(FLAT, {}, steps=i, seconds=float(i))
    starts = [line.split("/")[0] for line in file.getvalue().splitlines()[1:]]
    assert starts == ["0", "5", "10", "11"]


def test_the_last_line_comes_once(clock):
    assert run(1).count("100/1000") == 1


def test_nothing_is_finished_yet(clock):
    file = io.StringIO()
    with Progress("title", 1000, file=file) as shown:
        shown.update({"episode_return": math.nan}, {}, steps=10, seconds=0.0)
    line = file.getvalue().splitlines()[1]
    assert "return -  length -" in line and "nan" not in line
    assert "- steps/s  left -" in line


def test_silence(clock):
    file = io.StringIO()
    with Progress("title", 1000, verbose=0, file=file) as shown:
        shown.update(FLAT, TIMERS, steps=10, seconds=1.0)
        shown.close("done")
    assert file.getvalue() == ""


@pytest.mark.parametrize("verbose", [3, "yes", None, True])
def test_unknown_verbosity_is_refused(verbose):
    with pytest.raises(ConfigError, match="verbose: got"):
        Progress("title", 1000, verbose=verbose)


def test_message_comes_last_and_closing_twice_is_harmless(clock):
    file = io.StringIO()
    shown = Progress("title", 1000, file=file)
    shown.update(FLAT, TIMERS, steps=10, seconds=1.0)
    shown.close("stopped by Ctrl-C")
    shown.close("again")
    shown.update(FLAT, TIMERS, steps=20, seconds=2.0)
    assert file.getvalue().splitlines()[-1] == "stopped by Ctrl-C"
    assert len(file.getvalue().splitlines()) == 3


def test_lines_go_to_stdout(capsys):
    with Progress("title", 1000) as shown:
        shown.update(FLAT, TIMERS, steps=10, seconds=1.0)
    assert capsys.readouterr().out.startswith("title\n10/1000")


def test_an_ascii_file_gets_ascii():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    with Progress("PPO · x", 1000, file=file) as shown:
        shown.update(FLAT, TIMERS, steps=10, seconds=1.0)
    assert raw.getvalue().startswith(b"PPO ? x\n10/1000")


def test_speed_is_of_late(clock):
    file = io.StringIO()
    with Progress("title", 100_000, file=file) as shown:
        shown.update(FLAT, {}, steps=100, seconds=100.0)  # Traces and compiles.
        for i in range(progress.RECENT_UPDATES):
            shown.update(FLAT, {}, steps=1100 + 1000 * i, seconds=101.0 + i)
    last = file.getvalue().splitlines()[-1]
    assert "1,000 steps/s" in last and "left 1:20" in last


def test_a_terminal_is_drawn_in_place(terminal, clock):
    file, sent = terminal
    with Progress("PPO on X", 1000, file=file) as shown:
        assert "PPO on X" in sent()
        clock.now = 1.0
        shown.update(FLAT, TIMERS, steps=100, seconds=0.5)
        text = sent()
        assert "\x1b[" in text and "100 / 1,000" in text and "471.2" in text
        shown.close("done")
    text = sent()
    assert "\x1b[?25h" in text  # The cursor is back.
    assert text.endswith("done\r\n")


def test_a_terminal_gets_lines_if_asked(terminal):
    file, sent = terminal
    with Progress("PPO on X", 1000, verbose=2, file=file) as shown:
        shown.update(FLAT, TIMERS, steps=100, seconds=0.5)
    text = sent()
    assert text.startswith("PPO on X\r\n100/1000") and "\x1b" not in text


def test_a_dumb_terminal_gets_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    file, sent = terminal
    with Progress("PPO on X", 1000, file=file) as shown:
        shown.update(FLAT, TIMERS, steps=100, seconds=0.5)
    text = sent()
    assert "100/1000" in text and "\x1b" not in text


def test_no_color_is_respected(terminal, monkeypatch):
    file, sent = terminal
    monkeypatch.setenv("NO_COLOR", "1")
    with Progress("PPO on X", 1000, file=file) as shown:
        shown.update(FLAT, TIMERS, steps=100, seconds=0.5)
    text = sent()
    assert "100 / 1,000" in text
    assert "\x1b[3" not in text and "\x1b[9" not in text


def test_the_cursor_comes_back_after_an_error(terminal):
    file, sent = terminal
    with pytest.raises(KeyboardInterrupt), Progress("PPO on X", 1000, file=file):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in sent()


def test_a_terminal_is_redrawn_eight_times_a_second(terminal, clock):
    file, sent = terminal
    with Progress("PPO on X", 1000, file=file) as shown:
        text = sent()
        for i in range(100):
            clock.now = 0.01 * i
            shown.update(FLAT, TIMERS, steps=i, seconds=0.5)
            text += sent(wait_s=0.0)
        text += sent()
    assert 8 <= text.count("steps/s") <= 9  # With the one before the first update.


def test_updates_are_cheap(terminal):
    file, sent = terminal
    with Progress("PPO on X", 10**6, file=file) as shown:
        start = time.perf_counter()
        for i in range(500):
            shown.update(FLAT, TIMERS, steps=i, seconds=0.5)
            sent(wait_s=0.0)
        assert time.perf_counter() - start < 0.5


def test_the_view_fits_eighty_columns():
    view = View(100_000_000, steps=99_999_999, seconds=359_999.0, labels=LABELS)
    view.flat = FLAT | {"episode_return": -1234567.8, "vf_loss": 1.23456e9}
    view.flat |= {"episode_return_min": -12345678.9, "episode_return_max": 9876543.2}
    view.speed, view.returns = 0.5, {29: -1.0}
    view.shares = {"env": 0.41, "act": 0.22, "learn": 0.37, "other": 0.0}
    lines = progress.render_view(view).plain.splitlines()
    assert len(lines) == 6
    assert max(map(len, lines)) <= 80


def test_the_view_shows_everything():
    view = View(100_000, steps=62_464, seconds=7.4, flat=FLAT, labels=LABELS)
    view.speed, view.returns = 9800.0, {0: 20.0, 1: 100.0, 3: 471.2}
    view.shares = {"env": 0.41, "act": 0.22, "learn": 0.37}
    assert progress.render_view(view).plain.splitlines() == [
        " steps   " + "━" * 18 + "╸" + "─" * 11 + "   62%   62,464 / 100,000",
        " speed   9,800 steps/s   0:07 passed   0:04 left",
        " return  ▁▂▂█" + " " * 26 + "  471.2   min 392.0  max 500.0",
        " length  471.2",
        " time    env 41% · act 22% · learn 37%",
        " loss    policy -0.0123 · value 3.4 · entropy 0.512 · kl 0.0081",
    ]


def test_the_view_before_anything_is_known():
    lines = progress.render_view(View(1000)).plain.splitlines()
    assert [line.split()[-1] for line in lines[2:]] == ["-", "-", "-", "-"]
    assert "nan" not in "".join(lines)


def test_shares_are_of_the_sampling_and_learning_time(clock):
    shown = Progress("title", 1000, file=io.StringIO())
    shown.update(FLAT, TIMERS, steps=10, seconds=1.0)
    shares = shown._view.shares
    assert shares == pytest.approx({"env": 0.4, "act": 0.2, "learn": 0.3, "other": 0.1})


@pytest.mark.parametrize(
    ("returns", "curve"),
    [
        ({}, ""),
        ({0: 5.0}, "▁"),
        ({0: -1.0, 1: 0.0, 2: 1.0}, "▁▅█"),
        ({1: 1.0, 4: 2.0}, " ▁▁▁█"),
    ],
)
def test_sparkline(returns, curve):
    assert progress.sparkline(returns) == curve.ljust(progress.BAR_WIDTH)


def test_an_infinite_return_does_not_stop_training(clock):
    shown = Progress("title", 1000, file=io.StringIO())
    shown.update({"episode_return": math.inf}, {}, steps=2000, seconds=1.0)
    assert "return inf" in progress.format_line(shown._view)
    assert progress.render_view(shown._view).plain.count("inf") == 1


def test_a_custom_loss_is_shown_as_the_total():
    view = View(1000, flat={"loss": 0.25})
    assert "total 0.25" in progress.format_line(view)


def test_labels_of_an_algorithm_come_in_their_order():
    labels = {"regret": "regret", "total_loss": "all", "not_reported": "none"}
    view = View(1000, flat={"loss": 0.25, "regret": 2.0}, labels=labels)
    assert "regret 2  all 0.25  " in progress.format_line(view)


@pytest.mark.parametrize(
    ("learner_class", "own"),
    [
        (tfl.PPOTfLearner, {"mean_kl_loss": "kl"}),
        (
            tfl.DQNTfLearner,
            {"qf_loss": "q", "qf_mean": "q mean", "curr_epsilon": "epsilon"},
        ),
        (
            tfl.SACTfLearner,
            {"qf_loss": "q", "qf_mean": "q mean", "alpha_value": "alpha"},
        ),
    ],
)
def test_a_learner_adds_labels_to_those_of_all(learner_class, own):
    assert learner_class.metric_labels == {**tfl.TfLearner.metric_labels, **own}


def test_timers_of_an_algorithm_have_shares(clock):
    shown = Progress("title", 1000, file=io.StringIO())
    timers = {"sample_s": 0.5, "env_step_s": 0.25, "queue_s": 0.5}
    shown.update(FLAT, timers, steps=10, seconds=1.0)
    assert shown._view.shares == {"env": 0.25, "queue": 0.5, "other": 0.25}


def test_more_steps_than_planned():
    view = View(1000, steps=2024, flat=FLAT, speed=10.0)
    view.returns = {view.column(2024): 5.0, view.column(0): 1.0}
    assert len(progress.sparkline(view.returns)) == progress.BAR_WIDTH
    assert "2024/1000 steps 100%" in progress.format_line(view)
    assert "left 0:00" in progress.format_line(view)


# Streams that fail.


def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def closed_descriptor():
    file = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    os.close(file.fileno())
    return file


def full_disk():
    return os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")


def closed_file():
    file = io.StringIO()
    file.close()
    return file


@pytest.mark.parametrize(
    "make", [broken_pipe, closed_descriptor, closed_file, full_disk, object]
)
@pytest.mark.parametrize("verbose", ["auto", 2])
def test_stream_that_fails_is_one_warning(make, verbose):
    file = make()
    shown = Progress("PPO on X", 1000, verbose=verbose, file=file, interval_s=0.0)

    def use():
        for i in range(3):
            shown.update(FLAT, TIMERS, steps=100 * (i + 1), seconds=0.5)
        shown.close("done")

    with pytest.warns(RuntimeWarning, match="could not be shown") as told:
        use()
    assert len(told) == 1
    with contextlib.suppress(Exception):  # It has text that nobody takes.
        file.close()


def test_no_standard_output_is_a_warning(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    with (
        pytest.warns(RuntimeWarning, match="no standard output") as told,
        Progress("PPO on X", 1000) as shown,
    ):
        shown.update(FLAT, TIMERS, steps=100, seconds=0.5)
    assert len(told) == 1


def test_lines_go_on_when_the_stream_takes_them_again(clock):
    class Full(io.StringIO):
        def write(self, text):
            if text.startswith("100/"):
                raise OSError(28, "No space left on device")
            return super().write(text)

    with pytest.warns(RuntimeWarning, match="No space left"):
        text = run(3, file=Full(), interval_s=0.0)
    assert [line.split("/")[0] for line in text.splitlines()[1:]] == ["200", "300"]


def test_closed_standard_error_costs_the_warning_alone(monkeypatch):
    def show(*args, **kwargs):
        raise ValueError("I/O operation on closed file.")

    monkeypatch.setattr("warnings.showwarning", show)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with Progress("PPO on X", 1000, file=closed_file()) as shown:
            shown.update(FLAT, TIMERS, steps=100, seconds=0.5)


@pytest.mark.parametrize(
    "make", [broken_pipe, closed_descriptor, closed_file, full_disk]
)
def test_summary_that_nobody_takes_is_a_warning(monkeypatch, make):
    file = make()
    monkeypatch.setattr("sys.stdout", file)
    with pytest.warns(RuntimeWarning, match="could not be shown"):
        summary.print_summary("PPO on X", [("observations", "Box")])
    with contextlib.suppress(OSError):
        file.close()


def test_a_long_title_is_not_cut(terminal):
    file, sent = terminal
    with Progress("x" * 300, 1000, file=file):
        assert "x" * 300 in sent()
