"""Token shards made elsewhere: nanoGPT's headerless uint16 `.bin` and llm.c's `.bin` with its header of 256 int32.

A shard does not say which tokenizer made it: the study names it (`gpt2` for both tools' own scripts, or `bytes`). A
file with train, val or test in its name is that split; the documents of other files, which end at the tokenizer's end
of text, are split by the hash of their tokens. Shards keep their order: their makers have shuffled them.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from algoprogress.pipeline.corpora.base import CorpusError, split_of

# llm.c, dev/data/data_common.py: uint16 tokens after 256 int32, of which the first are magic, version, number of tokens
LLMC_MAGIC = 20240520
LLMC_HEADER_BYTES = 256 * 4


@dataclass(frozen=True)
class Shards:
    """A corpus that is tokens already."""

    name: str
    licence = "not stated"
    description = "token shards"

    @property
    def files(self) -> list[Path]:
        path = Path(self.name).expanduser()
        return [path] if path.is_file() else sorted(path.glob("*.bin"))

    def fingerprint(self) -> str:
        stats = [(str(file.resolve()), file.stat()) for file in self.files]
        return json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])

    def sha256(self) -> str:
        """sha256 over (split that the name says, tokens) of all files in order."""
        whole = hashlib.sha256()
        for file in self.files:
            tokens = read_tokens(file)
            whole.update(f"{split_named(file)} {len(tokens)} ".encode())
            whole.update(tokens.data)
        return whole.hexdigest()

    def documents(self, split: str, vocab_size: int, eot: int) -> Iterator[NDArray[np.uint16]]:
        """The documents of a split as tokens, without the end of text."""
        for file in self.files:
            named = split_named(file)
            if named is not None and named != split:
                continue
            for tokens in _documents(read_tokens(file), file, vocab_size, eot):
                if named or split_of(hashlib.sha256(tokens.tobytes()).hexdigest()[:20]) == split:
                    yield tokens


def is_shards(path: Path) -> bool:
    return path.suffix == ".bin" if path.is_file() else any(path.glob("*.bin"))


def corpus(name: str) -> Shards:
    return Shards(name)


def split_named(file: Path) -> str | None:
    """The split that a file's name says: `train.bin`, `fineweb_val_000000.bin`."""
    found = re.search(r"(?:^|[^a-z])(train|val|test)(?:[^a-z]|$)", file.stem.lower())
    return found[1] if found else None


def read_tokens(file: Path) -> NDArray[np.uint16]:
    """The tokens of one shard, memory-mapped.

    Raises:
        CorpusError: the file cannot be read, is empty, cut short, or of an odd number of bytes.
    """
    try:
        return _mapped(file)
    except OSError as error:
        raise CorpusError(f"The token shard {file} cannot be read ({error.strerror}); check it.") from error


def _mapped(file: Path) -> NDArray[np.uint16]:
    size = file.stat().st_size
    if not size:
        raise CorpusError(f"The token shard {file} is empty; write it again, or remove it.")
    offset = 0
    if size >= LLMC_HEADER_BYTES:
        magic, _version, n_tokens = (int(x) for x in np.fromfile(file, dtype="<i4", count=3))
        if magic == LLMC_MAGIC:
            offset = LLMC_HEADER_BYTES
            if size != offset + 2 * n_tokens:
                raise CorpusError(
                    f"The token shard {file} is cut short: its header says {n_tokens} tokens, its size says "
                    f"{(size - offset) // 2}; write it again."
                )
            if not n_tokens:
                raise CorpusError(f"The token shard {file} has no tokens; write it again, or remove it.")
    if size % 2:
        raise CorpusError(f"The token shard {file} has {size} bytes, which is not a number of uint16; write it again.")
    return np.memmap(file, dtype="<u2", mode="r", offset=offset)


def _documents(tokens: NDArray[np.uint16], file: Path, vocab_size: int, eot: int) -> Iterator[NDArray[np.uint16]]:
    largest = int(tokens.max())
    if largest >= vocab_size:
        raise CorpusError(
            f"The token shard {file} has the token {largest}, outside the tokenizer's {vocab_size}; name the tokenizer "
            "that made the shard, such as gpt2."
        )
    ends = np.flatnonzero(tokens == eot)
    starts = np.concatenate([[0], ends + 1])
    for start, end in zip(starts, np.append(ends, len(tokens)), strict=True):
        if end > start:
            yield tokens[start:end]
