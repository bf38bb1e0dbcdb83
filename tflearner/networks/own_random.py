"""Seeds the random numbers that Keras draws from Python's global generator."""

import contextlib
import random
from collections.abc import Iterator


@contextlib.contextmanager
def own_random_numbers(seed: int | None) -> Iterator[None]:
    """Seeds Python's global generator for a block, and restores its state afterwards.

    Keras seeds layers and initializers without a seed from this generator.

    Args:
        seed: The seed; `None` takes a new one each time.
    """
    before = random.getstate()
    random.seed(None if seed is None else int(seed))
    try:
        yield
    finally:
        random.setstate(before)
