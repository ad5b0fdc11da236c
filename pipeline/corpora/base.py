"""What a corpus is: documents with a fixed identity, a fixed split and a fixed place in the order.

Everything that decides which text a run trains on, and which text it is scored on, is in this file. It depends on a
document's id and text alone, never on the machine, the tokenizer or the other documents, so it stays as it is for ever:
changing a constant here changes every corpus_sha256.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# 92 % train, 4 % val, 4 % test, in parts of 100 (ours: 4 % of 8 MB is still enough to score a model to 0.01 nats/token)
TEST_PARTS, VAL_PARTS = 4, 4
SPLIT_SALT = b"algoprogress split 1:"
ORDER_SALT = b"algoprogress order 1:"

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}


class CorpusError(ValueError):
    """A corpus that cannot be used as it is; the message says which, why and what to do."""


class CorpusUnavailable(CorpusError):
    """A built-in corpus whose files cannot be fetched here and now."""


@dataclass(frozen=True)
class Document:
    """One text. Without an id, the sha256 of the text is its id; without a split, the id decides."""

    text: str
    id: str | None = None
    split: str | None = None
    source: str = ""
    licence: str = "not stated"


@dataclass(frozen=True)
class Corpus:
    """Where documents come from. `fingerprint` is cheap and changes whenever `documents` would give something else."""

    name: str
    description: str
    licence: str
    fingerprint: Callable[[], str]
    documents: Callable[[], Iterator[Document]]


def clean(text: str) -> str:
    """Unix line ends, no NUL, no byte-order mark, no lone surrogates, no white space around; nothing else is touched.

    A CRLF left in place defeats de-duplication and the search for blank lines without a sound.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").removeprefix("\ufeff").strip()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON may carry half a surrogate pair, which no UTF-8 file can hold
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def document_id(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:20]


def split_of(id: str) -> Split:
    """The split that a document's id decides, the same in every corpus and on every machine."""
    part = int.from_bytes(hashlib.sha256(SPLIT_SALT + id.encode("utf-8")).digest()[:8], "big") % 100
    if part < TEST_PARTS:
        return "test"
    return "val" if part < TEST_PARTS + VAL_PARTS else "train"


def named_split(name: str, where: str) -> Split:
    """The split that a document names for itself."""
    if name.lower() not in SPLIT_NAMES:
        known = ", ".join(sorted(SPLIT_NAMES))
        raise CorpusError(f"{where} names the split {name!r}; write one of {known}, or leave it out.")
    return SPLIT_NAMES[name.lower()]


def order_key(id: str) -> bytes:
    """Documents sorted by this key are in the one fixed permutation."""
    return hashlib.sha256(ORDER_SALT + id.encode("utf-8")).digest()
