"""Checks the settings of TensorFlow and Keras that modules depend on."""

import keras
import tensorflow as tf
from tensorflow.python.framework import ops

from tflearner.errors import ConfigError, ModuleError

# Private, since there is no public function; without it, every mode counts as off.
_converts_dtypes = getattr(ops, "is_auto_dtype_conversion_enabled", lambda: False)


def check() -> None:
    """Raises `ConfigError` for settings with which modules cannot work.

    It takes 2 µs, so that every update can call it.
    """
    if not tf.executing_eagerly():
        raise ConfigError(
            "TensorFlow",
            "graph mode",
            "eager execution",
            "call this outside of tf.function and tf.Graph, and leave out "
            "tf.compat.v1.disable_eager_execution() and disable_v2_behavior(); ray.rllib "
            "calls the latter, unless TensorFlow is imported before",
        )
    if not isinstance(tf.TensorShape([1])[0], int):
        raise ConfigError(
            "TensorFlow",
            "the tensor shapes of version 1",
            "tensor shapes of version 2",
            "leave out tf.compat.v1.disable_v2_tensorshape()",
        )
    if _converts_dtypes():
        raise ConfigError(
            "tf.experimental.numpy",
            "automatic conversion of dtypes, under which Keras cannot compute",
            "dtype_conversion_mode='off' or 'legacy'",
            "leave out experimental_enable_numpy_behavior(dtype_conversion_mode=...)",
        )
    if keras.config.floatx() != "float32":
        raise ConfigError(
            "keras.config.floatx()",
            repr(keras.config.floatx()),
            "'float32'",
            "call keras.config.set_floatx('float32'), and for half precision "
            "keras.config.set_dtype_policy('mixed_bfloat16')",
        )
    policy = keras.config.dtype_policy()
    is_quantized = getattr(policy, "quantization_mode", None) is not None
    if policy.variable_dtype != "float32" or is_quantized:
        raise ConfigError(
            "keras.config.dtype_policy()",
            repr(policy.name),
            "a policy with weights of float32",
            "call keras.config.set_dtype_policy('mixed_bfloat16') or ('float32')",
        )


def refuse_keras_2(where: str, part: object) -> None:
    """Raises `ModuleError` for a layer or model of Keras 2.

    Keras 3 does not track its weights, so they would not be trained.

    Args:
        where: The setting or attribute that holds the part.
        part: Any object.
    """
    if isinstance(part, tf.Module) and hasattr(part, "call") and hasattr(part, "build"):
        raise ModuleError(
            where,
            f"a {type(part).__name__} of Keras 2",
            "a layer or model of Keras 3",
            "make it with `import keras`: under TF_USE_LEGACY_KERAS=1, tf.keras is Keras 2",
        )
