"""Layers and distributions in NumPy: what a policy needs to act without TensorFlow."""
