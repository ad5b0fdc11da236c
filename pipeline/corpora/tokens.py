"""Tokens on disk: one folder per corpus and tokenizer, memory-mapped by every run that uses them.

    <cache>/tokens/<corpus_sha256>-<tokenizer>/   train.bin, val.bin, test.bin   uint16 or uint32
                                                  train.npy, val.npy, test.npy   where each document starts
                                                  tokenizer.json                 of a trained tokenizer
                                                  tokens.json                    the sidecar

The stream of a split is its documents in one fixed permutation, each followed by the end of text, so that a run of D
tokens reads the first D tokens of what a longer one reads.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algoprogress.pipeline import tokenizers
from algoprogress.pipeline.corpora import store
from algoprogress.pipeline.corpora.base import SPLITS, CorpusError
from algoprogress.pipeline.corpora.cache import cache_root, publish, read_json, temporary_folder
from algoprogress.pipeline.corpora.shards import Shards
from algoprogress.pipeline.tokenizers import Tokenizer

FORMAT = 1  # of these folders; a higher number makes older ones be built again
BATCH = 1000  # documents encoded at a time


@dataclass(frozen=True)
class Tokens:
    """The tokens of one corpus in one tokenizer.

    `train`, `val` and `test` are memory-mapped and one-dimensional; `val_documents` holds where each document of `val`
    starts. `about` is the sidecar: counts per split, sources, licences, hashes. `vocab_size` is what a prediction
    chooses from: of images, which have `image_values` values each, the classes.
    """

    corpus: str
    corpus_sha256: str
    tokenizer: str
    tokenizer_sha256: str
    vocab_size: int
    eot: int
    train: NDArray[np.unsignedinteger]
    val: NDArray[np.unsignedinteger]
    test: NDArray[np.unsignedinteger]
    val_documents: NDArray[np.int64]
    test_documents: NDArray[np.int64]
    folder: Path
    about: dict[str, Any]
    image_values: int | None = None

    def epochs(self, tokens: float) -> float:
        """How often a run of that many tokens reads the train split; of an image only its values are read."""
        values = self.image_values
        return tokens / len(self.train) * (1 if values is None else (values + tokenizers.RECORD_ENDS) / values)

    def bytes_in(self, split: str, n_tokens: int | None = None) -> float:
        """UTF-8 bytes that the first `n_tokens` tokens of a split stand for; the end of a text stands for none.

        NaN when the tokenizer's vocabulary is not at hand (gpt2 shards without tiktoken).
        """
        token_bytes = self.open_tokenizer().token_bytes()
        if token_bytes is None:
            return float("nan")
        tokens = {"train": self.train, "val": self.val, "test": self.test}[split][:n_tokens]
        return int(np.bincount(tokens, minlength=self.vocab_size) @ token_bytes)

    def open_tokenizer(self) -> Tokenizer:
        """The tokenizer that made these tokens."""
        return tokenizers.load(self.tokenizer, self.folder)


def folder_of(corpus_sha256: str, tokenizer: str) -> Path:
    return cache_root() / "tokens" / f"{corpus_sha256[:20]}-{tokenizer}"


def sidecars() -> list[dict[str, Any]]:
    """The sidecars of all tokens on this machine."""
    found = [read_json(path) for path in sorted((cache_root() / "tokens").glob("[!.]*/tokens.json"))]
    return [about for about in found if about and about.get("format") == FORMAT]


def read(corpus: str, corpus_sha256: str, tokenizer: str) -> Tokens | None:
    """The tokens, if they have been written."""
    folder = folder_of(corpus_sha256, tokenizer)
    about = read_json(folder / "tokens.json")
    if about is None or about.get("format") != FORMAT or about["corpus_sha256"] != corpus_sha256:
        return None
    splits = {split: _mapped(folder / f"{split}.bin", about["dtype"]) for split in SPLITS}
    return Tokens(
        corpus=corpus,
        corpus_sha256=corpus_sha256,
        tokenizer=tokenizer,
        tokenizer_sha256=about["tokenizer_sha256"],
        vocab_size=about["vocab_size"],
        eot=about["eot"],
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        val_documents=np.load(folder / "val.npy"),
        test_documents=np.load(folder / "test.npy"),
        folder=folder,
        about=about,
        image_values=about.get("image_values"),
    )


def _mapped(path: Path, dtype: str) -> NDArray[np.unsignedinteger]:
    if not path.stat().st_size:  # an empty file cannot be mapped; test may be empty
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def write(corpus: dict[str, Any], name: str) -> None:
    """Tokenise a stored corpus, of which `corpus` is the sidecar. The caller holds the lock of the folder's name.

    Raises:
        CorpusError: the corpus is token shards that this tokenizer cannot have made, or a split comes out empty.
    """
    folder = folder_of(corpus["corpus_sha256"], name)
    shards = Shards(corpus["corpus"]) if corpus.get("shards") else None
    if shards and name not in tokenizers.FIXED:
        raise CorpusError(
            f"The corpus {shards.name} is token shards, which {name} did not make; use {' or '.join(tokenizers.FIXED)}."
        )
    trained = shards is None and tokenizers.fixed(name) is None
    tokenizer = tokenizers.build(name, store.read_documents(corpus["corpus_sha256"], "train") if trained else ())
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    with temporary_folder(folder.parent, folder.name) as temporary:
        tokenizers.save(tokenizer, temporary)
        splits = {}
        for split in SPLITS:
            documents: Iterable[NDArray[np.integer]]
            if shards:
                documents = shards.documents(split, tokenizer.vocab_size, tokenizer.eot)
            else:
                documents = _encoded(corpus["corpus_sha256"], split, tokenizer)
            splits[split] = _write_split(temporary, split, documents, tokenizer, dtype)
        for split in ("train", "val"):
            if not splits[split]["tokens"]:
                raise CorpusError(
                    f"The corpus {corpus['corpus']} has no tokens for {split}; name one of its files *{split}*.bin, or "
                    "give shards with more documents, each ending in the end of text."
                )
        about = {
            "format": FORMAT,
            "corpus": corpus["corpus"],
            "corpus_sha256": corpus["corpus_sha256"],
            "licence": corpus["licence"],
            "tokenizer": name,
            "tokenizer_sha256": tokenizer.sha256,
            "vocab_size": tokenizer.vocab_size,
            "eot": tokenizer.eot,
            "dtype": dtype.str,
            "image_values": tokenizer.values if isinstance(tokenizer, tokenizers.Pixels) else None,
            "splits": splits,
            "sources": corpus.get("sources", {}),
        }
        (temporary / "tokens.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
        publish(temporary, folder)


def _encoded(corpus_sha256: str, split: str, tokenizer: Tokenizer) -> Iterator[NDArray[np.integer]]:
    texts = store.read_documents(corpus_sha256, split)
    while batch := list(itertools.islice(texts, BATCH)):
        yield from tokenizer.encode_batch(batch)


def _write_split(
    folder: Path, split: str, documents: Iterable[NDArray[np.integer]], tokenizer: Tokenizer, dtype: np.dtype
) -> dict[str, Any]:
    starts: list[int] = []
    token_bytes = tokenizer.token_bytes()
    end_of_text = np.array([tokenizer.eot], dtype)
    sha256 = hashlib.sha256()
    n_tokens = n_bytes = 0
    with (folder / f"{split}.bin").open("wb") as file:
        for document in documents:
            tokens = np.concatenate([document.astype(dtype), end_of_text])
            starts.append(n_tokens)
            n_tokens += len(tokens)
            n_bytes += int(token_bytes[tokens].sum()) if token_bytes is not None else 0
            sha256.update(tokens.data)
            file.write(tokens.data)
    np.save(folder / f"{split}.npy", np.array(starts, np.int64))
    return {
        "documents": len(starts),
        "tokens": n_tokens,
        "bytes": None if token_bytes is None else n_bytes,
        "sha256": sha256.hexdigest(),
    }
