"""Let the C library keep the memory that a training step frees, for the next step.

By default glibc returns every large freed block to the system at once. A training step frees and
requests the same hundreds of megabytes again and again, and each time the system hands out pages
that it has to clear first: on a CPU about a tenth of the time of a step (speed.md). Only this
process's memory is affected.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def disable_malloc_trim() -> bool:
    """Keep freed blocks for the life of this process; False if the C library has no such switch."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl does not
    return (
        mallopt is not None and mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1
    )
