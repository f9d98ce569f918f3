"""Keep the memory that a training step frees, for the next step.

glibc gives every large block that is freed back to the system at once. A step frees and asks for
the same hundreds of megabytes again, and the system hands them out in pages that it has to clear
first: on a CPU a tenth to a half of the time of a step (speed.md). Nothing but the process's own
memory is affected.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed blocks for the life of this process; False where it has
    no such switch.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl does not
    return (
        mallopt is not None and mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1
    )
