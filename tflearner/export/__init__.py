"""Policies that run anywhere: SavedModel, TFLite and Keras files."""

from tflearner.networks import keras_backend

keras_backend.check()
