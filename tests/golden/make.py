"""Writes the checkpoint of the present format from which `state()` must come back.

    python tests/golden/make.py    # Writes v<format>/ beside this file, once.

Files of a format that was released are never written again: they stand for those that
users have.
"""

import pathlib

import ml_dtypes
import numpy as np

from tflearner.checkpoint import files, manifest
from tflearner.checkpoint.directory import CheckpointDirectory

HERE = pathlib.Path(__file__).parent
STEP = 1200
ABOUT = {
    "class": "tflearner/PPOTfLearner",
    "arguments": {"lr": 3e-4, "hiddens": [64, 64], "model": None, "eager": False},
}


def state() -> dict:
    """Returns nested values with a leaf of every kind."""
    return {
        "weights_seq_no": 7,
        "learner": {
            "rl_module": {"p0": weights(0), "a/b": weights(1), "..": weights(2)},
            "optimizer": {"p0": {"opt": {"m": np.full(3, 0.5), "iteration": 7}}},
        },
        "arrays": {dtype.str + dtype.name: array(dtype) for dtype in dtypes()},
        "shapes": [
            np.zeros(shape, np.int16) for shape in [(), (0,), (2, 0, 3), (1,) * 9]
        ],
        "layouts": [np.arange(6).reshape(2, 3).T, np.arange(9)[::-2]],
        "scalars": [
            np.float32(1.5),
            np.float16("nan"),
            np.bool_(True),
            np.uint64(2**64 - 1),
        ],
        "small scalar": ml_dtypes.bfloat16(0.1),
        "ints": [0, -1, 2**63, -(2**128), 3**5000],
        "floats": [0.1, -0.0, 5e-324, float("nan"), float("inf"), float("-inf")],
        "bools": [True, False, None],
        "texts": ["", "é\n\x00\U0001f600", "\ud83d\ude00", "\udc80"],
        "tuples": ((), (1, ("a", None)), [(1,), [2]]),
        "sets": [set(), {1, "a", (2, 3)}, frozenset({4, frozenset({5})})],
        "keys": {"": 1, "$array": 2, "a/b": 3, -5: 4, (0, ("p", 1)): 5, "é": 6},
        "rng": np.random.PCG64(3).state,
    }


def weights(seed: int) -> dict:
    """Returns the weights of a small layer. float32 and bfloat16."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(4, 3)).astype(np.float32)
    return {"pi": {"kernel": kernel, "bias": np.zeros(3, ml_dtypes.bfloat16)}}


def dtypes() -> list[np.dtype]:
    """Returns dtypes with and without a name in safetensors, and a big-endian one."""
    names = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32"
    names += " float64 complex64 complex128 >f4 >i8"
    small = "bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3b11fnuz int4 uint4"
    found = [np.dtype(name) for name in names.split()]
    return found + [np.dtype(getattr(ml_dtypes, name)) for name in small.split()]


def array(dtype: np.dtype) -> np.ndarray:
    """Returns zeros and ones. [2, 3]."""
    return (np.arange(6).reshape(2, 3) % 2).astype(dtype)


if __name__ == "__main__":
    run = CheckpointDirectory(HERE / f"v{manifest.VERSION}")
    run.save(state(), ABOUT, step=STEP)
    files.remove(run.path / ".lock")
