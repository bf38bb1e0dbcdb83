"""One thread for NumPy's matrix products while environments are stepped.

OpenBLAS wakes its threads for products that one thread finishes in a tenth of a
millisecond, and waits for them on a busy machine. 32 vector steps of 64 environments with
the default network took 855 ms, and 12 ms with one thread.
"""

import functools

import threadpoolctl


@functools.cache
def controller() -> threadpoolctl.ThreadpoolController:
    """Returns what limits the threads of this process, made once: that takes 1 ms.

    `with controller().limit(limits=1, user_api="blas"):` keeps NumPy's products on the
    calling thread, in the whole process. Its end restores the former limit.
    """
    return threadpoolctl.ThreadpoolController()
