"""How it is put together."""

from tflearner.modules import keras_backend

keras_backend.check()
