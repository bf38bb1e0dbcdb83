"""Output for users: progress, history, callbacks and files."""

from tflearner.networks import keras_backend

keras_backend.check()
