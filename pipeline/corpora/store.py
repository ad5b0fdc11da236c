"""The documents of a corpus on disk: read once from wherever they come, cleaned, split, put in their order, hashed.

<cache>/documents/<corpus_sha256>/text.bin      the texts as UTF-8, one after another
                                  index.jsonl   id, split, source and place of each, in the fixed permutation
                                  corpus.json   the sidecar: counts, sources, licences, corpus_sha256
"""

import hashlib
import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algoprogress.pipeline.corpora.base import (
    SPLITS,
    Corpus,
    CorpusError,
    clean,
    document_id,
    named_split,
    order_key,
    split_of,
)
from algoprogress.pipeline.corpora.cache import cache_root, exclusive, publish, read_json, temporary_folder

FORMAT = 1  # of these files; a higher number makes older ones be built again


def folder_of(sha256: str) -> Path:
    return cache_root() / "documents" / sha256[:20]


def sidecar(sha256: str) -> dict[str, Any] | None:
    """What is known about a stored corpus; None when it is not there."""
    found = read_json(folder_of(sha256) / "corpus.json")
    return found if found and found.get("format") == FORMAT and found.get("corpus_sha256") == sha256 else None


def write_documents(corpus: Corpus, lock: str) -> dict[str, Any]:
    """Read a corpus from its source and store its documents. The caller holds `lock`.

    Returns:
        The sidecar.

    Raises:
        CorpusError: the source cannot be read, has no text, or too few documents to leave any for validation.
    """
    with temporary_folder(cache_root() / "documents", lock) as folder:
        entries, sources, n_duplicates = _write_text(corpus, folder / "text.bin")
        splits: dict[str, dict[str, int]] = {split: {"documents": 0, "bytes": 0} for split in SPLITS}
        for entry in entries:
            splits[entry["split"]]["documents"] += 1
            splits[entry["split"]]["bytes"] += entry["bytes"]
        _refuse_if_too_small(corpus.name, splits)
        entries.sort(key=lambda entry: (order_key(entry["id"]), entry["start"]))
        sha256 = _hash(entries, folder / "text.bin")
        with (folder / "index.jsonl").open("w", encoding="utf-8") as index:
            for entry in entries:
                index.write(json.dumps(entry, ensure_ascii=False) + "\n")
        about = {
            "format": FORMAT,
            "corpus": corpus.name,
            "corpus_sha256": sha256,
            "licence": corpus.licence,
            "documents": len(entries),
            "duplicates_dropped": n_duplicates,
            "splits": splits,
            "sources": sources,
        }
        (folder / "corpus.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
        with exclusive(sha256[:20]):  # two paths may hold the same text
            if sidecar(sha256) is None:
                publish(folder, folder_of(sha256))
    return about


def read_documents(sha256: str, split: str) -> Iterator[str]:
    """The texts of one split of a stored corpus, in the fixed permutation."""
    folder = folder_of(sha256)
    with (
        (folder / "index.jsonl").open(encoding="utf-8") as index,
        (folder / "text.bin").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
    ):
        for line in index:
            entry = json.loads(line)
            if entry["split"] == split:
                yield text[entry["start"] : entry["start"] + entry["bytes"]].decode("utf-8")


def image_facts(name: str, sha256: str) -> tuple[int, int]:
    """(classes, values of an image) of a stored corpus of images.

    Raises:
        CorpusError: it holds something else.
    """
    classes = values = 0
    for split in SPLITS:
        for text in read_documents(sha256, split):
            label, _, digits = text.partition(" ")
            if not label.isdecimal() or len(label) > 5 or not digits.isalnum():
                raise CorpusError(f"The corpus {name} holds no images; use digits or images:<folder>@<pixels>.")
            classes, values = max(classes, int(label) + 1), len(digits) // 2
    return classes, values


def _write_text(corpus: Corpus, path: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]], int]:
    entries: list[dict[str, Any]] = []
    sources: dict[str, dict[str, Any]] = {}
    seen: set[bytes] = set()
    n_duplicates = start = 0
    with path.open("wb") as file:
        for document in corpus.documents():
            text = clean(document.text)
            data = text.encode("utf-8")
            digest = hashlib.sha256(data).digest()[:16]
            if not data or digest in seen:
                n_duplicates += bool(data)
                continue
            seen.add(digest)
            id = document.id or document_id(text)
            split = split_of(id)
            if document.split:
                split = named_split(document.split, f"A document of the corpus {corpus.name} (id {id})")
            source = document.source or corpus.name
            entries.append({"id": id, "split": split, "source": source, "start": start, "bytes": len(data)})
            file.write(data)
            start += len(data)
            count = sources.setdefault(source, {"documents": 0, "bytes": 0, "licence": document.licence})
            count["documents"] += 1
            count["bytes"] += len(data)
    return entries, sources, n_duplicates


def _refuse_if_too_small(name: str, splits: dict[str, dict[str, int]]) -> None:
    total = sum(split["documents"] for split in splits.values())
    if not total:
        raise CorpusError(f"The corpus {name} holds no text; give a file or folder with some.")
    for split in ("train", "val"):
        if not splits[split]["documents"]:
            raise CorpusError(
                f"The corpus {name} has only {total} documents, of which none falls to {split}; give more documents "
                "(a few hundred), or name each document's split in a .jsonl field `split`."
            )


def _hash(entries: list[dict[str, Any]], path: Path) -> str:
    """sha256 over (id, split, text) of all documents in order, each with its length before it."""
    whole = hashlib.sha256()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for entry in entries:
            data = text[entry["start"] : entry["start"] + entry["bytes"]]
            for field in (entry["id"].encode("utf-8"), entry["split"].encode("utf-8"), data):
                whole.update(len(field).to_bytes(8, "big"))
                whole.update(field)
    return whole.hexdigest()
