"""Half precision within modules, and float32 outputs.

Under a Keras dtype policy such as "mixed_bfloat16" layers keep float32 weights, compute
in 16 bits and return 16 bits. Losses, distributions, recorded states and connectors
want float32, so modules convert their outputs once.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

HALF_DTYPES = frozenset({"float16", "bfloat16"})


def dtype_of_weights() -> str:
    """Returns the dtype of new layers' weights: "float32" under mixed policies."""
    return keras.config.dtype_policy().variable_dtype


def convert_outputs(cls: type, names: Iterable[str]) -> None:
    """Makes methods of a class return float32 instead of 16-bit floats.

    Args:
        cls: A class; those of its methods that were converted before are left alone.
        names: Of methods it may have.
    """
    for name in names:
        method = getattr(cls, name, None)
        if method is not None and not hasattr(method, "_puts_out_float32"):
            setattr(cls, name, _converting(method))


def _converting(method: Callable) -> Callable:
    @functools.wraps(method)
    def converted(*args: Any, **kwargs: Any) -> Any:
        outputs = method(*args, **kwargs)
        if any(map(_is_half, tf.nest.flatten(outputs))):
            return tf.nest.map_structure(_in_float32, outputs)
        return outputs

    converted._puts_out_float32 = True  # type: ignore[attr-defined]
    return converted


def _is_half(output: Any) -> bool:
    dtype = getattr(output, "dtype", None)
    return getattr(dtype, "name", dtype) in HALF_DTYPES


def _in_float32(output: Any) -> Any:
    return tf.cast(output, tf.float32) if _is_half(output) else output
