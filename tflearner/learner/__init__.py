"""Where weights change."""

from tflearner.modules import keras_backend

keras_backend.check()
