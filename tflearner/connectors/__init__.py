"""Connector pieces: observations to modules, outputs to actions, episodes to batches."""
