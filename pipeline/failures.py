"""What a failed attempt means for its run: is it trained again, and how?

| class        | what happened                                    | trained again                                      |
|--------------|--------------------------------------------------|----------------------------------------------------|
| failed       | an error of the code or of the data              | no: it would fail again                            |
| oom          | the device or the process ran out of memory      | once, with each batch in more parts                |
| timeout      | it was over its time limit                       | no                                                 |
| cancelled    | somebody asked for it                            | no                                                 |
| infra, crash | its worker died: killed, or a fault in a library | `CRASH_RETRIES` times                              |
| infra, node  | its machine was lost or pre-empted               | `NODE_RETRIES` times: the run is not to blame      |

A run that diverged has not failed: that is a result. What "no" means is: not until `submit --retry-failed`. A failure
of the infrastructure counts only in the submit that saw it, since the next one may run elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FINAL = ("failed", "timeout", "cancelled")
OOM_RETRIES = 1
CRASH_RETRIES = 2  # a run that kills its worker three times is not unlucky
NODE_RETRIES = 20  # a spot machine is lost a few times a day at most, and a long run goes on from its checkpoint
SPLIT = 2  # into so many parts each batch goes when it did not fit: activations take half the memory


@dataclass(frozen=True)
class Verdict:
    """Whether a run is tried again. `micro_batches`: the parts that each batch is split into. `reason`: if not, why."""

    again: bool
    micro_batches: int = 1
    reason: str = ""


def classify(error: BaseException) -> str:
    """Class of an error that a training raised: "oom" or "failed"."""
    text = str(error)
    # torch's CPU allocator raises a plain RuntimeError, and so do cuBLAS and cuDNN when their workspace does not fit.
    signs = ("out of memory", "DefaultCPUAllocator: not enough memory", "can't allocate memory", "ALLOC_FAILED")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom"
    if isinstance(error, RuntimeError) and any(sign in text for sign in signs):
        return "oom"
    return "failed"


def verdict(
    history: Iterable[Mapping[str, Any]], forgiven: int = 0, lost: Mapping[str, int] | None = None, rows: int = 1
) -> Verdict:
    """Whether a run is tried again, given its failures.

    Args:
        history: Every stored failure of the run, in order: `class`, `message`, `micro_batches`.
        forgiven: So many of them, from the first, were before `--retry-failed` was asked for.
        lost: How often this submit has seen a "crash" and a "node" of this run.
        rows: Sequences in a batch: it cannot be split into more parts.
    """
    failures = list(history)
    parts = max((_parts(f) for f in failures if f.get("class") == "oom"), default=0)
    micro_batches = min(parts * SPLIT, rows) if parts else 1
    recent = failures[forgiven:]
    classes = Counter(str(failure.get("class")) for failure in recent)
    for failure in recent:
        if failure.get("class") in FINAL:
            return Verdict(False, micro_batches, f"{failure.get('message')}")
    if classes["oom"] > OOM_RETRIES or (classes["oom"] and parts >= rows):
        more = "a batch of one sequence" if parts >= rows else f"each batch in {parts} parts"
        return Verdict(False, micro_batches, f"out of memory, with {more}: {recent[-1].get('message')}")
    for kind, retries in (("crash", CRASH_RETRIES), ("node", NODE_RETRIES)):
        times = (lost or {}).get(kind, 0)
        if times > retries:
            why = "its worker died" if kind == "crash" else "its machine was lost"
            return Verdict(False, micro_batches, f"{why} {times} times: {recent[-1].get('message') if recent else ''}")
    return Verdict(True, micro_batches)


def _parts(failure: Mapping[str, Any]) -> int:
    found = failure.get("micro_batches")
    return int(found) if isinstance(found, int | float) and found == found and found >= 1 else 1
