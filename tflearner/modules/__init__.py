"""Modules that act and learn, with their networks and distributions."""

from tflearner.modules import keras_backend

keras_backend.check()
