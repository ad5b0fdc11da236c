"""Is the process that wrote a file still alive? What killed processes left may be removed, what live ones use not."""

import platform
import re

import psutil


def host_name() -> str:
    """This host's name with nothing in it that could end a part of a file name."""
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "host"


def is_gone(host: object, pid: object, seen_at: float) -> bool:
    """Whether the process that was `pid` on `host` at the time `seen_at` is known to have ended.

    Of a process on another host nothing is known, and so it is taken to be alive.
    """
    if not isinstance(pid, int) or re.sub(r"[^A-Za-z0-9-]", "-", str(host)) != host_name():
        return False
    try:
        process = psutil.Process(pid)
        # The number may belong to a later process by now. A minute of slack: start times are rounded, clocks are set.
        return process.status() == psutil.STATUS_ZOMBIE or process.create_time() > seen_at + 60
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
