"""What every measured process shares: its settings, its rows, its clock, its answer.

A worker is started as `python <peer>_<benchmark>.py '<settings as JSON>'`, in the
environment of its library, and prints one line of JSON. This file imports nothing
but the standard library and NumPy, so that it runs in every one of them.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata

import numpy as np


def settings() -> dict:
    """Returns the settings that the driver passed on the command line."""
    return json.loads(sys.argv[1])


def report(packages: list[str], **result) -> None:
    """Prints the answer of this process: its result and the versions it used."""
    result["versions"] = {name: metadata.version(name) for name in packages}
    print(json.dumps(result), flush=True)


def make_batch(
    rows: int,
    obs_shape: int | Sequence[int],
    num_actions: int,
    obs_dtype: str = "float32",
) -> dict[str, np.ndarray]:
    """Returns the same made-up PPO rows to every library.

    Args:
        rows: Number of timesteps, `R`.
        obs_shape: Shape of an observation; a number is that of its floats.
        num_actions: Discrete actions, `A`.
        obs_dtype: "float32", or "uint8" for pixels.

    Returns:
        obs [R, ...], actions int64 [R], logits float32 [R, A], and float32 [R]
        each of logp, values, advantages and value_targets.
    """
    rng = np.random.default_rng(0)
    shape = (rows, *((obs_shape,) if isinstance(obs_shape, int) else obs_shape))
    if obs_dtype == "uint8":
        obs = rng.integers(256, size=shape, dtype=np.uint8)
    else:
        obs = rng.standard_normal(shape, dtype=np.float32)
    logits = 0.1 * rng.standard_normal((rows, num_actions))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    actions = rng.integers(num_actions, size=rows)
    values = rng.standard_normal(rows)
    advantages = rng.standard_normal(rows)
    floats = {
        "logits": logits,
        "logp": log_probs[np.arange(rows), actions],
        "values": values,
        "advantages": advantages,
        "value_targets": values + advantages,
    }
    batch = {name: column.astype(np.float32) for name, column in floats.items()}
    return {"obs": obs, **batch, "actions": actions}


def make_shape_batch(s: dict) -> dict[str, np.ndarray]:
    """Returns the rows of one of the shapes of `update.py`: `make_batch` by settings.

    Shapes with sequences have columns [S, T, ...] instead of [R, ...].
    """
    batch = make_batch(s["rows"], s["obs_shape"], s["num_actions"], s["obs_dtype"])
    if not s["sequence_length"]:
        return batch
    return {
        name: column.reshape(-1, s["sequence_length"], *column.shape[1:])
        for name, column in batch.items()
    }


def make_transitions(s: dict) -> dict[str, np.ndarray]:
    """Returns the same made-up steps of episodes of 200 to every library.

    Args:
        s: Settings of `off_policy.py`: `transitions` R, `num_floats` of an observation,
            and `num_actions`, `None` for one number in [-1, 1].

    Returns:
        obs and new_obs float32 [R, num_floats], rewards float32 [R], ends bool [R], and
        actions int64 [R] or float32 [R, 1].
    """
    rng = np.random.default_rng(0)
    rows, length = s["transitions"], 200
    shape = (-(-rows // length), length + 1, s["num_floats"])
    seen = rng.standard_normal(shape, dtype=np.float32)
    obs = seen[:, :-1].reshape(-1, s["num_floats"])[:rows]
    new_obs = seen[:, 1:].reshape(-1, s["num_floats"])[:rows]
    if s["num_actions"]:
        actions = rng.integers(s["num_actions"], size=rows)
    else:
        actions = rng.uniform(-1.0, 1.0, (rows, 1)).astype(np.float32)
    ends = np.arange(1, rows + 1) % length == 0
    ends[-1] = True
    rewards = rng.standard_normal(rows, dtype=np.float32)
    return {
        "obs": obs,
        "new_obs": new_obs,
        "actions": actions,
        "rewards": rewards,
        "ends": ends,
    }


def standardized(advantages: np.ndarray) -> np.ndarray:
    """Returns advantages with mean 0 and standard deviation 1."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def time_updates(update: Callable[[], object], seconds: float) -> dict:
    """Times a function that makes one whole update and waits for its results.

    Args:
        update: Makes one update.
        seconds: How long to go on measuring, at least three updates.

    Returns:
        The first call's time (tracing and compilation included) and, after one more
        call to warm up, the time of every further one, all in milliseconds.
    """
    first_ms = milliseconds(update)
    milliseconds(update)
    times_ms: list[float] = []
    while len(times_ms) < 3 or sum(times_ms) < 1000 * seconds:
        times_ms.append(milliseconds(update))
    return {
        "first_ms": first_ms,
        "times_ms": times_ms,
        "median_ms": statistics.median(times_ms),
    }


def time_first(update: Callable[[], object]) -> dict:
    """Times the first call, for libraries that try out settings before the others."""
    return {"first_ms": milliseconds(update)}


def fastest(choices: list[int], attempt: Callable[[int], object]) -> int:
    """Returns the choice whose attempt takes the least time, each tried twice."""
    times = dict.fromkeys(choices, float("inf"))
    for choice in choices * 2:
        start = time.perf_counter()
        attempt(choice)
        times[choice] = min(times[choice], time.perf_counter() - start)
    return min(times, key=times.__getitem__)


def milliseconds(function: Callable[[], object]) -> float:
    """Returns how long a call takes."""
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


class Curve:
    """The learning curve of one training run, and whether it has reached its goal.

    Make it when the clock shall start: after imports, before the first object of the
    library is built.

    Args:
        goal: The mean return to reach.
    """

    def __init__(self, goal: float):
        self.points: list[tuple[float, int, float]] = []
        self._goal = goal
        self._start = time.perf_counter()

    @property
    def solved(self) -> bool:
        """Whether the last point is at or above the goal."""
        return bool(self.points) and self.points[-1][2] >= self._goal

    def add(self, env_steps: int, mean_return: float) -> None:
        """Adds a point, unless there is no mean yet because no episode has ended.

        Args:
            env_steps: Environment steps so far.
            mean_return: The rolling mean, NaN while there is none.
        """
        if math.isnan(mean_return):
            return
        seconds = time.perf_counter() - self._start
        self.points.append((round(seconds, 3), int(env_steps), float(mean_return)))

    def result(self) -> dict:
        """Returns when the run ended, after how many steps, and the curve."""
        seconds, env_steps, mean_return = self.points[-1]
        return {
            "solved": self.solved,
            "seconds": seconds,
            "env_steps": env_steps,
            "mean_return": mean_return,
            "curve": self.points,
        }
