"""A submit is watched, limited and stopped through files of the store, by whoever sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from algoprogress.pipeline import executors, trainer
from algoprogress.pipeline.plan import resolve
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.status import Status, history, status
from algoprogress.pipeline.submit import submit
from algoprogress.results import Store, submits
from algoprogress.results.progress import now

pytestmark = pytest.mark.alone

PATIENCE = 180.0  # seconds that a busy machine may take for what takes one


def until(condition, what: str):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def longer(study, factor):
    def stretch(entry):
        return entry.model_copy(update={"spec": entry.spec.model_copy(update={"tokens": factor * entry.spec.tokens})})

    return resolve(study.model_copy(update={"arms": {a: tuple(map(stretch, e)) for a, e in study.arms.items()}}))


class Submitting(threading.Thread):
    """A submit with two worker processes, in a thread of this process."""

    def __init__(self, study, store, **options):
        super().__init__(daemon=True)
        self.study, self.store, self.options = study, store, options
        self.summary = None

    def run(self):
        self.summary = submit(
            self.study, self.store, lambda: executors.make("process", slots=2), Progress(), **self.options
        )


def test_a_study_that_trains_is_counted_timed_and_stopped_from_outside(tiny_study, tmp_path, cli):
    store, study = Store(tmp_path), longer(tiny_study, 2000)
    submitting = Submitting(study, store)
    submitting.start()
    counts = Status(store)

    def whole():
        rows = counts.rows("tiny") if "tiny" in store.studies() else []
        return rows[-1] if rows and rows[-1]["running"] == 2 and rows[-1]["tokens_per_second"] else None

    row = until(whole, "nothing trains")
    assert (row["runs"], row["done"], row["to_do"], row["submits"]) == (8, 0, 6, 1)
    assert row["seconds_left"] > 10
    assert until(lambda: counts.rows("tiny")[-1]["hours"] * 3600 >= 1, "no time passes")
    assert len(store.submits()) == 1
    code, out, _ = cli("cancel", "tiny", "--store", tmp_path, "--json")
    assert code == 0
    assert json.loads(out)["submits"] and not json.loads(out)["silent"]
    submitting.join(PATIENCE)
    assert submitting.summary.cancelled
    assert submitting.summary.left == 8
    assert store.active().empty
    assert store.submits().empty
    assert store.failures().empty  # stopped, not failed: it goes on when it is submitted again
    assert status(store, "tiny")[-1]["to_do"] == 8
    code, _, err = cli("cancel", "tiny", "--store", tmp_path)
    assert code == 2
    assert "nothing to cancel" in err


def test_one_run_is_cancelled_and_the_others_go_on(tiny_study, tmp_path, cli):
    store, study = Store(tmp_path), longer(tiny_study, 8)
    huge = next(iter(study.arms["lstm"]))
    spec = huge.spec.model_copy(update={"tokens": 10**6 * huge.spec.batch_tokens})
    study = study.model_copy(update={"arms": {**study.arms, "huge": (huge.model_copy(update={"spec": spec}),)}})
    submitting = Submitting(study, store)
    submitting.start()
    until(lambda: spec.run_id in set(store.active().get("run_id", [])), "the longest run does not begin")
    assert cli("cancel", spec.run_id[:12], "--store", tmp_path)[0] == 0
    submitting.join(PATIENCE)
    assert submitting.summary.trained == 8
    assert list(submitting.summary.failed) == [spec.run_id]
    assert store.failures()["class"].tolist() == ["cancelled"]
    again = submit(study, store, lambda: pytest.fail("it is not trained again"), Progress())
    assert "--retry-failed" in again.failed[spec.run_id]
    code, out, _ = cli("logs", spec.run_id, "--store", tmp_path)
    assert code == 0
    assert "cancelled on request" in out
    assert cli("cancel", min(store.run_ids()), "--store", tmp_path)[0] == 2  # it is finished


def test_a_submit_that_died_does_not_answer_and_is_named(tiny_study, tmp_path, cli):
    store = Store(tmp_path)
    code = (
        "import sys; from algoprogress.results import Store, submits\n"
        "store = Store(sys.argv[1])\n"
        "submits.announce(store.folder, submits.new_driver(), {'study': 'tiny', 'slots': 1})\n"
        "sys.stdout.write('there'); sys.stdout.flush(); sys.stdin.read()"
    )
    mute = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert mute.stdout.read(5) == "there"
    code, _, err = cli("cancel", "tiny", "--store", tmp_path, "--wait", "0.5")
    assert code == 1
    assert "did not answer within 0.5 s" in err
    mute.communicate()
    assert cli("cancel", "tiny", "--store", tmp_path)[0] == 2  # dead: nothing is at work
    store.clean()
    assert store.submits().empty
    assert not store.folder.entries(submits.FOLDER)


def test_a_limit_trains_the_longest_and_leaves_the_rest(tiny_study, tmp_path):
    store, study = Store(tmp_path), resolve(tiny_study)
    cost = sorted((spec.compute for spec in study.specs().values()), reverse=True)
    summary = submit(study, store, lambda: executors.make("inline"), Progress(), limit=3)
    assert (summary.trained, summary.left) == (3, 5)
    assert sorted(store.runs("tiny")["compute"], reverse=True) == pytest.approx(cost[:3])
    assert submit(study, store, lambda: executors.make("inline"), Progress(), limit=30).trained == 5


def test_fail_fast_begins_nothing_after_a_failure_and_lets_go_on_what_trains(tiny_study, tmp_path, monkeypatch):
    real, calls = trainer.train, []

    def second_fails(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise ValueError("no such luck")
        return real(*args, **options)

    monkeypatch.setattr(trainer, "train", second_fails)
    store, study = Store(tmp_path), resolve(tiny_study)
    summary = submit(study, store, lambda: executors.make("inline"), Progress(), fail_fast=True)
    assert (summary.trained, len(summary.failed), summary.left) == (1, 1, 6)
    assert len(calls) == 2


def test_status_counts_failed_attempts_in_the_hours_and_an_unfinished_arm(tiny_study, tmp_path):
    store, study = Store(tmp_path), resolve(tiny_study)
    submit(study, store, lambda: executors.make("inline"), Progress(), limit=6)
    open_run = next(run_id for run_id in study.specs() if run_id not in store.run_ids())
    before = status(store, "tiny")[-1]
    store.record_failure(open_run, {"class": "failed", "message": "no", "seconds": 3600.0})
    after = status(store, "tiny")[-1]
    assert after["hours"] == pytest.approx(before["hours"] + 1)
    assert (after["done"], after["failed"], after["to_do"], after["running"]) == (6, 1, 1, 0)
    assert after["seconds_left"] is None  # nothing trains, so nothing is known


def test_what_a_submit_tries_again_has_not_failed_and_a_silent_machine_trains_nothing(tiny_study, tmp_path):
    store, study = Store(tmp_path), resolve(tiny_study)
    submit(study, store, lambda: executors.make("inline"), Progress(), limit=4)
    lost, broken, elsewhere, silent = (run_id for run_id in study.specs() if run_id not in store.run_ids())
    store.record_failure(lost, {"class": "infra", "message": "its node was lost", "seconds": 1.0})
    store.record_failure(broken, {"class": "failed", "message": "no", "seconds": 1.0})
    hours_ago = (datetime.now(UTC) - timedelta(hours=2)).isoformat(timespec="seconds")
    for run_id, at in ((elsewhere, now()), (silent, hours_ago)):
        beat = {"host": "another-machine", "process": "1-1", "at": at, "started_at": at, "tokens_per_second": 5.0}
        store.folder.replace(f"active/{run_id}.1.json", json.dumps(beat).encode())
    row = status(store, "tiny")[-1]
    assert (row["running"], row["failed"], row["to_do"], row["tokens_per_second"]) == (1, 2, 1, 5.0)
    submits.announce(store.folder, submits.new_driver(), {"study": "tiny", "slots": 1})
    row = status(store, "tiny")[-1]
    assert (row["running"], row["failed"], row["to_do"]) == (1, 1, 2)  # the lost one is trained again


def test_watching_ends_when_nothing_is_left(tiny_study, tmp_path, cli):
    store = Store(tmp_path)
    submit(resolve(tiny_study), store, lambda: executors.make("inline"), Progress())
    code, out, _ = cli("status", "tiny", "--store", tmp_path, "--watch", "--price", "2")
    assert code == 0
    assert "(all)" in out
    assert "cost" in out


def test_a_run_that_has_not_begun_is_known_by_its_study(tiny_study, tmp_path, cli):
    store, study = Store(tmp_path), resolve(tiny_study)
    store.save_study(study.stored())
    run_id = next(iter(study.specs()))
    assert history(store, run_id)["places"] == [{"study": "tiny", "arm": "lstm"}]
    assert "not begun" in cli("logs", run_id, "--store", tmp_path)[1]


def test_runs_of_two_versions_of_the_code_are_reported_and_are_no_fault(filled_with_drift, cli):
    store, expected = filled_with_drift
    table = store.verify("drifted")
    assert table["kind"].tolist() == ["drift"] * 3
    assert table["problem"].str.contains(expected).any()
    code, out, _ = cli("verify", "drifted", "--store", store.url)
    assert code == 0
    assert "2 versions of the code" in out
    assert "2 versions of torch" in out
    assert "2 numbers of threads" in out


@pytest.fixture
def filled_with_drift(tmp_path, make_run):
    store, entries = Store(tmp_path), []
    for seed in range(4):
        changed = {"git_sha": "a" * 40, "torch_version": "2.12.0", "n_threads": 2} if seed == 3 else {}
        record, curve = make_run(seed=seed, **changed)
        store.publish(record, curve)
        entries.append({"run_id": record["run_id"]})
    store.save_study({"name": "drifted", "baseline": "one", "arms": {"one": entries}})
    return store, r"its 4 runs come from 2 versions of the code: e{10} \(3 runs\), a{10} \(1 runs\)"
