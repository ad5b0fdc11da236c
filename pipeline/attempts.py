"""What has been tried of each run, by whatever submit, and whether it is tried again."""

from __future__ import annotations

from collections import Counter
from typing import Any

from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.failures import Verdict, verdict
from algoprogress.results import Store


class Attempts:
    """The failures that a store keeps, and the workers that this submit has lost.

    Args:
        store: where failures are.
        retry_failed: forgive all that failed before now.
    """

    def __init__(self, store: Store, retry_failed: bool) -> None:
        self.store = store
        self._failures: dict[str, list[dict[str, Any]]] = {}
        for failure in _plain(store.failures()):
            self._failures.setdefault(str(failure["run_id"]), []).append(failure)
        self._forgiven = {run_id: len(past) for run_id, past in self._failures.items() if retry_failed}
        self._lost: dict[str, Counter[str]] = {}  # run_id -> causes for which this submit lost its worker

    def next(self, run_id: str) -> int:
        """The number of the attempt that would be the next."""
        return 1 + max((int(failure["attempt"]) for failure in self._failures.get(run_id, [])), default=0)

    def look(self, run_id: str) -> None:
        """Learns of the failures that were stored since."""
        self._failures[run_id] = _plain(self.store.failures(run_id))

    def lose(self, run_id: str, cause: str) -> None:
        """The run's worker was lost."""
        self._lost.setdefault(run_id, Counter())[cause] += 1

    def verdict(self, spec: RunSpec) -> Verdict:
        """Whether the run is tried again."""
        run_id, rows = spec.run_id, spec.batch_tokens // spec.data.context
        if spec.architecture.batch_statistics:
            rows = 1  # a batch in parts is another training
        past = self._failures.get(run_id, [])
        return verdict(past, self._forgiven.get(run_id, 0), self._lost.get(run_id), rows)


def _plain(failures: Any) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in failure.items()} for failure in failures.to_dict("records")]
