"""States that say which step they belong to, and what a run's directory holds."""

import os
import random

import numpy as np


def state_of(step: int, num_bytes: int = 4096) -> dict:
    """Returns a state in which every value follows from the step.

    Args:
        step: Stands in every tensor and beside them.
        num_bytes: About how large it is on disk.
    """
    rows = max(1, num_bytes // (3 * 4 * 256))
    kernel = np.full((rows, 256), step, np.float32)
    kernel[0] += np.arange(256)
    slots = {"iterations": np.int64(step), "000/kernel/momentum": kernel + 1}
    slots["000/kernel/velocity"] = kernel + 2
    rng = random.Random(step)
    return {
        "learner": {
            "rl_module": {"p0": {"000/kernel": kernel}},
            "optimizer": {"p0": {"default_optimizer": slots}},
            "weights_seq_no": step,
            "rng": {"state": rng.getrandbits(128), "name": f"at {step}"},
        },
        "normalizer": {"mean": np.full(8, step, np.float64), "count": (step, 0.5)},
    }


def same(got, want) -> bool:
    """Whether two states are equal to the bit, and of the same types."""
    if isinstance(want, dict):
        return (
            isinstance(got, dict)
            and got.keys() == want.keys()
            and all(same(got[key], want[key]) for key in want)
        )
    if isinstance(want, np.ndarray | np.generic):
        return (
            type(got) is type(want)
            and got.dtype == want.dtype
            and got.shape == want.shape
            and got.tobytes() == want.tobytes()
        )
    return type(got) is type(want) and got == want


def debris(directory) -> list[str]:
    """Returns what lies in a run's directory beside its lock and its steps."""
    names = os.listdir(directory)
    return [name for name in names if name != ".lock" and not name.startswith("step-")]
