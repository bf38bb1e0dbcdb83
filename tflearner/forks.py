"""Processes that were forked when TensorFlow was in use cannot compute with it.

Its threads stay in the parent, and a call in the child would wait for them for ever.
"""

import os
import sys

from tflearner.errors import ForkedProcessError

_has_lost_threads = False


def check(where: str) -> None:
    """Raises `ForkedProcessError` in a process in which TensorFlow would hang.

    Args:
        where: The call that needs TensorFlow.
    """
    if _has_lost_threads:
        raise ForkedProcessError(
            where,
            "a process that was forked after TensorFlow was used",
            "a process that is started anew",
            'multiprocessing.get_context("spawn") makes such processes',
        )


def _after_fork() -> None:
    global _has_lost_threads
    # Private, since every public function that could tell starts TensorFlow.
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    _has_lost_threads |= bool(getattr(context, "_initialized", False))


os.register_at_fork(after_in_child=_after_fork)
