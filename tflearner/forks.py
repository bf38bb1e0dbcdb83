"""Detects processes that were forked after TensorFlow was used.

TensorFlow's threads exist only in the parent, so a call in the child would hang.
"""

import os
import sys

from tflearner.errors import ForkedProcessError

has_lost_threads = False


def check(where: str) -> None:
    """Raises `ForkedProcessError` in a process in which TensorFlow would hang.

    Args:
        where: The call that needs TensorFlow.
    """
    if has_lost_threads:
        raise ForkedProcessError(
            where,
            "a process that was forked after TensorFlow was used",
            "a newly started process",
            'multiprocessing.get_context("spawn") makes such processes',
        )


def _after_fork() -> None:
    global has_lost_threads
    # A private attribute, since every public function for this starts TensorFlow.
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    has_lost_threads |= bool(getattr(context, "_initialized", False))


os.register_at_fork(after_in_child=_after_fork)
