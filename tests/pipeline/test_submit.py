"""A study from nothing to a full store, whatever happens on the way."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psutil
import pytest

from algoprogress.ablations.probes import Probing, Spectra
from algoprogress.ablations.study import Sweep
from algoprogress.pipeline import executors
from algoprogress.pipeline.executors.inline import InlineExecutor
from algoprogress.pipeline.executors.process import ProcessExecutor
from algoprogress.pipeline.plan import refined, resolve
from algoprogress.pipeline.progress import PlainProgress, Progress
from algoprogress.pipeline.submit import submit
from algoprogress.results import Store

pytestmark = pytest.mark.alone

SCIENCE = ["loss", "loss_se", "train_loss", "initial_loss", "compute", "tokens", "n_params", "status", "bits_per_byte"]


def run(study, store, executor="inline", progress=None, **options):
    return submit(resolve(study), store, lambda: executors.make(executor, slots=2), progress or Progress(), **options)


def science(store):
    return store.runs("tiny", status=None).set_index("run_id")[SCIENCE].sort_index()


@pytest.fixture(scope="module")
def ray_is_ours():
    """Ray prints and pins to its first environment: one cluster after the other in this process is fine."""
    yield
    import ray

    assert not ray.is_initialized()


@pytest.fixture
def expected(tiny_study, tmp_path):
    store = Store(tmp_path / "expected")
    run(tiny_study, store)
    return science(store)


@pytest.fixture
def started(monkeypatch):
    """The options of each call of ray.init."""
    from algoprogress.pipeline.executors.ray import RayExecutor

    calls, begin = [], RayExecutor._init

    def counted(self, options):
        real = self._ray.init
        monkeypatch.setattr(self._ray, "init", lambda **given: (calls.append(given), real(**given))[1])
        begin(self, options)

    monkeypatch.setattr(RayExecutor, "_init", counted)
    return calls


@pytest.mark.parametrize("executor", ["process", "ray"])
def test_every_executor_gives_the_records_of_the_inline_one_and_ray_is_started_once(
    tiny_study, tmp_path, expected, executor, ray_is_ours, started
):
    store = Store(tmp_path / executor)
    summary = run(tiny_study, store, executor)
    assert len(started) == (executor == "ray")
    assert summary.trained == 8
    assert not summary.failed
    assert science(store).equals(expected)
    assert store.verify("tiny").empty
    assert not list(Path(store.url).rglob("*.tmp"))
    assert not list((Path(store.url) / "active").iterdir())


def test_submitting_again_trains_nothing_and_starts_no_executor(tiny_study, tmp_path):
    store = Store(tmp_path)
    run(tiny_study, store)

    def never():
        raise AssertionError("an executor was started for nothing")

    summary = submit(resolve(tiny_study), store, never, Progress())
    assert summary.trained == 0


def test_runs_go_longest_first_and_equal_specs_train_once(tiny_study, tmp_path):
    arms = {**tiny_study.arms, "twin": tiny_study.arms["lstm"]}
    study = tiny_study.model_copy(update={"arms": arms})
    order = []

    class Recorder(InlineExecutor):
        def start(self, task):
            order.append(task.run_id)
            super().start(task)

    store = Store(tmp_path)
    submit(resolve(study), store, Recorder, Progress())
    specs = resolve(study).specs()
    cost = [specs[run_id].compute for run_id in order]
    assert len(order) == 8
    assert cost == sorted(cost, reverse=True)
    assert len(store.runs("tiny")) == 12  # the twins' rows stand under both arms


def test_a_sweep_goes_on_until_the_best_rate_is_inside_and_then_repeats_it(tiny_study, tmp_path):
    arms = {
        arm: tuple(
            entry.model_copy(update={"spec": entry.spec.model_copy(update={"learning_rate": rate})})
            for entry in entries
            if entry.spec.seed == 0 and entry.compute_budget == 2e8
            for rate in (1e-5, 2e-5)  # far too small: the best is always the largest
        )
        for arm, entries in tiny_study.arms.items()
    }
    study = resolve(tiny_study.model_copy(update={"arms": arms, "sweep": Sweep(extensions=2, factor=4.0, seeds=2)}))
    store = Store(tmp_path)
    summary = run(study, store)
    rates = store.runs("tiny").groupby("arm").learning_rate.unique().map(sorted)
    for arm in ("lstm", "modern"):
        assert rates[arm] == pytest.approx([1e-5, 2e-5, 8e-5, 32e-5])
    assert (store.runs("tiny").groupby("arm").seed.nunique() == 2).all()
    assert summary.trained == 10
    assert run(study, store).trained == 0
    assert len(list(refined(store, study).entries())) == 10


def test_an_error_of_the_code_is_kept_with_its_traceback_and_not_retried(tiny_study, tmp_path, capsys):
    entries = tiny_study.arms["lstm"]
    broken = entries[0].spec.model_copy(
        update={"data": entries[0].spec.data.model_copy(update={"corpus_sha256": "0" * 64})}
    )
    arms = {**tiny_study.arms, "lstm": (entries[0].model_copy(update={"spec": broken}), *entries[1:])}
    store, study = Store(tmp_path), tiny_study.model_copy(update={"arms": arms})
    summary = run(study, store, progress=PlainProgress("tiny"))
    assert list(summary.failed) == [broken.run_id]
    assert summary.trained == 7  # the others go on
    failures = store.failures()
    assert failures["class"].tolist() == ["failed"]
    assert "Traceback" in failures.traceback[0]
    assert "failed" in capsys.readouterr().err
    again = run(study, store)
    assert again.trained == 0
    assert "--retry-failed" in again.failed[broken.run_id]
    assert len(store.failures()) == 1
    run(study, store, retry_failed=True)
    assert len(store.failures()) == 2


def slow(study, factor=12):
    """The same study with longer runs, so that there is something to interrupt."""

    def longer(entry):
        return entry.model_copy(update={"spec": entry.spec.model_copy(update={"tokens": factor * entry.spec.tokens})})

    return study.model_copy(update={"arms": {a: tuple(map(longer, e)) for a, e in study.arms.items()}})


def test_a_diverged_run_is_kept_and_not_a_failure(tiny_study, tmp_path):
    from algoprogress.ablations.optimizers.sgd import SGD

    entry = tiny_study.arms["lstm"][0]
    spec = entry.spec.model_copy(update={"optimizer": SGD(), "learning_rate": 1e6, "clip": None})
    study = tiny_study.model_copy(update={"arms": {"lstm": (entry.model_copy(update={"spec": spec}),)}})
    store = Store(tmp_path)
    summary = run(study, store)
    assert (summary.trained, summary.diverged, summary.failed) == (1, 1, {})
    assert store.runs("tiny").empty
    assert store.runs("tiny", status="diverged").loss.notna().all()
    assert run(study, store).trained == 0


def test_a_corrupt_run_is_set_aside_and_trained_again(tiny_study, tmp_path, recwarn):
    store = Store(tmp_path)
    run(tiny_study, store)
    before = science(store)
    path = next((tmp_path / "runs").glob("*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    summary = run(tiny_study, store)
    assert summary.trained == 1
    assert science(store).equals(before)
    assert list((tmp_path / "quarantine").glob("*.txt"))


def test_a_study_with_probes_starts_ray_once_for_training_and_measuring(
    tiny_study, tmp_path, cli, ray_is_ours, started, monkeypatch
):
    probing = Probing(probe=Spectra(probes=1, steps=3, batch_tokens=64), at=(0,), arms=("modern",))
    probed = resolve(tiny_study.model_copy(update={"probes": (probing,)}))
    monkeypatch.setattr("algoprogress.pipeline.commands.studies.find_study", lambda *_, **__: probed)
    words = ["submit", "tiny", "--store", tmp_path / "store", "--slots", 2, "--no-ensembles"]
    code, _, err = cli(*words)
    assert code == 0, err
    assert "4 probes of 4 runs to measure" in err
    assert "8 runs trained" in err
    assert len(started) == 1
    store = Store(tmp_path / "store")
    assert len(store.spectra("tiny")["probe_id"].unique()) == 4
    assert cli(*words)[0] == 0
    assert len(started) == 1  # nothing was left to do


def test_nothing_listens_beyond_loopback_and_no_process_stays(tiny_study, tmp_path, ray_is_ours):
    before = {p.pid for p in psutil.process_iter()}
    heard = set()

    class Listener(Progress):
        def beats(self, active):
            mine = {p.pid for p in psutil.Process().children(recursive=True)} | {os.getpid()}
            for connection in psutil.net_connections("tcp"):
                if connection.pid in mine and connection.status == psutil.CONN_LISTEN:
                    heard.add(connection.laddr.ip)

    run(slow(tiny_study, 4), Store(tmp_path), "ray", Listener())
    assert heard
    assert heard <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    time.sleep(1)
    left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before]
    assert not [p for p in left if "ray" in " ".join(p.info["cmdline"] or [])]


def test_a_store_that_cannot_be_written_is_refused_before_anything_starts(tiny_study, tmp_path):
    from algoprogress.results import StoreError

    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(StoreError, match="file"):
        run(tiny_study, Store(blocked / "store"))


def test_what_the_worker_sends_is_plain_data(tiny_study, tmp_path):
    from algoprogress.pipeline.worker import Task, work

    spec = resolve(tiny_study).arms["lstm"][0].spec
    task = Task(spec.run_id, spec.model_dump(mode="json"), str(tmp_path)).plain()
    assert json.loads(json.dumps(task)) == task
    outcome = work(task)
    assert json.loads(json.dumps(outcome))["status"] == "done"
    assert work(task)["status"] == "present"  # first wins


def test_a_run_that_somebody_else_has_finished_is_not_trained_again(tiny_study, tmp_path, monkeypatch):
    from algoprogress.pipeline import trainer
    from algoprogress.pipeline.worker import Task, work

    store = Store(tmp_path)
    run(tiny_study, store)
    spec = resolve(tiny_study).arms["lstm"][0].spec

    def never(*args, **kwargs):
        raise AssertionError("trained twice")

    monkeypatch.setattr(trainer, "train", never)
    assert work(Task(spec.run_id, spec.model_dump(mode="json"), store.url).plain())["status"] == "present"


@pytest.mark.slow
def test_runs_that_another_submit_trains_are_waited_for_and_start_no_clock_of_ours(tiny_study, tmp_path):
    store, study = Store(tmp_path), resolve(tiny_study)
    claims = {run_id: store.claim(run_id, {"driver": "another", "step": 1, "steps": 2}) for run_id in study.specs()}
    waited = []

    class Releasing(Progress):
        def beats(self, active):
            assert not (claims and active)
            waited.append(set(claims))
            if len(waited) > 3:  # the time limit has passed: it is not ours to judge
                for run_id in list(claims):
                    claims.pop(run_id).release()

    summary = submit(study, store, lambda: ProcessExecutor(2), Releasing(), time_limit=20.0)
    assert waited[0] == study.specs().keys()
    assert summary.trained == 8
    assert not summary.failed
    assert store.active().empty


def test_the_bar_is_closed_when_there_is_nothing_to_train_and_when_nothing_can_be(tiny_study, tmp_path):
    closed = []

    class Closing(Progress):
        def close(self):
            closed.append(True)

    def broken():
        raise ValueError("no executor today")

    study = resolve(tiny_study)
    with pytest.raises(ValueError, match="today"):
        submit(study, Store(tmp_path), broken, Closing())
    assert closed == [True]
    run(tiny_study, Store(tmp_path))
    submit(study, Store(tmp_path), broken, Closing())
    assert closed == [True, True]
