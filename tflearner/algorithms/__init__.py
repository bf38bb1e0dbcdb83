"""Algorithms: environments, modules and learners put together."""

from tflearner.networks import keras_backend

keras_backend.check()
