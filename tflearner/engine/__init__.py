"""How gradient steps run: traced, compiled, on one device or several.

Knows no module, config, connector or learner.
"""

from tflearner.networks import keras_backend

keras_backend.check()
