"""What a worker process sets up once before it trains on a device."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from functools import cache


@cache
def prepare(device: str) -> None:
    """Keep freed memory inside the process: else each step asks the system for the same pages again."""
    if device == "cpu" and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            # mallopt's parameters from malloc.h: M_MMAP_THRESHOLD -3, M_TRIM_THRESHOLD -1, M_TOP_PAD -2
            libc.mallopt(-3, 1 << 30)
            libc.mallopt(-1, (1 << 31) - 1)
            libc.mallopt(-2, 64 << 20)
