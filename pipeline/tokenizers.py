"""Text to tokens and back: `bytes`, or `bpe-<V>` trained on the train split of the corpus it is used on.

An image is a text too, its class and its values in hexadecimal, so that corpora of images are kept, split, ordered and
identified as those of text are; `pixels-<K>` makes tokens of it.
Bytes are the default for small models: with 8192 tokens and width 32 the embedding alone has 262k parameters.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FILE = "tokenizer.json"
RECORD_ENDS = 2  # tokens after the values of an image: its class, and the end that follows each document
LARGEST_BPE = 262_144  # the largest vocabulary in use (Gemma 2024); more is a slip of the pen
GPT2_VOCAB, GPT2_EOT = 50_257, 50_256  # Radford et al. 2019


class Tokenizer(Protocol):
    """What the shards are made with. `eot`, the end of a text, follows each document and stands for no byte."""

    name: str
    vocab_size: int
    eot: int
    sha256: str

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.integer]]: ...

    def decode(self, tokens: Sequence[int] | NDArray[np.integer]) -> str: ...

    def token_bytes(self) -> NDArray[np.int64] | None:
        """Number of UTF-8 bytes that each token stands for [vocab_size]; None when the vocabulary is not at hand."""


class Bytes:
    """The 256 byte values, and 256 for the end of a text."""

    name = "bytes"
    vocab_size = 257
    eot = 256
    sha256 = hashlib.sha256(b"bytes: 256 byte values as themselves, end of text 256").hexdigest()

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.integer]]:
        return [np.frombuffer(text.encode("utf-8"), dtype=np.uint8) for text in texts]

    def decode(self, tokens: Sequence[int] | NDArray[np.integer]) -> str:
        values = np.asarray(tokens)
        return values[values != self.eot].astype(np.uint8).tobytes().decode("utf-8", "replace")

    def token_bytes(self) -> NDArray[np.int64]:
        return np.append(np.ones(256, np.int64), 0)


class BPE:
    """Byte-level byte-pair encoding (Sennrich et al. 2016, Radford et al. 2019); every text can be written in it.

    Args:
        vocab_size: tokens in all: 256 bytes, the merges, and the last one for the end of a text. A small text may
            have fewer merges to learn; the tokens left over are never used.
        content: the trained tokenizer as JSON.
    """

    def __init__(self, vocab_size: int, content: str):
        self.name = f"bpe-{vocab_size}"
        self.vocab_size = vocab_size
        self.eot = vocab_size - 1
        self.content = content
        self.sha256 = hashlib.sha256(content.encode("utf-8")).hexdigest()
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:
        if self._tokenizer is None:
            import tokenizers

            self._tokenizer = tokenizers.Tokenizer.from_str(self.content)
        return self._tokenizer

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.integer]]:
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(text.ids, dtype=np.uint32) for text in encoded]

    def decode(self, tokens: Sequence[int] | NDArray[np.integer]) -> str:
        return self.tokenizer.decode([int(token) for token in tokens if token != self.eot], skip_special_tokens=False)

    def token_bytes(self) -> NDArray[np.int64]:
        lengths = np.zeros(self.vocab_size, np.int64)
        for token, index in self.tokenizer.get_vocab().items():
            lengths[index] = len(token)  # the byte-level alphabet writes each byte as one character
        return lengths


class GPT2:
    """GPT-2's tokenizer. Shards made with it can be read without its vocabulary; encoding needs `tiktoken`."""

    name = "gpt2"
    vocab_size = GPT2_VOCAB
    eot = GPT2_EOT
    sha256 = hashlib.sha256(b"gpt2: 50257 tokens, end of text 50256").hexdigest()

    @property
    def encoding(self) -> Any:
        try:
            import tiktoken  # type: ignore[import-not-found]
        except ImportError:
            raise ValueError(
                "The tokenizer gpt2 needs tiktoken to encode text; run `pip install tiktoken`, or use bpe-8192."
            ) from None
        return tiktoken.get_encoding("gpt2")

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.integer]]:
        return [np.array(ids, dtype=np.uint32) for ids in self.encoding.encode_ordinary_batch(list(texts))]

    def decode(self, tokens: Sequence[int] | NDArray[np.integer]) -> str:
        return self.encoding.decode([int(token) for token in tokens if token != self.eot])

    def token_bytes(self) -> NDArray[np.int64] | None:
        try:
            encoding = self.encoding
        except ValueError:
            return None
        return np.array([len(encoding.decode_single_token_bytes(i)) for i in range(self.eot)] + [0], np.int64)


class Pixels:
    """The values of an image, 0 to 255, and then its class, of `vocab_size` classes: what a prediction chooses from."""

    eot = 256

    def __init__(self, n_classes: int) -> None:
        self.name = f"pixels-{n_classes}"
        self.vocab_size = n_classes
        self.sha256 = hashlib.sha256(b"pixels: values as themselves, class, 256; of %d classes" % n_classes).hexdigest()
        self.values: int | None = None  # of an image, as the first one had

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.integer]]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> NDArray[np.integer]:
        if not (found := re.fullmatch(r"(\d{1,5}) ((?:[0-9a-f]{2})+)", text)):
            raise ValueError(
                f"The tokenizer {self.name} reads images, and a document begins with {text[:20]!r}; use bytes for text."
            )
        label, values = int(found[1]), np.frombuffer(bytes.fromhex(found[2]), np.uint8)
        if label >= self.vocab_size:
            raise ValueError(
                f"The tokenizer {self.name} has the classes 0 to {self.vocab_size - 1}, and an image is of class "
                f"{label}; use pixels-K with the number of classes of the corpus."
            )
        self.values = self.values or len(values)
        if len(values) != self.values:
            raise ValueError(f"An image has {len(values)} values and another {self.values}; make them of one size.")
        return np.append(values.astype(np.uint16), np.uint16(label))

    def decode(self, tokens: Sequence[int] | NDArray[np.integer]) -> str:
        """The document of one image, given without the end that follows it."""
        *values, label = (int(token) for token in tokens)
        return image_text(label, bytes(values))

    def token_bytes(self) -> None:
        """A value stands for no bytes of text."""
        return


def image_text(label: int, values: bytes) -> str:
    """An image as a document: its class, and its values in hexadecimal, channel by channel."""
    return f"{label} {values.hex()}"


def n_classes(name: str) -> int | None:
    """K of the name `pixels-<K>`; None for any other."""
    found = re.fullmatch(r"pixels-([1-9]\d{0,4})", name)
    return int(found[1]) if found else None


FIXED: dict[str, type[Bytes] | type[GPT2]] = {tokenizer.name: tokenizer for tokenizer in (Bytes, GPT2)}


def check_name(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: no tokenizer has this name.
    """
    if name not in FIXED and n_classes(name) is None:
        bpe_vocabulary(name)
    return name


def bpe_vocabulary(name: str) -> int:
    """V of the name `bpe-<V>`."""
    found = re.fullmatch(r"bpe-([1-9]\d*)", name)
    if not found:
        raise ValueError(
            f"There is no tokenizer {name!r}; use one of {', '.join(FIXED)}, or bpe-<V>, such as bpe-2048, or "
            "for images pixels-<K>, such as pixels-10 for ten classes."
        )
    vocab_size = int(found[1])
    if not 257 <= vocab_size <= LARGEST_BPE:
        raise ValueError(
            f"The tokenizer {name} must have between 257 (256 bytes and the end of a text) and {LARGEST_BPE} tokens."
        )
    return vocab_size


def fixed(name: str) -> Tokenizer | None:
    """The tokenizer of that name, if it is not one that is trained."""
    classes = n_classes(name)
    return Pixels(classes) if classes is not None else FIXED[name]() if name in FIXED else None


def build(name: str, train_texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of that name; `bpe-<V>` is trained on the texts, which must be those of the train split alone."""
    return fixed(name) or train_bpe(bpe_vocabulary(name), train_texts)


def load(name: str, folder: Path) -> Tokenizer:
    """The tokenizer of that name which is kept in a folder of token shards."""
    return fixed(name) or BPE(bpe_vocabulary(name), (folder / FILE).read_text(encoding="utf-8"))


def save(tokenizer: Tokenizer, folder: Path) -> None:
    if isinstance(tokenizer, BPE):
        (folder / FILE).write_text(tokenizer.content, encoding="utf-8", newline="\n")


def train_bpe(vocab_size: int, texts: Iterable[str]) -> BPE:
    """Learn `vocab_size` - 257 merges from the texts."""
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, pre_tokenizers, trainers

    model = Model(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,  # the last token is the end of a text, which no text can spell
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return BPE(vocab_size, model.to_str())
