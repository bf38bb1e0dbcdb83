"""What tests of algorithms share."""

import pytest


@pytest.fixture
def owned():
    """A function that takes an algorithm, returns it and stops it after the test."""
    algos = []
    yield lambda algo: algos.append(algo) or algo
    for algo in algos:
        algo.stop()
