"""Were the runs of one study trained by one version of the code, on one kind of machine? If not, say which by which."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

# What can change the numbers of a run without being part of its spec. The remedy says how far.
_CODE = (
    "compare the versions, with `git diff` for instance; to train the older ones again, move their files out of runs/"
)
_BITS = "the last bits differ, and no more; to be sure, train one run both ways and compare"
FACTS: dict[str, tuple[str, str]] = {
    "code": ("versions of the code", _CODE),
    "package_version": ("versions of algoprogress", _CODE),
    "torch_version": ("versions of torch", _BITS),
    "device": ("devices", _BITS),
    "n_threads": ("numbers of threads", _BITS),
    "corpus_sha256": ("corpora", "compare runs of one corpus only"),
    "tokenizer_sha256": ("tokenizers", "compare losses in bits_per_byte, or runs of one tokenizer only"),
}


def drift(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What differs between runs that are compared with each other: (what, remedy), one for each fact that does."""
    kept = list(records)
    found = []
    for fact, (name, remedy) in FACTS.items():
        values = Counter(_value(record, fact) for record in kept)
        if len(values) > 1:
            listed = ", ".join(f"{value} ({n} runs)" for value, n in values.most_common(4))
            more = f" and {len(values) - 4} more" if len(values) > 4 else ""
            found.append((f"its {len(kept)} runs come from {len(values)} {name}: {listed}{more}", remedy))
    return found


def _value(record: Mapping[str, Any], fact: str) -> str:
    if fact != "code":
        return str(record.get(fact))[:24]
    sha, dirty = record.get("git_sha"), record.get("git_dirty")
    return (str(sha)[:10] if sha else "no commit") + (f" with changes {str(dirty)[:12]}" if dirty else "")
