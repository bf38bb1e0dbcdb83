"""Random numbers that Keras takes from Python's global generator, drawn from a seed."""

import contextlib
import random
from collections.abc import Iterator


@contextlib.contextmanager
def own_random_numbers(seed: int | None) -> Iterator[None]:
    """Seeds Python's global generator for a while, and puts it back as it was.

    Keras draws the seeds of layers and initializers that are given none from it.

    Args:
        seed: Of the numbers in between; `None` draws them anew each time.
    """
    before = random.getstate()
    random.seed(None if seed is None else int(seed))
    try:
        yield
    finally:
        random.setstate(before)
