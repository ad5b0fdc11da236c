"""What happens to a worker happens to one attempt of one run, and to nothing else."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from harness import check_whole, replace_training, run

from algoprogress.ablations.study_file import load
from algoprogress.pipeline import executors
from algoprogress.pipeline.executors.process import ProcessExecutor
from algoprogress.pipeline.plan import resolve
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.submit import submit
from algoprogress.results import Store

slow_ray = pytest.mark.parametrize("executor", ["process", pytest.param("ray", marks=pytest.mark.slow)])


class Killer(Progress):
    """Kills the first workers that train."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.killed = times, []

    def beats(self, active):
        for beat in active.values():
            if len(self.killed) < self.times and beat["run_id"] not in self.killed:
                self.killed.append(beat["run_id"])
                os.kill(int(beat["pid"]), signal.SIGKILL)


@pytest.mark.fault(1, "`kill -9` of a worker that trains")
@slow_ray
def test_a_killed_worker_is_replaced_and_its_run_trained_again(study_file, undisturbed, store, executor, outcome):
    killer = Killer(2)
    summary = run(study_file(), store, executor, killer)
    assert len(killer.killed) == 2
    assert (summary.trained, summary.failed) == (8, {})
    check_whole(store, undisturbed())
    failures = store.failures()
    assert sorted(failures["run_id"]) == sorted(killer.killed)
    assert set(failures["class"]) == {"infra"}
    attempts = store.runs("faulty").set_index("run_id")["attempt"]
    assert set(attempts[killer.killed]) == {2}
    assert attempts.sum() == 8 + 2
    outcome("2 workers killed: 2 runs trained again, 8 records of 8, each once, bit for bit those of a quiet day")


@pytest.mark.fault(2, "an error of the code, the same every time")
def test_an_error_is_kept_with_its_traceback_not_retried_and_stops_nobody_else(study_file, store, outcome):
    study = resolve(load(study_file(seeds=1)))
    entry = study.arms["lstm"][0]
    data = entry.spec.data.model_copy(update={"corpus_sha256": "0" * 64})  # a corpus that is nowhere
    broken = entry.model_copy(update={"spec": entry.spec.model_copy(update={"data": data})})
    study = study.model_copy(update={"arms": {**study.arms, "lstm": (broken, *study.arms["lstm"][1:])}})
    summary = submit(study, store, lambda: executors.make("process", slots=2), Progress(), ensembles=False)
    assert list(summary.failed) == [broken.spec.run_id]
    assert summary.trained == 3
    failures = store.failures()
    assert failures["class"].tolist() == ["failed"]
    assert "Traceback" in failures["traceback"][0]
    again = submit(study, store, lambda: pytest.fail("nothing is left to train"), Progress(), ensembles=False)
    assert "--retry-failed" in again.failed[broken.spec.run_id]
    assert store.active().empty
    outcome("1 attempt, its traceback kept; the 3 other runs trained; tried again only with `--retry-failed`")


@pytest.mark.fault(3, "a loss that is not finite")
def test_a_diverged_run_is_a_result_and_is_in_no_fit(study_file, store, outcome):
    from algoprogress.ablations.optimizers.sgd import SGD

    study = resolve(load(study_file(seeds=1)))
    entry = study.arms["lstm"][0]
    wild = entry.spec.model_copy(update={"optimizer": SGD(), "learning_rate": 1e30, "clip": None})
    study = study.model_copy(update={"arms": {**study.arms, "lstm": (entry.model_copy(update={"spec": wild}),)}})
    summary = submit(study, store, lambda: executors.make("inline"), Progress(), ensembles=False)
    assert (summary.trained, summary.diverged, summary.failed) == (3, 1, {})
    assert wild.run_id not in set(store.runs("faulty")["run_id"])
    diverged = store.runs("faulty", status="diverged")
    assert diverged["run_id"].tolist() == [wild.run_id]
    assert diverged["loss"].notna().all()
    assert store.failures().empty
    assert (
        submit(study, store, lambda: pytest.fail("nothing is left to train"), Progress(), ensembles=False).trained == 0
    )
    outcome("kept as diverged with its last finite loss, not retried, in no table of losses")


LIMIT = 250 * 2**20  # bytes above what a worker holds: the batch takes more than 310 MB, in two parts less than 190


@pytest.mark.fault(9, "a worker that runs out of memory (a real limit on its data segment)")
def test_a_run_that_does_not_fit_is_trained_in_parts(study_file, store, monkeypatch, tmp_path, outcome):
    """Under the limit the whole batch cannot be held, and half of it can."""
    body = f"""
    import resource, torch
    from algoprogress.pipeline.device import HEAP
    spec, tokens = args
    real(spec.model_copy(update={{"batch_tokens": 256, "tokens": 512}}), tokens)  # imports and pools are there
    full = [torch.empty(2**20, dtype=torch.uint8) for _ in range(HEAP // 2**20)]  # what is held ahead is of no help
    held = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + {LIMIT}, hard))
    try:
        return real(*args, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    """
    replace_training(tmp_path, monkeypatch, body)
    study = resolve(load(study_file(seeds=1)))
    entry = study.arms["modern"][0]
    spec = entry.spec.model_copy(update={"batch_tokens": 131072, "tokens": 2 * 131072})
    study = study.model_copy(
        update={"arms": {"modern": (entry.model_copy(update={"spec": spec}),)}, "baseline": "modern"}
    )
    summary = submit(study, store, lambda: ProcessExecutor(1), Progress(), ensembles=False)
    assert (summary.trained, summary.failed) == (1, {})
    assert store.failures()["class"].tolist() == ["oom"]
    assert "allocate" in store.failures()["message"][0]
    row = store.runs("faulty").to_dict("records")[0]
    assert (row["micro_batches"], row["attempt"]) == (2, 2)
    outcome("trained at the 2nd attempt with each batch in 2 parts, which its record says")


@pytest.mark.slow
@pytest.mark.fault(9, "Ray's memory monitor, which ends tasks while the node is over its threshold")
def test_what_the_memory_monitor_ends_is_tried_once_more_and_not_for_ever(study_file, store, submitted, outcome):
    watchful = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    submit = submitted(study_file([4e11], seeds=1), store, "--slots", "1", **watchful)
    facts = submit.facts()
    assert facts["trained"] == 0
    assert len(facts["failed"]) == 2
    failures = store.failures()
    assert failures["class"].tolist() == ["oom"] * 4
    assert failures.groupby("run_id")["micro_batches"].agg(list).tolist() == [[1, 2], [1, 2]]
    assert store.active().empty
    outcome("2 attempts of each run, then given up with a sentence; no retry without an end")


@pytest.mark.fault(11, "a run over its time limit that ignores every signal it can")
@slow_ray
def test_a_stubborn_run_is_stopped_by_force(study_file, store, executor, monkeypatch, tmp_path, outcome):
    body = """
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
    """
    replace_training(tmp_path, monkeypatch, body)
    begun = time.monotonic()
    summary = run(study_file([2e9], seeds=1), store, executor, time_limit=2.0)
    assert list(summary.failed.values()) == ["stopped after its time limit"] * 2
    assert store.failures()["class"].tolist() == ["timeout"] * 2
    assert store.active().empty
    assert time.monotonic() - begun < 120
    outcome("stopped by force, kept as timeout, not retried; its worker replaced")


@pytest.mark.fault(23, "an exception that cannot be sent to another process")
@slow_ray
def test_an_exception_that_cannot_be_pickled_is_a_failure_like_any_other(
    study_file, store, executor, monkeypatch, tmp_path, outcome
):
    body = """
    import threading
    class Strange(Exception):
        def __init__(self, what, more):
            super().__init__(f"{what}, {more}")
            self.lock = threading.Lock()
    raise Strange("a lock", "and two arguments")
    """
    replace_training(tmp_path, monkeypatch, body)
    summary = run(study_file([2e9], seeds=1), store, executor)
    assert set(summary.failed.values()) == {"Strange: a lock, and two arguments"}
    failures = store.failures()
    assert failures["class"].tolist() == ["failed"] * 2
    assert failures["traceback"].str.contains("raise Strange").all()
    outcome("kept as failed with its message and traceback")


@pytest.mark.fault(25, "one worker for all runs, in one order and in the other")
def test_the_order_of_runs_in_a_worker_changes_no_bit(study_file, undisturbed, store, outcome):
    class Shortest(ProcessExecutor):
        """Waits until all tasks are there and begins with the last."""

        def _hand_out(self):
            self._queue.sort(key=lambda task: task.spec["tokens"])
            super()._hand_out()

    study = resolve(load(study_file()))
    submit(study, store, lambda: Shortest(1), Progress(), ensembles=False)
    check_whole(store, undisturbed())
    outcome("the same bits as with two workers in the usual order")


@pytest.mark.fault(1, "a driver that dies while its workers train (no orphan goes on)")
def test_workers_end_with_their_driver(study_file, store, submitted, outcome):
    from harness import until

    submit = submitted(study_file([1e12], seeds=1), store, "--executor", "process", "--slots", "2")
    until(lambda: len(store.active()) == 2, "no worker trains")
    workers = [psutil.Process(int(pid)) for pid in store.active()["pid"]]
    submit.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert store.active()["stale"].all()
    assert Store(store.url).clean()
    outcome("workers ended with it; their claims are known to be stale and are swept away")
