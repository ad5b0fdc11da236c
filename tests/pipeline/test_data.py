"""Token streams: the documents in order, one copy however many ask for it, and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from algoprogress.pipeline.corpora import base, store
from algoprogress.pipeline.corpora import tokens as token_folders
from algoprogress.pipeline.data import CorpusError, build, check, list_corpora, open_tokens, overlap, resolve

EOT = 50256  # of gpt2
PREAMBLE = """
import sys, time
from pathlib import Path
from algoprogress.pipeline.corpora import store, tokens
from algoprogress.pipeline.data import open_tokens
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALGOPROGRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    rows = [{"id": f"document-{i}", "text": f"Document {i}: naïve café. " * (i % 5 + 1)} for i in range(300)]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe-300"])
def test_a_stream_is_its_documents_in_order_each_followed_by_the_end_of_text(corpus: str, tokenizer: str) -> None:
    tokens = open_tokens(corpus, None, tokenizer)
    decode = tokens.open_tokenizer().decode
    streams = {"train": tokens.train, "val": tokens.val, "test": tokens.test}
    for split, stream in streams.items():
        texts = list(store.read_documents(tokens.corpus_sha256, split))
        pieces = np.split(stream, np.flatnonzero(stream == tokens.eot) + 1)
        assert [decode(piece) for piece in pieces[:-1]] == texts
        assert len(pieces[-1]) == 0
        assert stream.dtype == np.uint16


def test_val_documents_are_where_the_documents_of_val_start(corpus: str) -> None:
    tokens = open_tokens(corpus)
    assert tokens.val_documents[0] == 0
    assert np.array_equal(tokens.val_documents[1:], np.flatnonzero(tokens.val == tokens.eot)[:-1] + 1)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe-300"])
def test_bytes_in_counts_the_bytes_of_a_prefix(corpus: str, tokenizer: str) -> None:
    tokens = open_tokens(corpus, None, tokenizer)
    texts = list(store.read_documents(tokens.corpus_sha256, "val"))
    assert tokens.bytes_in("val") == sum(len(text.encode()) for text in texts) == tokens.about["splits"]["val"]["bytes"]
    assert tokens.bytes_in("val", int(tokens.val_documents[2])) == sum(len(text.encode()) for text in texts[:2])
    assert tokens.bytes_in("val", 0) == 0


def test_tokens_are_memory_mapped_and_read_only(corpus: str) -> None:
    tokens = open_tokens(corpus)
    assert isinstance(tokens.train, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        tokens.train[0] = 1


def test_a_larger_corpus_of_the_same_documents_has_the_same_val_documents(corpus: str, tmp_path: Path) -> None:
    before = open_tokens(corpus)
    larger = tmp_path / "larger.jsonl"
    extra = {"id": "train-only", "text": "one more", "split": "train"}
    larger.write_text(Path(corpus).read_text() + json.dumps(extra) + "\n")
    after = open_tokens(str(larger))
    assert after.corpus_sha256 != before.corpus_sha256
    assert np.array_equal(after.val, before.val)


def test_epochs_are_tokens_over_the_length_of_train(corpus: str) -> None:
    tokens = open_tokens(corpus)
    assert tokens.epochs(2 * len(tokens.train)) == 2


def test_a_large_vocabulary_takes_four_bytes(corpus: str) -> None:
    assert open_tokens(corpus, None, "bpe-65536").train.dtype == np.uint16
    assert open_tokens(corpus, None, "bpe-65537").train.dtype == np.uint32


def test_bpe_is_trained_on_train_alone(tmp_path: Path) -> None:
    def write(path: Path, val: str) -> str:
        rows = [{"text": f"some text {i}", "split": "train"} for i in range(20)] + [{"text": val, "split": "val"}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    a = open_tokens(write(tmp_path / "a.jsonl", "zqzqzqzq " * 99), None, "bpe-280")
    b = open_tokens(write(tmp_path / "b.jsonl", "another"), None, "bpe-280")
    assert a.corpus_sha256 != b.corpus_sha256
    assert a.tokenizer_sha256 == b.tokenizer_sha256


def test_a_second_open_is_quick(corpus: str) -> None:
    sha256 = open_tokens(corpus).corpus_sha256
    start = time.perf_counter()
    open_tokens(corpus)
    open_tokens(corpus, sha256)
    assert time.perf_counter() - start < 0.1


def test_tokens_are_found_by_their_hash_when_the_text_is_gone(corpus: str) -> None:
    tokens = open_tokens(corpus)
    Path(corpus).unlink()
    assert np.array_equal(open_tokens(corpus, tokens.corpus_sha256).val, tokens.val)


def test_a_corpus_that_has_changed_is_refused(corpus: str) -> None:
    with pytest.raises(
        CorpusError, match=r"has changed: it was 00000000000000000000 and is now [0-9a-f]{20}; bring back"
    ):
        open_tokens(corpus, "0" * 64)


def test_an_unknown_tokenizer_builds_nothing(corpus: str, cache: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer 'words'"):
        open_tokens(corpus, None, "words")
    assert not cache.exists()


def test_processes_that_build_at_once_share_one_copy(corpus: str, cache: Path, tmp_path: Path) -> None:
    code = PREAMBLE + (
        "write = tokens.write\n"
        "def counted(*args):\n"
        "    with open(sys.argv[2], 'a') as file: file.write('built\\n')\n"
        "    time.sleep(0.5)\n"
        "    write(*args)\n"
        "tokens.write = counted\n"
        "opened = open_tokens(sys.argv[1], None, 'bpe-300')\n"
        "print(opened.folder, int(opened.train.sum()))\n"
    )
    command = [sys.executable, "-c", code, corpus, str(tmp_path / "built")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {worker.communicate(timeout=60)[0] for worker in workers}
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert len(said) == 1
    assert (tmp_path / "built").read_text() == "built\n"
    assert len(list((cache / "tokens").iterdir())) == 1


@pytest.mark.parametrize("module", ["store", "tokens"])
def test_a_builder_that_is_killed_leaves_nothing_half_written(corpus: str, cache: Path, module: str) -> None:
    function = {"store": "_hash", "tokens": "_write_split"}[module]
    code = PREAMBLE + (
        f"real = {module}.{function}\n"
        "def slow(*args):\n"
        "    real(*args)\n"
        "    print('half way', flush=True)\n"
        "    time.sleep(60)\n"
        f"{module}.{function} = slow\n"
        "open_tokens(sys.argv[1])\n"
    )
    builder = subprocess.Popen([sys.executable, "-c", code, corpus], stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    assert builder.stdout.readline() == "half way\n"
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    builder.stdout.close()
    assert not list((cache / "tokens").glob("[!.]*"))
    assert list_corpora()[0]["built"] is False

    tokens = open_tokens(corpus)
    assert check(corpus)["ok"]
    assert len(tokens.train) == tokens.about["splits"]["train"]["tokens"]
    assert not [path for path in cache.rglob("*") if path.name.endswith(".tmp")]


def test_a_failed_build_leaves_nothing(corpus: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_folders, "_write_split", full)
    with pytest.raises(CorpusError, match="No space left on device"):
        open_tokens(corpus)
    assert list((cache / "tokens").iterdir()) == []


def test_deleted_documents_are_stored_again(corpus: str, cache: Path) -> None:
    resolved = resolve(corpus)
    (resolved.path / "corpus.json").unlink()
    assert resolve(corpus) == resolved
    assert (resolved.path / "corpus.json").is_file()


def test_build_gives_the_counts_and_where_they_are(corpus: str) -> None:
    built = build(corpus, "bpe-300")
    assert sum(split["documents"] for split in built["splits"].values()) == 300
    assert Path(built["folder"], "tokens.json").is_file()
    assert built["tokenizer_sha256"] == open_tokens(corpus, None, "bpe-300").tokenizer_sha256


def test_check_finds_a_damaged_shard_and_says_what_to_do(corpus: str) -> None:
    tokens = open_tokens(corpus)
    assert check(corpus) == {
        "corpus": corpus,
        "corpus_sha256": tokens.corpus_sha256,
        "tokenizer": "bytes",
        "tokenizer_sha256": tokens.tokenizer_sha256,
        "ok": True,
        "problems": [],
        "overlap": overlap(corpus),
    }
    damaged = np.memmap(tokens.folder / "val.bin", dtype=np.uint16, mode="r+")
    damaged[3] += 1
    damaged.flush()
    (problem,) = check(corpus)["problems"]
    assert "val.bin is not what its sidecar says; delete the folder" in problem


def test_list_shows_what_is_built_and_what_could_be(corpus: str) -> None:
    open_tokens(corpus)
    rows = {row["name"]: row for row in list_corpora()}
    assert next(iter(rows)) == "english"
    assert rows["english"]["built"] is False
    assert rows[corpus]["built"] is True
    assert rows[corpus]["documents"] == 300


def test_reading_data_needs_no_torch() -> None:
    code = "import sys, algoprogress.pipeline.data; print('torch' in sys.modules, 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"


def write_nanogpt(path: Path, tokens: list[int]) -> None:
    np.array(tokens, dtype="<u2").tofile(path)


def write_llmc(path: Path, tokens: list[int]) -> None:
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + np.array(tokens, dtype="<u2").tobytes())


def test_nanogpt_shards_keep_their_tokens_and_splits(tmp_path: Path) -> None:
    write_nanogpt(tmp_path / "train.bin", [1, 2, 3, EOT, 4, 5, EOT])
    write_nanogpt(tmp_path / "val.bin", [6, 7, EOT, 8])
    tokens = open_tokens(str(tmp_path), None, "gpt2")
    assert tokens.train.tolist() == [1, 2, 3, EOT, 4, 5, EOT]
    assert tokens.val.tolist() == [6, 7, EOT, 8, EOT]
    assert tokens.val_documents.tolist() == [0, 3]
    assert len(tokens.test) == 0
    assert tokens.vocab_size == 50257


def test_bytes_of_shards_are_unknown_without_their_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    write_nanogpt(tmp_path / "train.bin", [1, EOT])
    write_nanogpt(tmp_path / "val.bin", [6, EOT])
    assert np.isnan(open_tokens(str(tmp_path), None, "gpt2").bytes_in("val"))


def test_text_in_gpt2_tokens_names_the_package_it_needs(corpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(ValueError, match="pip install tiktoken"):
        open_tokens(corpus, None, "gpt2")


def test_llmc_shards_are_read_behind_their_header(tmp_path: Path) -> None:
    write_llmc(tmp_path / "fineweb_train_000001.bin", [EOT, 1, 2, 3])
    write_llmc(tmp_path / "fineweb_train_000002.bin", [EOT, 4, 5])
    write_llmc(tmp_path / "fineweb_val_000000.bin", [EOT, 6, 7])
    tokens = open_tokens(str(tmp_path), None, "gpt2")
    assert tokens.train.tolist() == [1, 2, 3, EOT, 4, 5, EOT]
    assert tokens.val.tolist() == [6, 7, EOT]


def test_a_shard_of_no_split_is_split_by_document(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 256, size=rng.integers(1, 20)).tolist() for _ in range(500)]
    write_nanogpt(tmp_path / "all.bin", [token for document in documents for token in [*document, 256]])
    tokens = open_tokens(str(tmp_path / "all.bin"), None, "bytes")
    counts = {split: tokens.about["splits"][split]["documents"] for split in base.SPLITS}
    assert sum(counts.values()) == 500
    assert min(counts.values()) > 5
    assert tokens.bytes_in("train") == len(tokens.train) - counts["train"]


@pytest.mark.parametrize(
    ("content", "tokenizer", "says"),
    [
        (b"", "gpt2", "is empty"),
        (b"abc", "gpt2", "3 bytes, which is not a number of uint16"),
        (
            np.array([20240520, 1, 9] + [0] * 253, "<i4").tobytes() + b"ab",
            "gpt2",
            "header says 9 tokens, its size says 1",
        ),
        (np.array([50000, 1], "<u2").tobytes(), "bytes", "has the token 50000, outside the tokenizer's 257"),
        (np.array([50000, 1], "<u2").tobytes(), "bpe-2048", "which bpe-2048 did not make; use bytes or gpt2"),
        (np.array([1, 2], "<u2").tobytes(), "gpt2", r"no tokens for \w+; name one of its files"),
    ],
)
def test_a_shard_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, tokenizer: str, says: str) -> None:
    (tmp_path / "shard.bin").write_bytes(content)
    with pytest.raises(CorpusError, match=says) as error:
        open_tokens(str(tmp_path / "shard.bin"), None, tokenizer)
    assert str(tmp_path / "shard.bin") in str(error.value)
