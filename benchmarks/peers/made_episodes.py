"""The same made-up episodes for every library, as NumPy columns."""

import statistics
import time
from collections.abc import Callable

import numpy as np

ENDS = ("terminated", "truncated", "cut")


def make_columns(s: dict) -> list[dict]:
    """Returns the columns of each episode of a case of `data_path.py`.

    Args:
        s: The case: `lengths` of the episodes, which end in turn as `ENDS` says; the
            shape and dtype of an observation, `O`; `num_actions`, `A`; `lstm_units`,
            `H`, or 0.

    Returns:
        For each episode of T steps: obs [T + 1, *O], actions int64 [T], rewards float32
        [T], "end", and "outputs", what the module put out: action_logp float32 [T],
        action_dist_inputs float32 [T, A] and with an LSTM state_out, its h and c,
        float32 [T, H].
    """
    rng = np.random.default_rng(0)
    episodes = []
    for index, length in enumerate(s["lengths"]):
        shape = (length + 1, *s["obs_shape"])
        if s["obs_dtype"] == "uint8":
            obs = rng.integers(256, size=shape, dtype=np.uint8)
        else:
            obs = rng.standard_normal(shape, dtype=np.float32)
        outputs = {
            "action_logp": -rng.random(length, dtype=np.float32),
            "action_dist_inputs": rng.standard_normal(
                (length, s["num_actions"]), dtype=np.float32
            ),
        }
        if s["lstm_units"]:
            outputs["state_out"] = {
                name: rng.standard_normal((length, s["lstm_units"]), dtype=np.float32)
                for name in ("h", "c")
            }
        episodes.append(
            {
                "obs": obs,
                "actions": rng.integers(s["num_actions"], size=length),
                "rewards": rng.standard_normal(length, dtype=np.float32),
                "outputs": outputs,
                "end": ENDS[index % len(ENDS)],
            }
        )
    return episodes


def module_of(index: int, s: dict) -> str:
    """Returns the id of the module that acts in an episode: each has its turn."""
    names = names_of_modules(s)
    return names[index % len(names)]


def names_of_modules(s: dict) -> list[str]:
    """Returns the ids of the modules."""
    if s["num_modules"] == 1:
        return ["default_policy"]
    return [f"module_{i}" for i in range(s["num_modules"])]


def time_calls(
    prepare: Callable[[], object], call: Callable[[object], object], seconds: float
) -> dict:
    """Times `call(prepare())` without the preparation, after three calls to warm up.

    Args:
        prepare: Makes what the call gets, off the clock.
        call: What is measured.
        seconds: How long to go on measuring, at least five calls.

    Returns:
        The number of calls and the median time of one in milliseconds.
    """
    for _ in range(3):
        call(prepare())
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        given = prepare()
        start = time.perf_counter()
        call(given)
        times.append(time.perf_counter() - start)
    return {"num_calls": len(times), "median_ms": 1000 * statistics.median(times)}
