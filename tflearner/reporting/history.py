"""What `fit` returns: every interval's numbers, in Keras' shape."""

import math


class History:
    """The numbers of each reporting interval, as `keras.callbacks.History` keeps them.

        >>> history = History(params={"total_steps": 200})
        >>> history.append(0, {"steps": 100, "episode_return": 20.0})
        >>> history.append(1, {"steps": 200, "episode_return": 18.0})
        >>> history.history["episode_return"]
        [20.0, 18.0]
        >>> history
        History(2 iterations, 200 steps, episode_return: last 18.0, best 20.0)

    Args:
        params: What `fit` was called with.

    Attributes:
        history: Name -> one value per interval in which it was measured.
        epoch: The number of each interval.
        params: What `fit` was called with.
    """

    def __init__(self, params: dict | None = None):
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.params = dict(params or {})

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        """Adds one interval.

        Args:
            epoch: Its number, from 0.
            logs: Flat name -> number.
        """
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        parts = [f"{len(self.epoch)} iterations"]
        if "steps" in self.history:
            parts.append(f"{self.history['steps'][-1]} steps")
        returns = self.history.get("episode_return", [])
        if finished := [value for value in returns if not math.isnan(value)]:
            parts.append(
                f"episode_return: last {finished[-1]:.1f}, best {max(finished):.1f}"
            )
        return f"History({', '.join(parts)})"
