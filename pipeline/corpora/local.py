"""Text of one's own: `.txt`, `.jsonl` (also `.gz`, `.xz`, `.zst`), `.parquet`, or a folder of such files.

- A `.txt` by itself is divided into documents at `<|endoftext|>` where it has that mark; otherwise at blank lines, with
  paragraphs gathered until a document has 1000 characters, so that a book keeps contexts longer than a paragraph.
- In a folder each `.txt` is one document.
- A line of a `.jsonl` is an object with `text` and, if wanted, `id`, `split` (train, val or test), `source`, `license`.
- A `.parquet` has a column `text`; the same others are used when they are there.
"""

import contextlib
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from algoprogress.pipeline.corpora.base import Corpus, CorpusError, Document

COMPRESSED = (".gz", ".xz", ".zst")
END_OF_TEXT = "<|endoftext|>"
GATHERED = 1000  # characters; about eight contexts of 128 bytes (ours)
LICENCE = "not stated"


def corpus(name: str) -> Corpus:
    """The corpus at a path that exists."""
    path = Path(name).expanduser()
    return Corpus(
        name=name,
        description="local text",
        licence=LICENCE,
        fingerprint=lambda: fingerprint(path),
        documents=lambda: documents(path),
    )


def fingerprint(path: Path) -> str:
    """Path, size and time of change of each file: a corpus is read again when one of them differs."""
    files = [(str(file.resolve()), file.stat()) for file in text_files(path)]
    return json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in files])


def text_files(path: Path) -> list[Path]:
    """The file itself, or the text files below a folder in the order of their names."""
    if path.is_file():
        if kind(path) is None:
            raise CorpusError(
                f"The corpus file {path} is of no known kind; give a .txt, .jsonl (.gz, .xz, .zst), .parquet or .bin."
            )
        return [path]
    hidden = [file for file in path.rglob("*") if file.is_file() and kind(file)]
    files = [file for file in hidden if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not files:
        raise CorpusError(f"The corpus folder {path} has no .txt, .jsonl (.gz, .xz, .zst) or .parquet file; add some.")
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def kind(path: Path) -> str | None:
    """`.txt`, `.jsonl` or `.parquet`, whatever the compression; None for anything else."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in (".txt", ".jsonl") else None
    return suffixes[-1] if suffixes and suffixes[-1] in (".txt", ".jsonl", ".parquet") else None


def documents(path: Path) -> Iterator[Document]:
    """Every document, file by file.

    Raises:
        CorpusError: a file cannot be read, is empty, is not UTF-8, or does not have the form its name says.
    """
    for file in text_files(path):
        if not file.stat().st_size:
            raise CorpusError(f"The corpus file {file} is empty; give one with text, or remove it.")
        match kind(file):
            case ".parquet":
                yield from _parquet(file)
            case ".jsonl":
                yield from _jsonl(file)
            case _ if path.is_dir():
                yield Document("".join(_lines(file)), source=file.relative_to(path).as_posix())
            case _:
                yield from _text(file)


def _text(file: Path) -> Iterator[Document]:
    marked = any(END_OF_TEXT in line for line in _lines(file))
    pieces = _between_marks(file) if marked else _gathered_paragraphs(file)
    for piece in pieces:
        yield Document(piece, source=file.name)


def _between_marks(file: Path) -> Iterator[str]:
    held: list[str] = []
    for line in _lines(file):
        before, *after = line.split(END_OF_TEXT)
        held.append(before)
        for piece in after:
            yield "".join(held)
            held = [piece]
    yield "".join(held)


def _gathered_paragraphs(file: Path) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for line in _lines(file):
        if size >= GATHERED and not line.strip():
            yield "".join(held)
            held, size = [], 0
        held.append(line)
        size += len(line)
    yield "".join(held)


def _jsonl(file: Path) -> Iterator[Document]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        where = f"Line {number} of the corpus file {file}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{where} is not JSON ({error}); write one object a line.") from None
        if not isinstance(record, dict):
            raise CorpusError(f"{where} is not a JSON object; write one object with a field `text`.")
        yield _document(record, where, file)


def _parquet(file: Path) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        columns = [name for name in ("text", "id", "split", "source", "license") if name in table.schema_arrow.names]
        if "text" not in columns:
            raise CorpusError(
                f"The corpus file {file} has no column `text` but {', '.join(table.schema_arrow.names)}; rename one."
            )
        row = 0
        for batch in table.iter_batches(columns=columns):
            for record in batch.to_pylist():
                row += 1
                yield _document(record, f"Row {row} of the corpus file {file}", file)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"The corpus file {file} cannot be read as Parquet ({error}); write it again.") from error


def _document(record: dict[str, Any], where: str, file: Path) -> Document:
    text = record.get("text")
    if not isinstance(text, str):
        raise CorpusError(f"{where} has no text in its field `text`; put the document's text there.")
    id, split, source, licence = (record.get(field) for field in ("id", "split", "source", "license"))
    return Document(
        text,
        id=None if id is None else str(id),
        split=None if split is None else str(split),
        source=str(source or file.name),
        licence=str(licence or LICENCE),
    )


def _lines(file: Path) -> Iterator[str]:
    """The lines of a text file, decoded, with Unix line ends."""
    offset = 0
    try:
        with _opened(file) as stream:
            for raw in stream:
                try:
                    line = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise CorpusError(
                        f"The corpus file {file} is not UTF-8 (byte 0x{raw[error.start]:02x} at offset "
                        f"{offset + error.start}); convert it, for example with iconv -t UTF-8."
                    ) from None
                offset += len(raw)
                yield line.replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise CorpusError(
            f"The corpus file {file} cannot be read ({error}); check that it is whole and readable."
        ) from error


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    openers = {".gz": gzip.open, ".xz": lzma.open, ".zst": _open_zstandard}
    with openers.get(file.suffix.lower(), open)(file, "rb") as stream:  # type: ignore[operator]
        yield stream


def _open_zstandard(file: Path, mode: str) -> IO[bytes]:
    import pyarrow as pa  # unlike the package zstandard, it complains of a file cut short

    return cast("IO[bytes]", io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(file), mode), "zstd")))
