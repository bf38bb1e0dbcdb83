"""Learners, which update the weights of modules."""

from tflearner.modules import keras_backend

keras_backend.check()
