"""TensorFlow Probability, imported without the warning that it begins with."""

import warnings

with warnings.catch_warnings():  # It would end the import under `python -W error`.
    warnings.filterwarnings("ignore", "distutils Version", DeprecationWarning)
    import tensorflow_probability as tfp

__all__ = ["tfp"]
