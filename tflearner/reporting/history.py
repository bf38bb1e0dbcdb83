"""The `History` that `fit` returns, like the one of Keras."""

from typing import Any

from tflearner.errors import UsageError, did_you_mean
from tflearner.reporting import names


class History:
    """Training history: the metrics of each reporting interval, as in Keras.

        >>> history = History(params={"total_steps": 200})
        >>> history.append(0, {"steps": 100, "episode_return": float("nan")})
        >>> history.append(1, {"steps": 200, "episode_return": 20.0})
        >>> history.append(2, {"steps": 300, "episode_return": 18.0})
        >>> history.history["episode_return"]
        [20.0, 18.0]
        >>> history
        History(3 iterations, 300 steps, episode_return: last 18.0, best 20.0)

    A list may be shorter than `epoch`. There is no "episode_return" before the first
    episode ends, and "val_episode_return" exists for epochs with an evaluation only.
    `series` returns values together with their epochs:

        >>> history.series("episode_return")
        ([1, 2], [20.0, 18.0])
        >>> history.series("episode_return", over="steps")
        ([200, 300], [20.0, 18.0])

    Args:
        params: The arguments of `fit`.

    Attributes:
        history: Name -> one value per interval in which it was measured.
        epoch: The number of each interval.
        params: The arguments of `fit`.
    """

    def __init__(self, params: dict | None = None):
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.params = dict(params or {})
        self._rows: dict[str, list[int]] = {}  # Name -> the interval of each value.

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        """Adds one interval.

        Args:
            epoch: Its number, from 0.
            logs: Flat name -> number. An episode value that is NaN is skipped: no
                episode has ended.
        """
        row = len(self.epoch)
        self.epoch.append(epoch)
        for name, value in logs.items():
            values = self.history.setdefault(name, [])
            rows = self._rows.setdefault(name, [])
            if not names.is_unmeasured(name, value):
                values.append(value)
                rows.append(row)

    def series(self, name: str, *, over: str = "epoch") -> tuple[list, list[float]]:
        """Returns two lists to plot: where a value was measured, and the values.

            plt.plot(*history.series("episode_return", over="steps"))

        Args:
            name: A name in `history`.
            over: The contents of the first list: "epoch", or a name in `history`.
                Intervals in which only one of the two was measured are skipped.

        Returns:
            Two lists of one length.

        Raises:
            UsageError: If a name is unknown.
        """
        known = ["epoch", *self._rows]
        for each in (name, over):
            if each not in known:
                hint = did_you_mean(each, known)
                raise UsageError("series()", repr(each), f"one of {known}", hint)
        xs, ys = self._by_row(over), self._by_row(name)
        rows = [row for row in ys if row in xs]
        return [xs[row] for row in rows], [ys[row] for row in rows]

    def copy(self, params: dict[str, Any]) -> "History":
        """Returns a copy with other params, which later intervals do not change."""
        copied = History(params)
        copied.epoch = [*self.epoch]
        copied.history = {name: [*values] for name, values in self.history.items()}
        copied._rows = {name: [*rows] for name, rows in self._rows.items()}
        return copied

    def _by_row(self, name: str) -> dict[int, float]:
        if name == "epoch":
            return dict(enumerate(self.epoch))
        return dict(zip(self._rows[name], self.history[name]))

    def __repr__(self) -> str:
        parts = [f"{len(self.epoch)} iterations"]
        if "steps" in self.history:
            parts.append(f"{self.history['steps'][-1]} steps")
        if returns := self.history.get("episode_return"):
            parts.append(
                f"episode_return: last {returns[-1]:.1f}, best {max(returns):.1f}"
            )
        return f"History({', '.join(parts)})"
