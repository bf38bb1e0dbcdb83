"""Policies that run anywhere: SavedModel, TFLite and Keras files."""
