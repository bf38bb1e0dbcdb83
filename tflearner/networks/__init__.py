"""Layers, encoders and distributions, in TensorFlow and in NumPy."""

from tflearner.networks import keras_backend

keras_backend.check()
