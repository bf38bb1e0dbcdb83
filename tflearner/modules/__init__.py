"""Modules that act and learn, with their networks and distributions."""

from tflearner.networks import keras_backend

keras_backend.check()
