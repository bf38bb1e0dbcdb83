"""The engine: runs gradient steps traced, compiled, on one device or several.

It imports no module, config, connector or learner.
"""

from tflearner.networks import keras_backend

keras_backend.check()
