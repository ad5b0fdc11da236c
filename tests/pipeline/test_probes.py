"""Probes of runs: measured once and kept, going on where they were interrupted, as a stage of a study."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from algoprogress.ablations.probes import Probing, Sharpness, Spectra
from algoprogress.pipeline.curvature import measure, stage
from algoprogress.pipeline.curvature.observe import observe
from algoprogress.pipeline.curvature.teller import Teller
from algoprogress.pipeline.executors.inline import InlineExecutor
from algoprogress.pipeline.plan import resolve
from algoprogress.pipeline.policy import Policy
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.submit import submit
from algoprogress.results import Store, submits

QUICK = Spectra(probes=1, steps=3, batch_tokens=64)
SHARP = Sharpness(optimizers=("sgd", "adam"), batch_tokens=64)


class Interrupted(BaseException):
    """What nothing catches."""


class StopsAfter(Teller):
    """Interrupts when so many things have begun."""

    def __init__(self, most: int = 10**9) -> None:
        self.begun, self.most = [], most

    def begin(self, what: str) -> None:
        self.begun.append(self.place + what)
        if len(self.begun) > self.most:
            raise Interrupted


@pytest.fixture
def look(make_spec, tokens, tmp_path):
    """`look(wanted, teller)`: observe one run with a store."""
    store = Store(tmp_path / "store")

    def run(wanted, teller=None, open_tokens=lambda: tokens):
        return observe(make_spec(), wanted, open_tokens, Policy(), teller or Teller(), store)

    run.store = store
    return run


def never():
    raise AssertionError("nothing was to be measured")


def test_what_is_in_the_store_is_read_and_the_run_not_trained_again(look):
    wanted = [(QUICK, [0, 2]), (SHARP, [1])]
    first = look(wanted)
    assert [(one.probe.kind, one.step) for one in first] == [("spectra", 0), ("sharpness", 1), ("spectra", 2)]
    again = look(wanted, open_tokens=never)
    for a, b in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(a.rows, b.rows, check_dtype=False)
        assert a.loss == b.loss
    with pytest.raises(AssertionError):
        look([(QUICK.model_copy(update={"seed": 1}), [0])], open_tokens=never)
    assert look.store.verify().empty


def test_an_interrupted_probe_goes_on_with_the_next_block_and_gives_the_same(look, make_spec, tokens):
    with pytest.raises(Interrupted):
        look([(QUICK, [0])], StopsAfter(3))
    assert look.store.spectra().empty
    rest = StopsAfter()
    (seen,) = look([(QUICK, [0])], rest)
    assert rest.begun[0] == "step 0: 4/8 blocks.0.attention.v"
    (whole,) = observe(make_spec(), [(QUICK, [0])], lambda: tokens, Policy(), Teller())
    pd.testing.assert_frame_equal(seen.rows, whole.rows, check_dtype=False)
    assert look.store.folder.entries("unfinished") == []


def test_the_same_sample_of_blocks_is_drawn_each_time_and_others_by_another_seed(make_spec):
    from algoprogress.pipeline.curvature.blocks import blocks_of

    blocks = blocks_of(make_spec().architecture.build(20, 8))
    of = [
        [block.name for block in measure.chosen(QUICK.model_copy(update={"sample": 3, "seed": seed}), blocks)]
        for seed in (0, 0, 1, 2)
    ]
    assert of[0] == of[1]
    assert len({tuple(names) for names in of}) > 1
    assert all(len(names) == 3 for names in of)
    assert {b.group for b in measure.chosen(QUICK, blocks)}.isdisjoint({"norm", "bias"})
    with pytest.raises(ValueError, match="there is no block 'conv'"):
        measure.chosen(QUICK.model_copy(update={"blocks": ("conv",)}), blocks)


@pytest.fixture
def measured_study(tiny_study):
    """The study of eight runs, with probes of the modern arm's longest runs."""
    probing = Probing(probe=QUICK, at=(0, "final"), arms=("modern",), longest=True)
    sharp = Probing(probe=SHARP, at=(2,), arms=("modern",), longest=True, seeds=1)
    return resolve(tiny_study.model_copy(update={"probes": (probing, sharp)}))


def test_a_study_measures_its_best_runs_after_it_has_trained_them(measured_study, tmp_path):
    store = Store(tmp_path / "store")
    assert stage.todo(measured_study, store) == []  # nothing is trained yet
    submit(measured_study, store, InlineExecutor, Progress(), ensembles=False)
    planned = stage.table(measured_study, store)
    assert list(planned["probe"]) == ["spectra", "spectra", "sharpness"]
    assert list(planned["state"]) == ["2 to do", "2 to do", "1 to do"]
    said: list[str] = []
    assert stage.run(measured_study, store, InlineExecutor, said.append) == {}
    assert "5 probes of 2 runs" in said[0]
    assert set(stage.table(measured_study, store)["state"]) == {"done"}
    spectra, runs = store.spectra(measured_study.name), store.runs(measured_study.name)
    steps = dict(zip(runs["run_id"], runs["steps"], strict=True))
    assert {(r, s) for r, s in zip(spectra["run_id"], spectra["step"], strict=True)} == {
        (r, s) for r in spectra["run_id"].unique() for s in (0, steps[r])
    }
    assert set(store.sharpness()["update_of"]) == {"sgd", "adam"}
    assert stage.run(measured_study, store, never, said.append) == {}


def test_a_run_that_cannot_be_measured_fails_alone(measured_study, tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    submit(measured_study, store, InlineExecutor, Progress(), ensembles=False)
    original, broken = measure.spectra, []

    def sometimes(probe, model, spec, *rest):
        broken.append(spec.run_id)
        if spec.run_id == broken[0]:
            raise ValueError("a layer too many")
        return original(probe, model, spec, *rest)

    monkeypatch.setattr(measure, "spectra", sometimes)
    failed = stage.run(measured_study, store, InlineExecutor, lambda line: None)
    assert failed == {broken[0]: "ValueError: a layer too many"}
    assert [one.spec.run_id for one in stage.todo(measured_study, store)] == [broken[0]]


class Closing(InlineExecutor):
    """Says how often it was made and closed, in which order, and with how many tasks queued at its end."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self.told = told
        told.append("made")

    def only_cpus(self) -> None:
        self.told.append("only CPUs")

    def close(self) -> None:
        self.told.append("closed")
        super().close()


def measuring(study, store, watch=None):
    return lambda opened, watched: stage.run(study, store, opened, lambda line: None, watch or watched)


def test_one_executor_trains_and_measures_and_is_closed_once(measured_study, tmp_path):
    store, told = Store(tmp_path / "store"), []
    submit(measured_study, store, lambda: Closing(told), Progress(), measuring(measured_study, store), ensembles=False)
    assert told == ["made", "only CPUs", "closed"]
    assert set(stage.table(measured_study, store)["state"]) == {"done"}
    submit(measured_study, store, never, Progress(), measuring(measured_study, store))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_executor_is_closed_once_however_the_measuring_ends(measured_study, tmp_path, error):
    store, told = Store(tmp_path / "store"), []

    def interrupt():
        raise error

    then = measuring(measured_study, store, interrupt)
    with pytest.raises(error):
        submit(measured_study, store, lambda: Closing(told), Progress(), then, ensembles=False)
    assert told == ["made", "only CPUs", "closed"]
    assert store.submits().empty


def test_measuring_is_cancelled_as_training_is_and_goes_on_with_the_next_submit(tiny_study, tmp_path, monkeypatch):
    probing = Probing(probe=QUICK, at=(0,))
    study, store, told = resolve(tiny_study.model_copy(update={"probes": (probing,)})), Store(tmp_path), []
    submit(study, store, InlineExecutor, Progress(), ensembles=False)
    to_do = len(stage.todo(study, store))
    monkeypatch.setattr(type(store.folder), "beat_seconds", 0.0)

    class AsksToStop(Closing):
        def wait(self, seconds):
            for driver in store.submits()["driver"]:
                submits.ask_to_stop(store.folder, driver)
            return super().wait(seconds)

    summary = submit(study, store, lambda: AsksToStop(told), Progress(), measuring(study, store))
    assert summary.cancelled
    assert told == ["made", "only CPUs", "closed"]
    assert 0 < len(stage.todo(study, store)) < to_do
    assert store.submits().empty
    assert not submit(study, store, InlineExecutor, Progress(), measuring(study, store)).cancelled
    assert stage.todo(study, store) == []


def test_published_probes_are_printed_again_without_training(stored_run, cli):
    folder, run_id = stored_run
    words = ["curvature", "spectrum", run_id, "--at", "0,3", "--blocks", 2, "--publish", "--store", folder, "--json"]
    words += ["--probes", 1, "--steps", 3, "--batch-tokens", 64]
    code, out, err = cli(*words)
    assert code == 0, err
    assert "step 3: 2/2" in err
    code, again, err = cli(*words)
    assert "step" not in err
    assert json.loads(again) == json.loads(out)
    assert {row["at"] for row in json.loads(out)} == {0, 3}
    assert len(Store(folder).spectra()["probe_id"].unique()) == 2


@pytest.fixture
def stored_run(make_spec, tokens, tmp_path):
    from algoprogress.pipeline.trainer import train
    from algoprogress.results.schema import RECORD_COLUMNS, SCHEMA_VERSION

    run = train(make_spec(), tokens)
    record = dict.fromkeys(column.name for column in RECORD_COLUMNS) | {"schema_version": SCHEMA_VERSION} | run.record
    Store(tmp_path / "store").publish(record, run.curve)
    return tmp_path / "store", run.record["run_id"]


def test_a_run_from_another_device_is_trained_again_with_a_warning(make_spec, tokens, tmp_path, cli):
    from algoprogress.pipeline.trainer import train
    from algoprogress.results.schema import RECORD_COLUMNS, SCHEMA_VERSION

    run = train(make_spec(), tokens)
    record = dict.fromkeys(column.name for column in RECORD_COLUMNS) | {"schema_version": SCHEMA_VERSION} | run.record
    Store(tmp_path / "store").publish({**record, "device": "NVIDIA H100"}, run.curve)
    words = ["curvature", "spectrum", run.record["run_id"], "--by", "full", "--trace-products", 0]
    code, _, err = cli(*words, "--probes", 1, "--steps", 2, "--batch-tokens", 64, "--store", tmp_path / "store")
    assert code == 0
    assert "was trained on NVIDIA H100 and is trained again on cpu" in err


def test_a_run_whose_corpus_is_gone_cannot_be_looked_at(stored_run, cli, monkeypatch):
    from algoprogress.pipeline import data

    def gone(*_):
        raise data.CorpusError("The corpus words.txt is not here: put it back")

    monkeypatch.setattr(data, "open_tokens", gone)
    folder, run_id = stored_run
    code, _, err = cli("curvature", "spectrum", run_id, "--store", folder)
    assert code == 2
    assert "words.txt is not here" in err
