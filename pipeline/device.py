"""What a worker process sets up once before it trains on a device: where its memory comes from."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
from functools import cache

# mallopt's parameters, from malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
HEAP = 1 << 29  # bytes; several times what a step of a small model uses. It costs address space, no memory
HUGE_PAGE = 1 << 21


@cache
def prepare(device: str) -> None:
    """Keep freed memory inside the process, and in large pages.

    Otherwise each step asks the system for the pages of its large tensors again, and the processor looks up the place
    of 4 KiB at a time.
    """
    if device == "cpu" and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
            libc.mallopt(M_TOP_PAD, 64 << 20)
            libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
            libc.free.argtypes = [ctypes.c_void_p]
            libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
            heap = libc.malloc(HEAP)
            if heap:
                libc.free(heap)  # it stays the process's: the next tensors lie there
                first = -(-heap // HUGE_PAGE) * HUGE_PAGE
                libc.madvise(first, HEAP - (first - heap), mmap.MADV_HUGEPAGE)
