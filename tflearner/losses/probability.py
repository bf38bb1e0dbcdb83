"""TensorFlow Probability, imported without its deprecation warning."""

import warnings

with warnings.catch_warnings():  # The import would fail under `python -W error`.
    warnings.filterwarnings("ignore", "distutils Version", DeprecationWarning)
    import tensorflow_probability as tfp

__all__ = ["tfp"]
