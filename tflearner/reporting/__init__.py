"""Output for users: progress, history, callbacks and files."""

from tflearner.modules import keras_backend

keras_backend.check()
