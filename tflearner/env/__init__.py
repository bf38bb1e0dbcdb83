"""Environments, and the runners that sample episodes from them."""
