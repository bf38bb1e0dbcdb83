"""Checkpoints: saving, restoring and rebuilding objects."""
