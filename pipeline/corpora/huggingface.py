"""Data sets of the Hugging Face Hub, streamed: `hf:<data set>[:<configuration>][@<size>]`.

    hf:HuggingFaceFW/fineweb:sample-10BT@2GB     the first 2 GB of text of FineWeb's sample of 10 billion tokens
    hf:allenai/c4:en@500MB
    hf:Skylion007/openwebtext                    all of it

They need `pip install 'algoprogress[hf]'` and a connection. Without a size the whole data set is read and stored.
"""

import re
from collections.abc import Iterator
from typing import Any

from algoprogress.pipeline.corpora.base import Corpus, CorpusError, CorpusUnavailable, Document

PREFIX = "hf:"
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
DEFAULT_CONFIGURATION = {"HuggingFaceFW/fineweb": "sample-10BT", "allenai/c4": "en"}
LICENCES = {
    "HuggingFaceFW/fineweb": "ODC-By 1.0",
    "allenai/c4": "ODC-By 1.0",
    "Skylion007/openwebtext": "CC0 1.0 (the packaging; the texts are their authors')",
}


def corpus(name: str) -> Corpus:
    """The corpus that a name such as `hf:allenai/c4:en@500MB` says.

    Raises:
        CorpusError: the name has not that form.
    """
    found = re.fullmatch(r"hf:([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?(?:@(\d+)(KB|MB|GB|TB))?", name)
    if not found:
        raise CorpusError(
            f"{name!r} does not name a Hugging Face data set; write hf:<data set>[:<configuration>][@<size>], "
            "such as hf:allenai/c4:en@500MB."
        )
    data_set, configuration, number, unit = found.groups()
    configuration = configuration or DEFAULT_CONFIGURATION.get(data_set)
    limit = int(number) * UNITS[unit] if number else None
    licence = LICENCES.get(data_set, "see the data set's card")
    return Corpus(
        name=name,
        description="Hugging Face data set",
        licence=licence,
        fingerprint=lambda: f"{data_set} {configuration} {limit}",
        documents=lambda: _documents(data_set, configuration, limit, licence),
    )


def _documents(data_set: str, configuration: str | None, limit: int | None, licence: str) -> Iterator[Document]:
    read = 0
    for row in _stream(data_set, configuration):
        text = row.get("text")
        if not isinstance(text, str):
            raise CorpusError(f"The data set {data_set} has no column `text` but {', '.join(row)}; choose another.")
        read += len(text.encode("utf-8", "replace"))
        if limit is not None and read > limit:
            return
        id = row.get("id")
        yield Document(text, id=None if id is None else str(id), source=data_set, licence=licence)


def _stream(data_set: str, configuration: str | None) -> Iterator[dict[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise CorpusUnavailable(
            f"The corpus {PREFIX}{data_set} needs the package datasets; run pip install 'algoprogress[hf]'."
        ) from None
    try:
        yield from datasets.load_dataset(data_set, name=configuration, split="train", streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CorpusUnavailable(
            f"The data set {data_set} cannot be read from the Hugging Face Hub ({error}); check its name, its "
            "configuration and the connection."
        ) from error
