"""One's own images: `images:<folder>@<side>`, or `@<side>-grey`; a folder for each class, as is usual.

    images:flowers@32           flowers/daisy/1.png, flowers/rose/2.jpg, ...: the classes in the order of their names
    images:flowers@64-grey      where it has the folders train and val (and test), with the classes in each, they are
                                the splits; else a hash of each image decides, as of any document

The shorter side is resized to <side> and the middle is cut out. They need `pip install 'algoprogress[images]'`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algoprogress.pipeline.corpora.base import SPLIT_NAMES, Corpus, CorpusError, CorpusUnavailable, Document
from algoprogress.pipeline.tokenizers import image_text

PREFIX = "images:"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


def corpus(name: str) -> Corpus:
    """The corpus that a name such as `images:flowers@32` says.

    Raises:
        CorpusError: the name has not that form, or there is no such folder.
    """
    found = re.fullmatch(r"images:(.+)@([1-9]\d{0,3})(-grey)?", name)
    if not found:
        raise CorpusError(
            f"{name!r} does not name images; write images:<folder>@<pixels a side>, such as images:mine@32."
        )
    folder, side, grey = Path(found[1]).expanduser(), int(found[2]), bool(found[3])
    if not folder.is_dir():
        raise CorpusError(f"There is no folder {folder}; give one that holds a folder of images for each class.")
    return Corpus(
        name=name,
        description=f"images of {side} x {side} pixels",
        licence="not stated",
        fingerprint=lambda: _fingerprint(folder, side, grey),
        documents=lambda: _documents(folder, side, grey),
    )


def _fingerprint(folder: Path, side: int, grey: bool) -> str:
    files = [(str(file.resolve()), label, split) for file, label, split in _files(folder)]
    stats = [Path(file).stat() for file, _, _ in files]
    return json.dumps([side, grey, files, [(stat.st_size, stat.st_mtime_ns) for stat in stats]])


def _files(folder: Path) -> list[tuple[Path, int, str | None]]:
    """(file, class, split that it is in by name) of each image, in the order of their names."""
    parts = _folders(folder)
    named = {part: part.name for part in parts} if parts and all(p.name.lower() in SPLIT_NAMES for p in parts) else None
    inside = {part: _folders(part) for part in parts} if named else {folder: parts}
    classes = sorted({kind.name for kinds in inside.values() for kind in kinds})
    if len(classes) < 2:
        raise CorpusError(
            f"The folder {folder} has {len(classes)} folders of images; give it one for each class, at least two."
        )
    found = [
        (file, classes.index(kind.name), named[part] if named else None)
        for part, kinds in inside.items()
        for kind in kinds
        for file in sorted(kind.rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    empty = set(range(len(classes))) - {label for _, label, _ in found}
    if empty:
        raise CorpusError(
            f"The class {classes[min(empty)]} of {folder} has no image; add files ending in {', '.join(SUFFIXES)}."
        )
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _documents(folder: Path, side: int, grey: bool) -> Iterator[Document]:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise CorpusUnavailable(
            f"The images of {folder} need Pillow to be read; run pip install 'algoprogress[images]'."
        ) from None
    for file, label, split in _files(folder):
        try:
            with Image.open(file) as image:
                whole: Any = ImageOps.exif_transpose(image).convert("L" if grey else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CorpusError(f"The image {file} cannot be read ({error}); write it again, or remove it.") from error
        fitted = ImageOps.fit(whole, (side, side), Image.Resampling.BILINEAR)
        values = b"".join(band.tobytes() for band in fitted.split())  # channel by channel
        name = file.relative_to(folder).as_posix()
        yield Document(image_text(label, values), split=split, source=name.partition("/")[0])
