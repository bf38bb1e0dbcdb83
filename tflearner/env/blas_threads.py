"""One thread for NumPy's matrix products while environments are stepped.

OpenBLAS wakes its threads for products that one thread finishes in a tenth of a
millisecond, and waits for them on a busy machine. 32 vector steps of 64 environments with
the default network took 855 ms, and 12 ms with one thread.
"""

import contextlib
import functools

import threadpoolctl


def one_blas_thread() -> contextlib.AbstractContextManager:
    """Returns a context in which NumPy's products run on the calling thread.

    The limit holds for the whole process. Leaving the context restores the former
    limit, after errors as well.
    """
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()  # Looks at all loaded libraries: 1 ms.
