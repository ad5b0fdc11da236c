"""How bytes reach a store: whole or not at all, and never over an earlier result.

A folder on this machine (or on a shared file system) and a fsspec URL offer the same few operations. Names inside a
store are relative and use forward slashes.
"""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from algoprogress.results.processes import MARK, host_name, process_mark


class StoreError(OSError):
    """The store can not be read or written. The message is one sentence that names the path and says what to do."""


class Entry(NamedTuple):
    """A file in a listing. `modified`, a time stamp or tag, changes when the content does; it is not to be compared."""

    name: str
    size: int
    modified: str


class Folder(Protocol):
    """What the store needs of a place to keep files."""

    url: str
    beat_seconds: float  # between two heartbeats of a claim
    silent_seconds: float  # after that long without one, another process may take the run over

    # first wins; False when the file was already there. What is not durable may be gone after a power cut.
    def create(self, name: str, data: bytes, durable: bool = True) -> bool: ...
    def replace(self, name: str, data: bytes, durable: bool = True) -> None: ...
    def read(self, name: str) -> bytes: ...  # FileNotFoundError if there is none
    def exists(self, name: str) -> bool: ...
    def entries(self, folder: str) -> list[Entry]: ...  # files, without dot files; empty when there is no such folder
    def folders(self, folder: str) -> list[str]: ...
    def move(self, name: str, to: str) -> None: ...
    def remove(self, name: str) -> None: ...  # nothing happens if there is none
    def probe(self, data: bytes) -> None: ...  # StoreError if `data` could not be published
    def leftovers(
        self,
    ) -> list[tuple[str, str, str, float]]: ...  # temporary files: name, host, the writer's mark, time written


ELSEWHERE = "choose another store with --store or ALGOPROGRESS_STORE"
_ADVICE = {
    errno.ENOSPC: f"the disk is full; free some space, or {ELSEWHERE}",
    errno.EDQUOT: f"the disk quota is used up; free some space, or {ELSEWHERE}",
    errno.EFBIG: f"the file would be larger than this process may write; raise the limit (ulimit -f), or {ELSEWHERE}",
    errno.EROFS: f"the file system is read-only; mount it for writing, or {ELSEWHERE}",
    errno.EACCES: f"permission is denied; change the folder's permissions, or {ELSEWHERE}",
    errno.EPERM: f"the operation is not permitted; change the folder's permissions, or {ELSEWHERE}",
    errno.ENOTDIR: f"a part of that path is a file and not a folder; {ELSEWHERE}",
    errno.EEXIST: f"a part of that path is a file and not a folder; {ELSEWHERE}",
    errno.ENOENT: f"a folder on that path has disappeared; try again, or {ELSEWHERE}",
    errno.ENAMETOOLONG: "the name is too long for this file system; use a shorter one",
}


def _store_error(action: str, path: object, error: OSError) -> StoreError:
    reason = _ADVICE.get(
        error.errno or 0, f"{error.strerror or error}; check the disk or the connection, or {ELSEWHERE}"
    )
    explained = StoreError(f"Cannot {action} {path}: {reason}.")
    explained.errno = error.errno
    return explained


@contextlib.contextmanager
def _explained(action: str, path: object) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise _store_error(action, path, error) from error


class LocalFolder:
    """A folder on a file system of this machine, or one that several machines share."""

    _TEMPORARY = re.compile(rf"\..+\.(?P<host>[A-Za-z0-9-]+)\.(?P<mark>{MARK.pattern})\.[0-9a-f]{{8}}\.tmp")
    # A beat is a file of 300 bytes. Thirty missed ones are no hiccup of a disk, and cost a lost run half a minute.
    beat_seconds, silent_seconds = 1.0, 30.0

    def __init__(self, path: str | Path):
        self.path = Path(os.path.abspath(Path(path).expanduser()))  # workers of a cluster have other working folders
        self.url = str(self.path)

    @staticmethod
    def _temporary(path: Path) -> Path:
        return path.with_name(f".{path.name}.{host_name()}.{process_mark()}.{secrets.token_hex(4)}.tmp")

    @contextlib.contextmanager
    def _staged(self, path: Path, data: bytes, durable: bool) -> Iterator[Path]:
        """A temporary file beside `path` that holds `data` and is gone afterwards, whatever happens."""
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = self._temporary(path)
        try:
            with open(staged, "xb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            yield staged
        finally:
            with contextlib.suppress(OSError):
                staged.unlink(missing_ok=True)

    @staticmethod
    def _link(staged: Path, path: Path) -> None:
        try:
            os.link(staged, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            raise StoreError(
                f"Cannot write {path}: its file system has no hard links, "
                f"by which the first of two processes wins; {ELSEWHERE}."
            ) from error

    @staticmethod
    def _sync_names(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def create(self, name: str, data: bytes, durable: bool = True) -> bool:
        path = self.path / name
        with _explained("write", path):
            if path.exists():
                return False
            with self._staged(path, data, durable) as staged:
                try:
                    self._link(staged, path)
                except FileExistsError:
                    # On NFS the answer to a link that succeeded can be lost; its repetition then finds the file there.
                    if os.stat(staged).st_nlink == 1:
                        return False
            if durable:
                self._sync_names(path.parent)
        return True

    def replace(self, name: str, data: bytes, durable: bool = True) -> None:
        path = self.path / name
        with _explained("write", path), self._staged(path, data, durable) as staged:
            os.replace(staged, path)
            if durable:
                self._sync_names(path.parent)

    def read(self, name: str) -> bytes:
        path = self.path / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _store_error("read", path, error) from error

    def exists(self, name: str) -> bool:
        return (self.path / name).exists()

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        path = self.path / folder
        with _explained("read", path):
            try:
                with os.scandir(path) as found:
                    return [entry for entry in found if entry.name[0] != "."]
            except FileNotFoundError:
                return []

    def entries(self, folder: str) -> list[Entry]:
        found = []
        for entry in self._scan(folder):
            try:
                if entry.is_file():
                    status = entry.stat()
                    found.append(Entry(entry.name, status.st_size, str(status.st_mtime_ns)))
            except FileNotFoundError:  # removed since the listing
                continue
        found.sort(key=itemgetter(0))  # after `stat`, which is quicker in the order of the directory
        return found

    def folders(self, folder: str) -> list[str]:
        return sorted(entry.name for entry in self._scan(folder) if entry.is_dir())

    def move(self, name: str, to: str) -> None:
        path = self.path / to
        with _explained("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).rename(path)

    def remove(self, name: str) -> None:
        path = self.path / name
        with _explained("remove", path):
            path.unlink(missing_ok=True)

    def probe(self, data: bytes) -> None:
        path = self.path / "runs" / "probe"
        with _explained("write", path.parent), self._staged(path, data, durable=True) as staged:
            linked = self._temporary(path)
            self._link(staged, linked)
            linked.unlink()

    def leftovers(self) -> list[tuple[str, str, str, float]]:
        found = []
        for folder, _, names in os.walk(self.path):
            for name in sorted(names):
                match = self._TEMPORARY.fullmatch(name)
                if match is None:
                    continue
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    written = path.stat().st_mtime
                    found.append((path.relative_to(self.path).as_posix(), match["host"], match["mark"], written))
        return found


def check_url(url: str) -> None:
    """Refuses an address with a password, which would be shown wherever the store is named: claims, logs, messages.

    Raises:
        ValueError: it has one, which the message does not repeat.
    """
    if re.search(r"://[^/\s@:]+:(?!\d+/)[^\s@]+@", url):
        raise ValueError(
            "the store's URL holds a key or password before its '@', and it would be shown in logs: leave that out, "
            "and give credentials by the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )


def open_folder(url: str | Path) -> Folder:
    """The folder at a path or URL; touches neither disk nor network. A path or a file:// URL never goes to fsspec.

    Raises:
        ValueError: the URL has a password in it.
    """
    from algoprogress.results.remote import RemoteFolder  # it needs this module; fsspec is only for URLs

    text = str(url)
    if text.startswith("file://"):
        return LocalFolder(text.removeprefix("file://"))
    check_url(text)
    return RemoteFolder(text) if "://" in text else LocalFolder(text)
