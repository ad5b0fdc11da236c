"""Which runs are sent together, and that a study ends the same whatever happens to an ensemble."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import pytest

from algoprogress.pipeline import executors
from algoprogress.pipeline.ensembles import train as training
from algoprogress.pipeline.ensembles.choice import Choice, shape
from algoprogress.pipeline.ensembles.executor import EnsembleExecutor, bundled
from algoprogress.pipeline.executors.process import ProcessExecutor
from algoprogress.pipeline.plan import resolve
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.submit import submit
from algoprogress.pipeline.worker import Outcome, Task, work
from algoprogress.results import Store, StoreError

pytestmark = pytest.mark.alone

TRANSFORMER = {"name": "transformer", "preset": "modern", "width": 16, "n_layers": 1}


def run(study, store, executor="inline", progress=None, **options):
    return submit(resolve(study), store, lambda: executors.make(executor, slots=2), progress or Progress(), **options)


def losses(store):
    return store.runs("tiny", status=None).set_index("run_id").loss.sort_index()


def task_of(spec, store="nowhere", **fields):
    return Task(spec.run_id, spec.model_dump(mode="json"), str(store), **fields)


@pytest.fixture
def expected(tiny_study, tmp_path):
    store = Store(tmp_path / "alone")
    run(tiny_study, store, ensembles=False)
    return losses(store)


class Recorder:
    """An executor that keeps what it was sent, and says when it is asked that all of it is done."""

    def __init__(self, slots):
        self.slots, self.sent, self.stopped, self.closed = slots, [], [], False

    def start(self, task):
        self.sent.append(task)

    def wait(self, seconds):
        return []

    def stop(self, run_id):
        self.stopped.append(run_id)

    def close(self):
        self.closed = True

    def last_words(self, pid):
        return f"those of {pid}"


def sizes(recorder):
    return [1 + len(task.together) for task in recorder.sent]


def send(specs, slots, choice=None, **fields):
    """A recorder of `slots`, and the executor through which it was sent the specs."""
    recorder = Recorder(slots)
    executor = EnsembleExecutor(recorder, choice or Choice.always("cpu"))
    for spec in specs:
        executor.start(task_of(spec, **fields))
    executor.wait(0.0)
    return recorder, executor


def test_runs_of_one_shape_differ_in_rate_seed_and_optimizer_alone(make_spec):
    same = [{}, {"seed": 1}, {"learning_rate": 1.0}, {"optimizer": "sgd"}, {"schedule": "wsd"}, {"clip": None}]
    assert len({shape(make_spec(**changes)) for changes in same}) == 1
    other = [{"tokens": 256}, {"batch_tokens": 512}, {"dtype": "float64"}, {"evaluation": {"tokens": 64}}]
    assert len({shape(make_spec(**changes)) for changes in [{}, *other]}) == 5
    assert shape(make_spec(dropout=0.1)) is shape(make_spec(optimizer="shampoo")) is None


def test_on_a_gpu_every_run_is_taken_that_can_be(make_spec):
    least = Choice.where_it_pays("cuda").least
    assert least(make_spec(batch_tokens=10_240, tokens=10_240)) == 2
    assert least(make_spec("lstm")) == 8  # one launch for each time step has more to make up for
    assert least(make_spec(dropout=0.1)) is None


def test_on_a_cpu_small_steps_of_models_without_memory_are_taken(make_spec):
    least = Choice.where_it_pays("cpu").least
    assert least(make_spec()) == 8  # 16 wide, 256 tokens a step
    assert least(make_spec(batch_tokens=128)) == 8
    assert least(make_spec(batch_tokens=288, tokens=288)) is None
    assert least(make_spec("lstm")) is None
    assert least(make_spec(dropout=0.1)) is None


def test_the_runs_of_a_shape_are_shared_out_among_the_slots(make_spec):
    specs = [make_spec(seed=seed) for seed in range(8)]
    assert sizes(send(specs, slots=2)[0]) == [4, 4]
    assert sizes(send(specs, slots=1)[0]) == [8]
    assert sizes(send(specs, slots=8)[0]) == [1] * 8
    assert sizes(send(specs + [make_spec("lstm", seed=seed) for seed in range(8)], slots=1)[0]) == [8, 8]


def test_too_few_to_be_faster_are_trained_alone(make_spec):
    choice = Choice.where_it_pays("cpu")
    specs = [make_spec(seed=seed) for seed in range(8)]
    assert sizes(send(specs, 1, choice)[0]) == [8]
    assert sizes(send(specs[1:], 1, choice)[0]) == [1, 1]  # the third waits, so that others may join it


def test_the_longest_goes_first_and_a_second_attempt_alone(make_spec):
    specs = [make_spec(seed=seed, tokens=tokens) for tokens in (2560, 10_240) for seed in range(2)]
    recorder, _ = send(specs, slots=1)
    assert [task.spec["tokens"] for task in recorder.sent] == [10_240, 2560]
    assert sizes(send(specs, slots=4, attempt=2)[0]) == [1] * 4


def test_what_is_to_be_compiled_goes_alone(make_spec):
    specs = [make_spec(seed=seed) for seed in range(4)]
    recorder, _ = send(specs, slots=4, torch_compile=True)
    assert sizes(recorder) == [1] * 4
    assert all(task.torch_compile for task in recorder.sent)


def test_every_run_gets_its_own_outcome(make_spec):
    specs = [make_spec(seed=seed) for seed in range(3)]
    recorder, executor = send(specs, slots=1)
    first, *others = (spec.run_id for spec in specs)
    ended = Outcome(first, "done", 3.0, together=[Outcome(r, "diverged", 9.0).plain() for r in others])
    recorder.wait = lambda seconds: [ended]
    found = executor.wait(0.0)
    assert [(o.run_id, o.status) for o in found] == [(first, "done"), *((run_id, "diverged") for run_id in others)]
    assert not any(o.together for o in found)


def test_a_lost_worker_is_the_loss_of_each_of_its_runs(make_spec):
    specs = [make_spec(seed=seed) for seed in range(3)]
    recorder, executor = send(specs, slots=1)
    recorder.wait = lambda seconds: [Outcome(specs[0].run_id, "infra", None, "gone")]
    assert [(o.run_id, o.status) for o in executor.wait(0.0)] == [(spec.run_id, "infra") for spec in specs]


def test_a_run_that_is_stopped_takes_its_ensemble_along_and_the_others_are_tried_again(make_spec):
    specs = [make_spec(seed=seed) for seed in range(3)]
    recorder, executor = send(specs, slots=1)
    executor.stop(specs[1].run_id)
    assert recorder.stopped == [specs[0].run_id]
    recorder.wait = lambda seconds: [Outcome(specs[0].run_id, "stopped")]
    assert [o.status for o in executor.wait(0.0)] == ["infra", "stopped", "infra"]


def test_a_run_that_waits_is_stopped_before_it_begins(make_spec):
    recorder, executor = send([make_spec(seed=seed) for seed in range(3)], slots=1, attempt=2)
    assert len(recorder.sent) == 2
    waiting = make_spec(seed=2).run_id
    executor.stop(waiting)
    assert [(o.run_id, o.status) for o in executor.wait(0.0)] == [(waiting, "stopped")]
    assert recorder.stopped == []


def test_what_else_an_executor_can_do_it_still_can():
    recorder = Recorder(2)
    executor = bundled(recorder, "cpu", None)
    assert executor.last_words(7) == "those of 7"
    assert executor.slots == 2 * Choice.where_it_pays("cpu").most
    executor.close()
    assert recorder.closed
    assert bundled(recorder, "cpu", False) is recorder


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_study_in_ensembles_has_the_runs_and_losses_of_one_without(tiny_study, tmp_path, expected, executor):
    store = Store(tmp_path / "together")
    summary = run(tiny_study, store, executor, ensembles=True)
    assert (summary.trained, summary.failed) == (8, {})
    found = losses(store)
    assert found.index.equals(expected.index)
    assert found.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5)
    assert store.verify("tiny").empty
    assert not list((tmp_path / "together" / "active").iterdir())
    assert run(tiny_study, store, ensembles=True).trained == 0


def test_where_it_pays_is_the_default(tiny_study, tmp_path, monkeypatch):
    seen = []

    def spy(specs, tokens, **options):
        seen.append(len(specs))
        return original(specs, tokens, **options)

    original = training.train_together
    monkeypatch.setattr(training, "train_together", spy)
    entry = tiny_study.arms["modern"][0]
    seeds = tuple(
        entry.model_copy(update={"spec": entry.spec.model_copy(update={"seed": seed, "tokens": 2560})})
        for seed in range(8)
    )
    study = tiny_study.model_copy(update={"arms": {"lstm": tiny_study.arms["lstm"][:1], "modern": seeds}})
    assert run(study, Store(tmp_path)).trained == 9
    assert seen == [8]


@pytest.fixture
def ensemble(make_spec, tmp_path):
    """A store, and a task of four runs of which the second diverges."""
    changes = [{}, {"optimizer": "sgd", "learning_rate": 1e6, "clip": None}, {"seed": 1}, {"seed": 2}]
    first, *others = (task_of(make_spec(tokens=20 * 256, **change), tmp_path / "store") for change in changes)
    task = {**first.plain(), "together": tuple(other.plain() for other in others)}
    return Store(tmp_path / "store"), task, [first.run_id, *(other.run_id for other in others)]


def outcomes(task, on_progress=None):
    outcome = work(task, on_progress)
    return {o["run_id"]: o for o in (outcome, *outcome["together"])}


def test_a_worker_publishes_each_member_and_reports_it(ensemble):
    store, task, run_ids = ensemble
    heard = Counter()
    found = outcomes(task, lambda beat: heard.update([beat["run_id"]]))
    assert [found[run_id]["status"] for run_id in run_ids] == ["done", "diverged", "done", "done"]
    assert store.run_ids() == set(run_ids) == heard.keys()
    assert all(found[run_id]["loss"] == store.record(run_id)["loss"] for run_id in run_ids)
    assert store.active().empty
    for record in map(store.record, run_ids):  # torch alone can batch models; what it does so is measured as ever
        assert record["kernels"] is None
        assert record["attention"] in ("fused", "products")
        assert record["gemm_fraction"] == record["flop_per_second"] / record["gemm_flop_per_second"] > 0
    assert {o["status"] for o in outcomes(task).values()} == {"present"}


@pytest.mark.parametrize(("error", "status"), [(StoreError("full"), "store"), (ValueError("odd"), "failed")])
def test_a_member_that_cannot_be_published_loses_no_other(ensemble, monkeypatch, error, status):
    store, task, run_ids = ensemble
    publish = Store.publish

    def refuse_one(self, record, curve):
        if record["run_id"] == run_ids[0]:
            raise error
        return publish(self, record, curve)

    monkeypatch.setattr(Store, "publish", refuse_one)
    found = outcomes(task)
    assert [found[run_id]["status"] for run_id in run_ids] == [status, "diverged", "done", "done"]
    assert store.run_ids() == set(run_ids[1:])
    assert len(store.failures()) == (status == "failed")


def test_what_cannot_be_trained_together_is_trained_alone(ensemble, monkeypatch):
    store, task, run_ids = ensemble

    def break_down(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(training, "train_together", break_down)
    with pytest.warns(UserWarning, match="out of memory; the ensemble's runs are trained one by one"):
        found = outcomes(task)
    assert [found[run_id]["status"] for run_id in run_ids] == ["done", "diverged", "done", "done"]
    assert store.failures().empty


def test_a_spec_that_is_another_run_here_fails_and_the_others_do_not(ensemble):
    _, task, run_ids = ensemble
    wrong = "0" * 20
    with pytest.warns(UserWarning, match="different versions"):
        found = outcomes({**task, "run_id": wrong})
    assert found[wrong]["status"] == "failed"
    assert [found[run_id]["status"] for run_id in run_ids[1:]] == ["diverged", "done", "done"]


def test_checkpoints_of_published_members_are_removed(ensemble):
    store, task, run_ids = ensemble
    found = outcomes({**task, "checkpoint_seconds": 0.0})
    assert store.run_ids() == set(run_ids) == found.keys()
    assert list((store.folder.path / "checkpoints").iterdir()) == []


def test_runs_whose_ensemble_is_killed_are_trained_again_alone(tiny_study, tmp_path, expected):
    store, killed = Store(tmp_path / "killed"), []

    class Killer(Progress):
        def beats(self, active):
            for beat in active.values():
                if not killed:
                    killed.append(beat["run_id"])
                    os.kill(beat["pid"], signal.SIGKILL)

    def longer(entry):
        return entry.model_copy(update={"spec": entry.spec.model_copy(update={"tokens": 4 * entry.spec.tokens})})

    study = tiny_study.model_copy(update={"arms": {a: tuple(map(longer, e)) for a, e in tiny_study.arms.items()}})
    summary = submit(resolve(study), store, lambda: ProcessExecutor(1), Killer(), ensembles=True)
    assert killed
    assert not summary.failed
    assert set(store.failures()["class"]) == {"infra"}
    assert len(store.failures()) >= 2  # each member of the ensemble
    assert len(store.runs("tiny")) == 8


@pytest.mark.parametrize("option", [["--time-limit", 5], ["--fail-fast"], ["--compile"]])
def test_what_is_for_runs_one_by_one_is_refused_with_ensembles(cli, tiny_study, text_file, tmp_path, option):
    study = text_file.with_name("tiny.yaml")
    code, _, err = cli("submit", study, "--store", tmp_path, "--executor", "process", *option, "--ensembles")
    assert code == 2
    assert f"leave out {option[0]} or --ensembles" in err


def test_the_benchmark_of_ensembles_says_where_they_are_taken(cli, monkeypatch):
    from algoprogress.pipeline import bench, bench_ensembles

    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench_ensembles, "STEPS", 2)
    monkeypatch.setattr(
        bench_ensembles, "CASES", [("transformer", {"width": 16}, 128, 8), ("lstm", {"width": 8}, 128, 2)]
    )
    code, out, _ = cli("bench", "ensembles", "--json")
    taken, alone = json.loads(out)
    assert code == 0
    assert taken["target"] == bench_ensembles.TARGET
    assert alone["target"] == 0.0
    assert alone["case"].endswith("; alone")
    assert min(taken["ratio"], alone["ratio"]) > 0


def test_a_share_of_a_gpu_is_for_one_run(cli):
    """The estimate of memory is of one run, so runs that share a GPU are not stacked in one process."""
    from algoprogress.pipeline.options import Options

    assert Options(device="cuda", gpus_per_run=0.25).together is False
    assert Options(device="cuda", gpus_per_run=1.0).together is None
    code, _, err = cli("submit", "smoke", "--gpus-per-run", "0.25", "--ensembles")
    assert code == 2
    assert "--gpus-per-run below 1 is for runs that are trained one by one" in err
