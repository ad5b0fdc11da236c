"""What a run reads: the tokens of a corpus, the same for every run that names the same corpus and tokenizer.

`open_tokens` is all that a trainer needs. A corpus is read, split and ordered once (corpora/store.py), tokenised once
(corpora/tokens.py), and kept in the user's cache folder or $ALGOPROGRESS_CACHE.
"""

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algoprogress.pipeline import tokenizers
from algoprogress.pipeline.corpora import built_in, find, store
from algoprogress.pipeline.corpora import tokens as token_folders
from algoprogress.pipeline.corpora.base import SPLITS, Corpus, CorpusError, CorpusUnavailable
from algoprogress.pipeline.corpora.cache import cache_root, exclusive, read_json, write_json
from algoprogress.pipeline.corpora.overlap import overlap_of
from algoprogress.pipeline.corpora.shards import Shards
from algoprogress.pipeline.corpora.tokens import Tokens

__all__ = [
    "CorpusError",
    "CorpusUnavailable",
    "ResolvedCorpus",
    "Tokens",
    "build",
    "check",
    "default_corpus",
    "list_corpora",
    "open_tokens",
    "overlap",
    "resolve",
]

REMEMBER_UNAVAILABLE = 3600  # seconds for which default_corpus does not ask pip for english again


@dataclass(frozen=True)
class ResolvedCorpus:
    """A corpus whose content is known. `path` is the folder of its documents, or the shards; `about` its sidecar."""

    name: str
    sha256: str
    path: Path
    about: dict[str, Any]


def resolve(corpus: str) -> ResolvedCorpus:
    """The corpus of that name or path, its documents read and stored if they are not yet.

    Raises:
        CorpusError: no such corpus or file, or one that cannot be used as it is.
        CorpusUnavailable: a built-in corpus that cannot be fetched now.
    """
    found = find(corpus)
    pointer = _pointer(found)
    known = _follow(corpus, pointer)
    if known is None:
        with exclusive(pointer.stem):
            known = _follow(corpus, pointer)
            if known is None:
                if isinstance(found, Shards):
                    about = {
                        "corpus": corpus,
                        "corpus_sha256": found.sha256(),
                        "licence": found.licence,
                        "shards": True,
                    }
                else:
                    about = store.write_documents(found, lock=pointer.stem)
                write_json(pointer, about)
                known = _follow(corpus, pointer)
    assert known is not None
    return known


def _pointer(found: Corpus | Shards) -> Path:
    """The file that says which corpus_sha256 a name or path stood for when it was last read."""
    key = hashlib.sha256(json.dumps([store.FORMAT, found.name, found.fingerprint()]).encode()).hexdigest()[:20]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", Path(found.name).name)[:40]
    return cache_root() / "corpora" / f"{readable}-{key}.json"


def _follow(corpus: str, pointer: Path) -> ResolvedCorpus | None:
    about = read_json(pointer)
    if about is None:
        return None
    sha256 = about["corpus_sha256"]
    if about.get("shards"):
        return ResolvedCorpus(corpus, sha256, Path(corpus).expanduser(), about)
    return ResolvedCorpus(corpus, sha256, store.folder_of(sha256), about) if store.sidecar(sha256) else None


def open_tokens(corpus: str, corpus_sha256: str | None = None, tokenizer: str = "bytes") -> Tokens:
    """The tokens of a corpus, made first if need be; processes that ask at once share one copy.

    Args:
        corpus: a name, or the path of text or token shards.
        corpus_sha256: the content that is meant; None takes whatever the corpus holds now.
        tokenizer: `bytes`, `bpe-<V>`, or `gpt2`.

    Raises:
        CorpusError: see `resolve`; or the corpus has changed since `corpus_sha256` was noted.
        ValueError: no such tokenizer.
    """
    tokenizers.check_name(tokenizer)
    ready = token_folders.read(corpus, corpus_sha256, tokenizer) if corpus_sha256 else None
    if ready is None:
        resolved = resolve(corpus)
        if corpus_sha256 and resolved.sha256 != corpus_sha256:
            raise CorpusError(
                f"The corpus {corpus} has changed: it was {corpus_sha256[:20]} and is now {resolved.sha256[:20]}; "
                "bring back the old text, or plan the study again on the new one."
            )
        ready = token_folders.read(corpus, resolved.sha256, tokenizer)
        if ready is None:
            with exclusive(token_folders.folder_of(resolved.sha256, tokenizer).name):
                if token_folders.read(corpus, resolved.sha256, tokenizer) is None:
                    token_folders.write(resolved.about, tokenizer)
            ready = token_folders.read(corpus, resolved.sha256, tokenizer)
    assert ready is not None
    return ready


def default_corpus(warn: Callable[[str], None] | None = None) -> str:
    """`english`, or `python` where english cannot be fetched, which is then said with `warn` (by default on stderr)."""
    note = cache_root() / "corpora" / "english-unavailable.json"
    noted = read_json(note)
    if noted and 0 <= time.time() - noted["at"] < REMEMBER_UNAVAILABLE and not _is_stored("english"):
        reason = noted["reason"]
    else:
        try:
            return resolve("english").name
        except CorpusUnavailable as error:
            reason = str(error)
            with exclusive(note.stem):
                write_json(note, {"at": time.time(), "reason": reason})
    message = f"{reason} The corpus python is used instead; `algoprogress corpus build english` tries again."
    if warn:
        warn(message)
    else:
        print(message, file=sys.stderr)
    return "python"


def _is_stored(name: str) -> bool:
    return _follow(name, _pointer(built_in()[name])) is not None


def overlap(corpus: str, n: int = 13) -> dict[str, Any]:
    """How much of val is in train: the share of its documents and of its n-grams of words that are there too."""
    resolved = resolve(corpus)
    if resolved.about.get("shards"):
        raise CorpusError(f"The corpus {corpus} is token shards without text; overlap is checked on text.")
    train, val = (store.read_documents(resolved.sha256, split) for split in ("train", "val"))
    return {"corpus": corpus, "corpus_sha256": resolved.sha256, **overlap_of(train, val, n)}


def build(corpus: str, tokenizer: str = "bytes") -> dict[str, Any]:
    """Make the tokens of a corpus, if they are not there yet.

    Returns:
        The sidecar, with `folder`, where the tokens are.
    """
    tokens = open_tokens(corpus, None, tokenizer)
    return {**tokens.about, "folder": str(tokens.folder)}


def check(corpus: str, tokenizer: str = "bytes") -> dict[str, Any]:
    """Hash the tokens again, compare with the sidecar, and look for val in train.

    Returns:
        {corpus, corpus_sha256, tokenizer, tokenizer_sha256, ok, problems: [sentence], overlap: dict, None for shards}
    """
    resolved = resolve(corpus)
    tokens = open_tokens(corpus, resolved.sha256, tokenizer)
    damaged = []
    for split in SPLITS:
        with (tokens.folder / f"{split}.bin").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != tokens.about["splits"][split]["sha256"]:
                damaged.append(file.name)
    if tokens.open_tokenizer().sha256 != tokens.tokenizer_sha256:
        damaged.append(str(tokens.folder / tokenizers.FILE))
    remedy = f"delete the folder {tokens.folder} and build the corpus again."
    return {
        "corpus": corpus,
        "corpus_sha256": tokens.corpus_sha256,
        "tokenizer": tokenizer,
        "tokenizer_sha256": tokens.tokenizer_sha256,
        "ok": not damaged,
        "problems": [f"{path} is not what its sidecar says; {remedy}" for path in damaged],
        "overlap": None if resolved.about.get("shards") else overlap(corpus),
    }


def list_corpora() -> list[dict[str, Any]]:
    """One row per corpus and tokenizer that is built on this machine, and one for each built-in corpus that is not.

    Returns:
        Rows {name, licence, description, built, tokenizer, documents, tokens (of train), corpus_sha256}.
    """
    rows = [_row(about) for about in token_folders.sidecars()]
    built = {row["name"] for row in rows}
    nothing = {"built": False, "tokenizer": None, "documents": None, "tokens": None, "corpus_sha256": None}
    for name, corpus in built_in().items():
        if name not in built:
            rows.append({"name": name, "licence": corpus.licence, "description": corpus.description, **nothing})
    order = {name: place for place, name in enumerate(built_in())}
    return sorted(rows, key=lambda row: (order.get(row["name"], len(order)), row["name"], row["tokenizer"] or ""))


def _row(about: dict[str, Any]) -> dict[str, Any]:
    known = built_in().get(about["corpus"])
    return {
        "name": about["corpus"],
        "licence": about["licence"],
        "description": known.description if known else "your own",
        "built": True,
        "tokenizer": about["tokenizer"],
        "documents": sum(split["documents"] for split in about["splits"].values()),
        "tokens": about["splits"]["train"]["tokens"],
        "corpus_sha256": about["corpus_sha256"],
    }
