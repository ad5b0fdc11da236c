"""What a worker prints while it trains, in case the run fails: prints, warnings, and what C libraries write.

A worker's output streams are files already, whoever started it. So nothing is redirected: where they ended is noted
when a run begins, and what came after is read back when it fails.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

TAIL_BYTES = 16_384  # of each stream: the end is where the reason stands


class Worklog:
    """The output of this process from now on, as far as it goes to files."""

    def __init__(self) -> None:
        _flush()
        self._from = {descriptor: _size(descriptor) for descriptor in (1, 2)}

    def tail(self) -> str:
        """The end of what was printed since."""
        _flush()
        found, seen = [], set()
        for descriptor, begin in self._from.items():
            size = _size(descriptor)
            if begin is None or size is None or (inode := os.fstat(descriptor).st_ino) in seen:
                continue
            seen.add(inode)
            found.append(_read(descriptor, max(begin, size - TAIL_BYTES), size))
        return "".join(found)


def _size(descriptor: int) -> int | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _read(descriptor: int, begin: int, end: int) -> str:
    with contextlib.suppress(OSError):
        try:
            data = os.pread(descriptor, end - begin, begin)
        except OSError:  # open for writing only
            again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
            try:
                data = os.pread(again, end - begin, begin)
            finally:
                os.close(again)
        return data.decode("utf-8", "replace")
    return ""


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError, AttributeError):  # closed, or none
            stream.flush()
