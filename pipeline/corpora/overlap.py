"""How much of the validation text is in the training text, word for word: a leak makes every loss look better."""

from collections.abc import Iterable, Iterator
from typing import Any


def ngrams(text: str, n: int) -> Iterator[str]:
    """Every n consecutive words, words being what white space parts."""
    words = text.split()
    return (" ".join(words[i : i + n]) for i in range(len(words) - n + 1))


def overlap_of(train: Iterable[str], val: Iterable[str], n: int) -> dict[str, Any]:
    """Shares of the val documents, and of their n-grams (each counted once per document), that are in train too.

    13 words are what Brown et al. 2020 (GPT-3, appendix C) take for a copy. A document shorter than n words has no
    n-gram and counts as not copied.
    """
    val_ngrams = [set(ngrams(text, n)) for text in val]
    wanted = set().union(*val_ngrams)
    found = {gram for text in train for gram in ngrams(text, n) if gram in wanted}
    n_ngrams = sum(map(len, val_ngrams))
    n_found = sum(len(grams & found) for grams in val_ngrams)
    n_documents = sum(not grams.isdisjoint(found) for grams in val_ngrams)
    return {
        "n": n,
        "val_documents": len(val_ngrams),
        "val_documents_with_overlap": n_documents,
        "share_of_documents": n_documents / len(val_ngrams) if val_ngrams else 0.0,
        "val_ngrams": n_ngrams,
        "val_ngrams_with_overlap": n_found,
        "share_of_ngrams": n_found / n_ngrams if n_ngrams else 0.0,
    }
