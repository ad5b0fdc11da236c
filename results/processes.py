"""Is the process that wrote a file still alive? What killed processes left may be removed, what live ones use not.

A process is named by its host, its process-id name space (a container has its own), its number, and when it began in
ticks since boot. No clock that can be set is asked: a number that was given to a later process is told apart, and
neither a jump of the clock nor two hosts whose clocks differ make a live process look dead.
"""

import os
import platform
import re
from pathlib import Path

import psutil

MARK = re.compile(r"(\d+)-(\d+)-(\d+)")  # name space, process id, ticks


def host_name() -> str:
    """This host's name with nothing in it that could end a part of a file name."""
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "host"


def _name_space() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _began(pid: int) -> int:
    """When a process began, in ticks since boot where the system says so. Raises psutil.NoSuchProcess."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(line.rpartition(")")[2].split()[19])  # field 22 of proc(5); the name before it may hold anything
    except (OSError, ValueError, IndexError):
        return int(psutil.Process(pid).create_time() * 100)


def process_mark() -> str:
    """What tells this process from every other one of this host, past and future."""
    return f"{_name_space()}-{os.getpid()}-{_began(os.getpid())}"


def is_gone(host: object, mark: object) -> bool:
    """Whether the process of that mark on that host is known to have ended.

    Of a process on another host, or in another container, nothing is known, and so it is taken to be alive.
    """
    found = MARK.fullmatch(mark) if isinstance(mark, str) else None
    if found is None or host != host_name() or int(found[1]) != _name_space():
        return False
    pid, began = int(found[2]), int(found[3])
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE or _began(pid) != began
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
