"""Learners, which update the weights of modules."""

from tflearner.networks import keras_backend

keras_backend.check()
