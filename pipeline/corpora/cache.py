"""The folder in which corpora and token shards are kept, so that a text is read and tokenised once on a machine.

A folder in the cache is whole or it is not there: it is written under another name, under a lock, and renamed when it
is finished. A builder that is killed leaves only a temporary folder, which the next builder removes.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_dir

from algoprogress.pipeline.corpora.base import CorpusError


def cache_root() -> Path:
    """$ALGOPROGRESS_CACHE, or the user's cache folder."""
    return Path(os.environ.get("ALGOPROGRESS_CACHE") or user_cache_dir("algoprogress")).expanduser()


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock `name`: one builder at a time; the others wait and then find the work done."""
    with _explained(), contextlib.ExitStack() as stack:
        locks = cache_root() / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        stack.enter_context(FileLock(locks / f"{name}.lock"))
        yield


@contextlib.contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder beside its final place, removed at the end. Call it only while holding the lock `name`."""
    with _explained():
        parent.mkdir(parents=True, exist_ok=True)
        for abandoned in parent.glob(f".{name}.*.tmp"):  # of a builder that was killed: nobody else holds the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".tmp", dir=parent))
        folder.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, final: Path) -> None:
    """Give a finished folder its name, in place of a damaged or outdated one. Call it only while holding its lock."""
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if final.exists():
        shutil.rmtree(final)
    folder.rename(final)


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file in one step. Call it only while holding the lock that goes with the file."""
    with _explained():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(content, file, indent=1, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of the cache; None when it is not there or not readable as such."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(
            f"The corpus cache {cache_root()} cannot be written ({reason}); free some space, make it writable, or set "
            "ALGOPROGRESS_CACHE to another folder."
        ) from error
