"""A store on object storage, or wherever fsspec can write: an upload is one request, so nothing is half-written.

The first of two writers wins by an exclusive create (on S3 `If-None-Match: *`, on GCS generation 0). Nothing is
renamed, and no listing is remembered: other processes publish too.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import fsspec

from algoprogress.results.files import ELSEWHERE, Entry, StoreError

_CONFLICTS = 5  # creates that are tried when somebody else is creating the same file


class RemoteFolder:
    """A folder behind a fsspec URL, such as s3://bucket/store."""

    # A beat is three requests, and an S3 request costs some 20 ms and a millionth of a dollar or five.
    beat_seconds, silent_seconds = 10.0, 90.0

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    @cached_property
    def _target(self) -> tuple[Any, str]:
        try:
            filesystem, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"Cannot open the store {self.url}: {str(error).rstrip('.')}; "
                f"install what fsspec needs for it, or {ELSEWHERE}."
            ) from error
        return filesystem, path.rstrip("/")

    @contextlib.contextmanager
    def _explained(self, action: str, name: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except FileNotFoundError as error:
            if action == "read":
                raise
            reason = str(error).rstrip(".")
            raise StoreError(
                f"Cannot {action} {self.url}/{name}: {reason}; create the bucket, or {ELSEWHERE}."
            ) from error
        except Exception as error:  # each back end has errors of its own
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise StoreError(
                f"Cannot {action} {self.url}/{name}: {reason}; "
                f"check the address, the credentials and the connection, or {ELSEWHERE}."
            ) from error

    def create(self, name: str, data: bytes, durable: bool = True) -> bool:
        filesystem, root = self._target
        with self._explained("write", name):
            for attempt in range(_CONFLICTS):
                try:
                    filesystem.pipe_file(f"{root}/{name}", data, mode="create")
                    return True
                except FileExistsError:
                    # The answer to an upload that succeeded can be lost; its repetition then finds the file there.
                    with contextlib.suppress(FileNotFoundError):
                        return bool(filesystem.cat_file(f"{root}/{name}") == data)
                    return False
                except OSError as error:  # S3 may answer two creates at once with 409: neither has happened
                    if "Conflict" not in f"{error} {error.__cause__}" or attempt == _CONFLICTS - 1:
                        raise
                    time.sleep(0.1 * 2**attempt)
        return False

    def replace(self, name: str, data: bytes, durable: bool = True) -> None:
        filesystem, root = self._target
        with self._explained("write", name):
            filesystem.pipe_file(f"{root}/{name}", data)

    def read(self, name: str) -> bytes:
        filesystem, root = self._target
        with self._explained("read", name):
            return filesystem.cat_file(f"{root}/{name}")

    def exists(self, name: str) -> bool:
        filesystem, root = self._target
        with self._explained("read", name):
            return filesystem.isfile(f"{root}/{name}")

    def _list(self, folder: str) -> list[dict[str, Any]]:
        filesystem, root = self._target
        with self._explained("read", folder):
            try:
                found = filesystem.ls(f"{root}/{folder}", detail=True)
            except FileNotFoundError:
                return []
        return sorted(found, key=lambda info: info["name"])

    def entries(self, folder: str) -> list[Entry]:
        found = []
        for info in self._list(folder):
            name = info["name"].rstrip("/").rsplit("/", 1)[-1]
            if info["type"] == "file" and not name.startswith("."):
                tags = ("ETag", "etag", "generation", "mtime", "LastModified", "last_modified", "updated", "created")
                modified = next((str(info[tag]) for tag in tags if info.get(tag)), "")
                found.append(Entry(name, int(info["size"] or 0), modified))
        return found

    def folders(self, folder: str) -> list[str]:
        return [
            info["name"].rstrip("/").rsplit("/", 1)[-1] for info in self._list(folder) if info["type"] == "directory"
        ]

    def move(self, name: str, to: str) -> None:
        self.create(to, self.read(name))
        self.remove(name)

    def remove(self, name: str) -> None:
        filesystem, root = self._target
        with self._explained("remove", name), contextlib.suppress(FileNotFoundError):
            filesystem.rm_file(f"{root}/{name}")

    def probe(self, data: bytes) -> None:
        name = f"runs/probe-{secrets.token_hex(8)}"
        self.create(name, data)
        self.remove(name)

    def leftovers(self) -> list[tuple[str, str, str, float]]:
        return []
