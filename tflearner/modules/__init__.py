"""What acts and learns: modules, networks and distributions."""

from tflearner.modules import keras_backend

keras_backend.check()
