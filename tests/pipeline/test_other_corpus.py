"""The same study on another text: a study of its own, which the tables set beside the first."""

from __future__ import annotations

import json

import pytest

from algoprogress.ablations.study import on_corpus, studies
from algoprogress.pipeline.executors.inline import InlineExecutor
from algoprogress.pipeline.plan import resolve
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.submit import submit
from algoprogress.results import Store

OF_SEVERAL = ["hessian_heterogeneity", "sharpness"]


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_a_study_of_several_corpora_has_no_other_text(name):
    with pytest.raises(ValueError, match="only a study of one text"):
        on_corpus(studies[name](), "python")


@pytest.mark.parametrize("name", [name for name in studies if name not in OF_SEVERAL])
def test_nothing_but_the_text_is_another_one(name):
    study = studies[name]()
    there = on_corpus(study, "python")
    assert (there.name, there.repeats, there.question) == (f"{name}-python", name, study.question)
    assert there.differences() == study.differences()
    entries = [*there.entries(), *((arm, e) for arm, waiting in there.main.items() for e in waiting)]
    assert {e.spec.data.corpus for _, e in entries} == {"python"}


@pytest.fixture
def other_text(text_file, tmp_path):
    path = tmp_path / "other words.txt"
    path.write_text(text_file.read_text(encoding="utf-8").replace(" ", "x "), encoding="utf-8")
    return path


def test_runs_on_another_text_are_other_runs_and_their_gains_are_told_beside_the_first(
    cli, tiny_study, other_text, tmp_path
):
    store = Store(tmp_path / "store")
    there = on_corpus(tiny_study, str(other_text))
    assert there.name == "tiny-other-words"
    for study in (tiny_study, there):
        submit(resolve(study), store, InlineExecutor, Progress())
    assert len(store.run_ids()) == 16
    assert store.study("tiny-other-words")["repeats"] == "tiny"
    for name, other in (("tiny", there.name), (there.name, "tiny")):
        code, out, _ = cli("tables", name, "--store", store.url, "--json")
        assert code == 0
        rows = json.loads(out)["corpora"]
        assert {row["asked"] for row in rows} == {"modern"}
        (corpus,) = store.runs(other)["corpus"].unique()
        assert {row["other_corpus"] for row in rows} == {corpus}


def test_the_command_line_asks_a_built_in_study_on_a_text_file(cli, text_file, tmp_path):
    words = ["smoke", "--corpus", text_file, "--store", tmp_path, "--json"]
    code, out, _ = cli("plan", *words, "--accelerator", "h100")
    assert code == 0
    on_file = {run["run_id"] for run in json.loads(out)["runs"]}
    code, out, _ = cli("diff", *words)
    assert code == 0
    assert json.loads(out)["baseline"] == studies["smoke"]().baseline
    code, out, _ = cli("plan", "smoke", "--corpus", "python", "--store", tmp_path, "--json", "--accelerator", "h100")
    assert not on_file & {run["run_id"] for run in json.loads(out)["runs"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "own.yaml", "--corpus", "python"], "--corpus python is for built-in studies; own.yaml says its own"),
        (["plan", "smoke", "--corpus", "klingon"], "klingon"),
    ],
)
def test_a_corpus_that_cannot_be_is_refused(cli, words, said):
    code, _, err = cli(*words)
    assert code == 2
    assert said in err
