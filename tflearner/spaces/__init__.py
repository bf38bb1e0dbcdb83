"""Gymnasium's spaces: their leaves, and masks of actions."""
