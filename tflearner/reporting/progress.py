"""The progress of training, as one live view or as plain lines."""

import collections
import dataclasses
import math
import sys
import time
from collections.abc import Mapping
from typing import IO, Any, Self

from rich.console import Console
from rich.text import Text

from tflearner.errors import ConfigError
from tflearner.reporting.names import RESULT_NAMES
from tflearner.reporting.output import Output, render
from tflearner.reporting.terminal import PinnedLines, size_of

REFRESH_S = 0.125  # Of the live view.
RECENT_UPDATES = 20  # Speed and shares of time are averages over these.
VIEW_LINES = 6
BAR_WIDTH = 30  # Fits 80 columns with the numbers beside it.
SPARKS = "▁▂▃▄▅▆▇█"

# Timer -> label of its share; other timers, such as "learn_s", are labelled "learn".
SHARES = {"env_step_s": "env", "act_s": "act"}
SAMPLE_TIMER = "sample_s"  # Contains the two above.


class Progress:
    """Shows the progress, speed and results of training.

    On a terminal it redraws one view in place, below the output of the program,
    libraries and child processes. Elsewhere it writes one plain line per interval,
    without control characters. If another view is open, it writes lines that scroll
    above that view.

        with Progress("PPO on CartPole-v1", total_steps=100_000) as progress:
            ...
            progress.update(names.flatten_result(result), timers, steps, seconds)

    Args:
        title: The names of the algorithm, the environment and the run's directory.
        total_steps: Environment steps at which training ends.
        verbose: 0 shows nothing, 2 lines; 1 and `"auto"` the view if there is a
            terminal, otherwise lines.
        file: Where to write; `None` is stdout.
        interval_s: Seconds between two lines, at least. The last one always comes.
        labels: The metrics that are shown, {key: label}: see `Learner.metric_labels`.
    """

    def __init__(
        self,
        title: str,
        total_steps: int,
        verbose: str | int = "auto",
        file: IO[str] | None = None,
        interval_s: float = 2.0,
        labels: Mapping[str, str] | None = None,
    ):
        check_verbose(verbose)
        self._output = Output(sys.stdout if file is None else file)
        self._title = title
        self._view = View(total_steps, labels=labels or {})
        self._recent: collections.deque = collections.deque(maxlen=RECENT_UPDATES)
        self._recent.append((0, 0.0, {}))
        self._silent = verbose == 0
        self._wants_view = verbose in ("auto", 1)
        self._pinned: PinnedLines | None = None
        self._interval_s = interval_s
        self._shown_at = -math.inf
        self._is_shown = True
        self._is_started = False
        self._is_closed = False

    def update(
        self,
        flat: dict[str, float],
        timers: dict[str, float],
        steps: int,
        seconds: float,
    ) -> None:
        """Adds the numbers of one iteration, and shows them if the interval is over.

        Args:
            flat: The iteration's numbers under the names of `reporting.names`.
            timers: Name -> seconds of this iteration.
            steps: Environment steps so far.
            seconds: Seconds of training so far.
        """
        if self._silent or self._is_closed:
            return
        self._start()
        view = self._view
        self._recent.append((steps, seconds, timers))
        view.flat, view.steps, view.seconds = flat, steps, seconds
        episode_return = flat.get("episode_return", math.nan)
        if math.isfinite(episode_return):
            view.returns[view.column(steps)] = episode_return
        self._is_shown = False
        if time.monotonic() - self._shown_at >= self._interval_s:
            self._show()

    def say(self, line: str) -> None:
        """Shows a permanent line, above the view or between other lines."""
        if not (self._silent or self._is_closed):
            self._write(line)

    def close(self, message: str | None = None) -> None:
        """Shows the last update and releases the terminal.

        Args:
            message: The last line.
        """
        if self._silent or self._is_closed:
            return
        self._is_closed = True
        if not self._is_shown:
            self._show()
        if self._pinned is not None:
            self._pinned.release()
            self._write("\n".join(self._rendered()))
        if message:
            self._write(message)

    def __enter__(self) -> Self:
        if not self._silent:
            try:
                self._start()
            except BaseException:  # Ctrl-C: `__exit__` would not be called.
                self.close()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> None:
        if self._is_started:
            return
        self._is_started = True
        self._write(self._title)
        if self._wants_view and _can_redraw(self._output.file):
            self._pinned = PinnedLines.take(self._output, VIEW_LINES)
        if self._pinned is not None:
            self._interval_s = REFRESH_S
            self._pinned.draw(self._rendered())

    def _show(self) -> None:
        view = self._view
        first_steps, first_seconds, _ = self._recent[0]
        passed = view.seconds - first_seconds
        view.speed = (view.steps - first_steps) / passed if passed > 0 else math.nan
        view.shares = _shares([timers for _, _, timers in self._recent])
        if self._pinned is None:
            self._write(format_line(view))
        else:
            self._pinned.draw(self._rendered())
        self._shown_at = time.monotonic()
        self._is_shown = True

    def _rendered(self) -> list[str]:
        file, columns = self._output.file, size_of(self._output).columns
        return render(render_view(self._view), file, columns).split("\n")

    def _write(self, line: str) -> None:
        self._output.write(line + "\n")


def check_verbose(verbose: object) -> None:
    """Raises `ConfigError` unless `verbose` is "auto", 0, 1 or 2."""
    if verbose not in ("auto", 0, 1, 2) or isinstance(verbose, bool):
        raise ConfigError("verbose", repr(verbose), "'auto', 0, 1 or 2")


@dataclasses.dataclass
class View:
    """The numbers of a view or a line.

    Attributes:
        total_steps: Environment steps at which training ends.
        steps: Environment steps so far.
        seconds: Seconds so far.
        speed: Environment steps per second of late; NaN if unknown.
        shares: Label -> share of the time of late, from 0 to 1.
        flat: The latest numbers under flat names.
        returns: Column of the bar -> mean return when training was there.
        labels: Key of a metric -> label.
    """

    total_steps: int
    steps: int = 0
    seconds: float = 0.0
    speed: float = math.nan
    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    flat: dict[str, float] = dataclasses.field(default_factory=dict)
    returns: dict[int, float] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def done(self) -> float:
        """The share of steps done, from 0 to 1."""
        return min(1.0, self.steps / self.total_steps) if self.total_steps else 1.0

    @property
    def seconds_left(self) -> float:
        """Seconds until the end at the current speed; NaN if unknown."""
        left = max(0, self.total_steps - self.steps)
        return left / self.speed if self.speed > 0 else math.nan

    def column(self, steps: int) -> int:
        """Returns the column of the bar that belongs to a number of steps."""
        return min(BAR_WIDTH - 1, int(BAR_WIDTH * steps / max(1, self.total_steps)))

    def get(self, name: str) -> float:
        """Returns a number, or NaN if it is not known."""
        return self.flat.get(name, math.nan)


def format_line(view: View) -> str:
    """Returns one plain line: progress, return, losses and speed."""
    low, high = view.get("episode_return_min"), view.get("episode_return_max")
    spread = "" if math.isnan(low + high) else f" [{_number(low)}, {_number(high)}]"
    parts = [
        f"{view.steps}/{view.total_steps} steps {view.done:4.0%}",
        f"return {_number(view.get('episode_return'))}{spread}",
        f"length {_number(view.get('episode_length'))}",
        *(f"{label} {_number(value)}" for label, value in _losses(view)),
        f"{_speed(view.speed)} steps/s",
        f"left {_duration(view.seconds_left)}",
    ]
    return "  ".join(parts)


def render_view(view: View) -> Text:
    """Returns the live view: `VIEW_LINES` lines that fit 80 columns."""
    half_cells = round(2 * BAR_WIDTH * view.done)
    bar = "━" * (half_cells // 2) + "╸" * (half_cells % 2)
    low, high = view.get("episode_return_min"), view.get("episode_return_max")
    spread = (
        "" if math.isnan(low + high) else f"   min {_number(low)}  max {_number(high)}"
    )
    steps = f"{_grouped(view.steps)} / {_grouped(view.total_steps)}"
    times = f"{_duration(view.seconds)} passed   {_duration(view.seconds_left)} left"
    shares = " · ".join(f"{name} {share:.0%}" for name, share in view.shares.items())
    losses = " · ".join(f"{name} {_number(value)}" for name, value in _losses(view))

    rows: tuple[tuple, ...] = (
        (
            "steps",
            (bar, "green"),
            ("─" * (BAR_WIDTH - len(bar)), "bright_black"),
            f"  {view.done:4.0%}   {steps}",
        ),
        ("speed", f"{_speed(view.speed)} steps/s   {times}"),
        (
            "return",
            (sparkline(view.returns), "cyan"),
            (f"  {_number(view.get('episode_return'))}", "bold"),
            spread,
        ),
        ("length", _number(view.get("episode_length"))),
        ("time", shares or "-"),
        ("loss", losses or "-"),
    )
    text = Text(no_wrap=True, overflow="ellipsis")
    for i, (label, *pieces) in enumerate(rows):
        text.append("\n" if i else "")
        text.append(f" {label:<8}", "bright_black")
        for piece in pieces:
            text.append(*((piece,) if isinstance(piece, str) else piece))
    return text


def sparkline(returns: dict[int, float]) -> str:
    """Returns a curve of `BAR_WIDTH` characters; unknown columns repeat the last.

        >>> sparkline({0: 10.0, 2: 20.0}).strip()
        '▁▁█'

    Args:
        returns: Column -> value.
    """
    if not returns:
        return " " * BAR_WIDTH
    low, high = min(returns.values()), max(returns.values())
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    curve, spark = "", " "
    for column in range(max(returns) + 1):
        if column in returns:
            spark = SPARKS[round((returns[column] - low) * scale)]
        curve += spark
    return curve.ljust(BAR_WIDTH)


def _losses(view: View) -> list[tuple[str, float]]:
    labels = {RESULT_NAMES.get(key, key): label for key, label in view.labels.items()}
    known = [
        (label, view.flat[name]) for name, label in labels.items() if name in view.flat
    ]
    if known or "loss" not in view.flat:
        return known
    return [("total", view.flat["loss"])]


def _shares(timers: list[dict[str, float]]) -> dict[str, float]:
    seconds: Any = collections.Counter()
    for own in timers:
        seconds.update(own)
    sampling = seconds.pop(SAMPLE_TIMER, 0.0)
    spent = {
        label: seconds.pop(name) for name, label in SHARES.items() if name in seconds
    }
    spent |= {name.removesuffix("_s"): own for name, own in seconds.items()}
    known = sum(spent.values())
    # Sampling is stepping and acting and a little bookkeeping.
    whole = max(known, sampling + sum(seconds.values()))
    if whole <= 0:
        return {}
    return {label: own / whole for label, own in spent.items()} | {
        "other": 1.0 - known / whole
    }


def _can_redraw(file: Any) -> bool:
    try:
        # With FORCE_COLOR, rich takes a pipe for a terminal. A view does not fit there.
        is_terminal = file.isatty()
        console = Console(file=file)
    except (AttributeError, OSError, ValueError):  # ValueError for a closed file.
        return False
    is_plain = console.is_dumb_terminal or not console.encoding.startswith("utf")
    return is_terminal and console.is_terminal and not is_plain


def _number(value: float) -> str:
    """Returns three digits that matter: 0.00123, 0.512, 21.5, 475.2, 9812."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 1000 or value == 0:
        return f"{value:.0f}" if abs(value) < 1e7 else f"{value:.2e}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _speed(value: float) -> str:
    return _grouped(value) if value >= 10 else _number(value)


def _grouped(value: float) -> str:
    return f"{value:,.0f}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
