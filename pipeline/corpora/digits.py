"""scikit-learn's digits: 1,797 handwritten digits of 8 x 8 grey pixels, which the package ships.

They are the test set of the UCI data set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998). Every
fifth image is for validation: they are ordered by writer, so both splits have images of all.
"""

from collections.abc import Iterator

import numpy as np

from algoprogress.pipeline.corpora.base import Corpus, CorpusUnavailable, Document
from algoprogress.pipeline.tokenizers import image_text

LEVELS = 16  # of grey, 0 among them: 0 to 16
VALIDATION = 5  # every fifth image, 360 of them: with fewer a trained model's loss would be lost in its standard error


def fingerprint() -> str:
    """The images have never changed, so no version is part of it."""
    return f"digits {VALIDATION}"


def documents() -> Iterator[Document]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise CorpusUnavailable(
            "The corpus digits is shipped with scikit-learn, which is not installed; "
            "run pip install 'algoprogress[images]'."
        ) from None
    data = load_digits()
    for i, (image, label) in enumerate(zip(data.images, data.target, strict=True)):
        values = np.rint(image * (255 / LEVELS)).astype(np.uint8)
        split = "val" if i % VALIDATION == 0 else "train"
        yield Document(image_text(int(label), values.tobytes()), f"digit {i}", split, "scikit-learn", CORPUS.licence)


CORPUS = Corpus(
    name="digits",
    description="1,797 handwritten digits of 8 x 8 pixels, of scikit-learn: tokenizer pixels-10, context 64",
    licence="CC BY 4.0",
    fingerprint=fingerprint,
    documents=documents,
)
