"""Tokenizers: every text comes back as it was, and the same text gives the same tokenizer."""

from pathlib import Path

import numpy as np
import pytest

from algoprogress.pipeline import tokenizers
from algoprogress.pipeline.tokenizers import Tokenizer

TRAIN = [f"the cat number {i} sat on the mat, and the dog sat by the door\n" * 3 for i in range(50)]
TEXTS = [
    "the cat sat on the mat",
    "  spaces  and\ttabs\n\n\nand lines \n",
    "naïve café — ☃ 𝄞 语言 \u0301 e\u0301 \u200b",
    "<|endoftext|> is only text",
    "".join(map(chr, range(1, 256))),
    "",
]


@pytest.fixture(params=["bytes", "bpe-257", "bpe-400"], scope="module")
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return tokenizers.build(request.param, TRAIN)


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_comes_back_as_it_was(tokenizer: Tokenizer, text: str) -> None:
    (tokens,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(tokens) == text


def test_every_byte_is_counted_once(tokenizer: Tokenizer) -> None:
    token_bytes = tokenizer.token_bytes()
    assert token_bytes is not None
    assert len(token_bytes) == tokenizer.vocab_size
    for text, tokens in zip(TEXTS, tokenizer.encode_batch(TEXTS), strict=True):
        assert token_bytes[tokens].sum() == len(text.encode("utf-8"))


def test_every_character_can_be_written(tokenizer: Tokenizer) -> None:
    characters = [chr(c) for c in [*range(1, 0x3000), *range(0x1F300, 0x1F700)]]
    encoded = tokenizer.encode_batch(characters)
    assert [tokenizer.decode(tokens) for tokens in encoded] == characters
    assert all(len(tokens) for tokens in encoded)


def test_no_text_spells_the_end_of_text(tokenizer: Tokenizer) -> None:
    token_bytes = tokenizer.token_bytes()
    assert token_bytes is not None
    assert tokenizer.eot == tokenizer.vocab_size - 1
    assert token_bytes[tokenizer.eot] == 0
    assert all(
        tokenizer.eot not in tokens and tokens.max(initial=0) < tokenizer.eot
        for tokens in tokenizer.encode_batch(TEXTS)
    )


def test_the_same_text_gives_the_same_tokenizer(tokenizer: Tokenizer) -> None:
    assert tokenizers.build(tokenizer.name, TRAIN).sha256 == tokenizer.sha256


def test_a_saved_tokenizer_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizers.save(tokenizer, tmp_path)
    loaded = tokenizers.load(tokenizer.name, tmp_path)
    assert (loaded.name, loaded.sha256, loaded.vocab_size) == (tokenizer.name, tokenizer.sha256, tokenizer.vocab_size)
    for a, b in zip(loaded.encode_batch(TEXTS), tokenizer.encode_batch(TEXTS), strict=True):
        assert np.array_equal(a, b)


def test_a_trained_tokenizer_needs_fewer_tokens() -> None:
    small, large = (sum(map(len, tokenizers.build(name, TRAIN).encode_batch(TRAIN))) for name in ("bytes", "bpe-400"))
    assert large < small / 3


def test_bytes_are_themselves() -> None:
    (tokens,) = tokenizers.build("bytes", []).encode_batch(["aé"])
    assert tokens.tolist() == [97, 0xC3, 0xA9]


@pytest.mark.parametrize("name", ["byte", "bpe", "bpe-", "bpe-02048", "bpe-2k", ""])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer .*; use one of bytes, gpt2, or bpe-<V>"):
        tokenizers.check_name(name)


@pytest.mark.parametrize("name", ["bpe-256", "bpe-99999999"])
def test_a_vocabulary_of_an_impossible_size_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="between 257"):
        tokenizers.check_name(name)
