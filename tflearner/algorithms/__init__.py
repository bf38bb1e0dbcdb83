"""Algorithms: environments, modules and learners put together."""

from tflearner.modules import keras_backend

keras_backend.check()
