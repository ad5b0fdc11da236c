"""The Python source of installed packages: tens of megabytes of text that need no download.

The packages are pure Python and always installed with this one (it needs them itself, or torch does), and their wheels
hold the same files on every platform. Another version of one of them is another corpus, with another corpus_sha256.
"""

import importlib.metadata
from collections.abc import Iterator
from pathlib import PurePosixPath

from algoprogress.pipeline.corpora.base import Corpus, CorpusUnavailable, Document

PACKAGES = {  # distribution: licence
    "fsspec": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "networkx": "BSD-3-Clause",
    "pydantic": "MIT",
    "rich": "MIT",
    "seaborn": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "typer": "MIT",
}
SMALLEST = 200  # bytes; what is smaller is an __init__.py with two imports
LARGEST = 300_000  # bytes; what is larger is a table written by a program


def fingerprint() -> str:
    return " ".join(f"{name}=={_distribution(name).version}" for name in PACKAGES)


def documents() -> Iterator[Document]:
    """One document a file, as the installed RECORD lists them."""
    for name, licence in PACKAGES.items():
        distribution = _distribution(name)
        files = sorted(PurePosixPath(file) for file in distribution.files or () if file.suffix == ".py")
        for file in files:
            if ".." in file.parts:
                continue  # a script outside the package
            data = distribution.locate_file(file).read_bytes()  # type: ignore[attr-defined]
            if not SMALLEST <= len(data) <= LARGEST:
                continue
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                continue  # a handful of test files are in other encodings on purpose
            yield Document(text, str(file), None, f"{name} {distribution.version}", licence)


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise CorpusUnavailable(
            f"The corpus python is made of installed packages and {name} is not installed; run pip install {name}."
        ) from None


CORPUS = Corpus(
    name="python",
    description="the .py files of pure-Python packages that are installed anyway: tens of MB, no download",
    licence="BSD-3-Clause and MIT, per package",
    fingerprint=fingerprint,
    documents=documents,
)
