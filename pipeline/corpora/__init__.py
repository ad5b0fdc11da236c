"""Which corpora there are: the built-in ones by name, Hugging Face data sets as `hf:...`, and anybody's own as a path,
or as `images:...`.

A new built-in corpus is a new file in this folder with a `CORPUS` in it.
"""

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from algoprogress.pipeline.corpora.base import Corpus, CorpusError
from algoprogress.pipeline.corpora.shards import Shards


@cache
def built_in() -> dict[str, Corpus]:
    """Every built-in corpus by name; english, the default, comes first."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    corpora = {module.CORPUS.name: module.CORPUS for module in modules if hasattr(module, "CORPUS")}
    return dict(sorted(corpora.items(), key=lambda item: (item[0] != "english", item[0])))


def find(corpus: str) -> Corpus | Shards:
    """The corpus of that name, or at that path.

    Raises:
        CorpusError: neither a known name nor the path of a file or folder with text.
    """
    from algoprogress.pipeline.corpora import huggingface, images, local, shards

    if corpus in built_in():
        return built_in()[corpus]
    if corpus.startswith(huggingface.PREFIX):
        return huggingface.corpus(corpus)
    if corpus.startswith(images.PREFIX):
        return images.corpus(corpus)
    path = Path(corpus).expanduser()
    if not corpus or not path.exists():
        raise CorpusError(
            f"There is no corpus and no file {corpus!r}; use one of {', '.join(built_in())}, "
            f"{huggingface.PREFIX}<data set>, {images.PREFIX}<folder>@<pixels>, or the path of a file or folder that "
            "exists."
        )
    return shards.corpus(corpus) if shards.is_shards(path) else local.corpus(corpus)
