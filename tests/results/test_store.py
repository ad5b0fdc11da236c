"""A user's view of the store: tables as pandas expects them, in an order that does not change."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from algoprogress.results import Store, StoreError, UnknownRun
from algoprogress.results.frames import TEXT


def test_what_was_published_is_read_back(store, make_run):
    record, curve = make_run(host="Zürich-节点")
    assert store.publish(record, curve) is True
    assert store.run_ids() == {record["run_id"]}
    assert store.record(record["run_id"]) == record
    read = store.curves(run_ids=[record["run_id"]])
    assert set(read.pop("run_id")) == {record["run_id"]}
    pd.testing.assert_frame_equal(read, curve)


def test_a_second_publication_changes_nothing(store, make_run):
    record, curve = make_run()
    assert store.publish(record, curve)
    assert store.publish(record | {"loss": 9.0}, curve) is False
    assert store.record(record["run_id"])["loss"] == record["loss"]


def test_the_query_of_the_readme_works(filled):
    best = filled.runs(study="demo").query("n_params > 1e4").groupby("arm").loss.min()
    assert set(best.index) == {"zebra", "lstm"}
    assert best.dtype == "float64"


def test_an_empty_store_answers_the_same_query(store):
    table = store.runs()
    assert table.query("n_params > 1e5").groupby("arm").loss.min().empty
    assert store.curves().empty and store.failures().empty and store.active().empty and store.verify().empty
    assert store.runs().dtypes.to_dict() == table.dtypes.to_dict()
    assert (store.studies(), store.run_ids(), store.clean()) == ([], set(), [])


def test_reading_a_store_that_is_not_there_creates_nothing(tmp_path):
    store = Store(tmp_path / "nowhere")
    store.runs(), store.curves(), store.verify(), store.clean(), store.active(), store.failures()
    store.retire("0" * 20)
    assert list(tmp_path.iterdir()) == []


def test_columns_have_their_types(filled):
    table = filled.runs()
    for name in ["n_params", "tokens", "steps", "seed", "attempt", "architecture_width", "data_context"]:
        assert table[name].dtype == np.int64, name
    for name in ["loss", "compute", "compute_budget", "learning_rate", "clip", "architecture_forget_bias"]:
        assert table[name].dtype == np.float64, name
    for name in ["study", "arm", "run_id", "status", "architecture", "optimizer", "reparameterization", "git_dirty"]:
        assert table[name].dtype == TEXT, name
    lstm = table["architecture"] == "lstm"
    assert table.loc[lstm, "architecture_norm"].isna().all() and table.loc[~lstm, "architecture_norm"].notna().all()
    assert table.loc[~lstm, "architecture_forget_bias"].isna().all()


def test_rows_follow_studies_arms_budgets_and_compute(filled, make_run):
    run = next(iter(filled.study("demo")["arms"]["lstm"]))
    filled.save_study({"name": "a-second", "baseline": "only", "arms": {"only": [run]}})
    table = filled.runs()
    assert list(table["study"].fillna("")) == ["a-second"] + ["demo"] * 4 + [""]
    assert list(table["arm"].fillna("")) == ["only", "zebra", "zebra", "lstm", "lstm", ""]
    budgets = table.loc[table["study"] == "demo", "compute_budget"].tolist()
    assert budgets[:3] == [1e11, 3e11, 3e11] and np.isnan(budgets[3])
    pd.testing.assert_frame_equal(table, filled.runs())


def test_a_diverged_run_is_read_when_asked_for(filled):
    assert set(filled.runs("demo")["status"]) == {"done"}
    assert list(filled.runs("demo", status="diverged")["arm"]) == ["modern"]
    assert len(filled.runs("demo", status=None)) == 5
    with pytest.raises(ValueError, match="done, diverged"):
        filled.runs("demo", status="finished")


def test_a_run_in_two_arms_has_a_row_in_each(filled):
    study = filled.study("demo")
    study["arms"]["again"] = study["arms"]["zebra"]
    filled.save_study(study)
    table = filled.runs("demo")
    assert table["arm"].value_counts().to_dict() == {"zebra": 2, "again": 2, "lstm": 2}
    assert not filled.curves("demo").duplicated(["run_id", "step"]).any()


def test_curves_come_in_the_order_asked_for(filled):
    run_ids = sorted(filled.run_ids(), reverse=True)[:3]
    assert list(filled.curves(run_ids=run_ids)["run_id"].unique()) == run_ids
    expected = [entry["run_id"] for arm in filled.study("demo")["arms"].values() for entry in arm]
    assert list(filled.curves("demo")["run_id"].unique()) == expected


def test_an_unknown_study_lists_the_known_ones(filled):
    with pytest.raises(ValueError, match=r"no study 'dmeo' \(known: demo\): run `algoprogress submit dmeo`"):
        filled.runs("dmeo")


def test_an_unknown_run_is_a_key_error_with_a_sentence(store):
    with pytest.raises(KeyError) as caught:
        store.record("0" * 20)
    assert str(caught.value).startswith("The store ")
    with pytest.raises(UnknownRun):
        store.curves(run_ids=["0" * 20])


@pytest.mark.parametrize("name", ["", "../demo", "a/b", ".hidden", "a\n", "x" * 101, None, "ä"])
def test_a_study_name_can_not_leave_the_store(store, name):
    with pytest.raises(ValueError, match="rename it"):
        store.save_study({"name": name, "arms": {}})
    with pytest.raises(ValueError, match="rename it"):
        store.study(name)


@pytest.mark.parametrize("run_id", ["", "../" * 6 + "ab", "0" * 19, "0" * 21, "A" * 20, "0" * 20 + "\n", None])
def test_a_run_id_can_not_leave_the_store(store, make_run, run_id):
    record, curve = make_run()
    for use in (
        lambda: store.publish(record | {"run_id": run_id}, curve),
        lambda: store.record(run_id),
        lambda: store.curves(run_ids=[run_id]),
        lambda: store.claim(run_id, {}),
        lambda: store.retire(run_id),
        lambda: store.record_failure(run_id, {}),
        lambda: store.set_aside(run_id, "why"),
    ):
        with pytest.raises(ValueError, match="20 hex digits"):
            use()


@pytest.mark.parametrize(
    "change",
    [
        {"baseline": "nobody"},
        {"arms": {"lstm": [{"run_id": "../../x"}]}},
        {"arms": {"lstm": [{"run_id": "0" * 20, "compute_budget": "big"}]}},
        {"arms": ["lstm"]},
        {"question": {1, 2}},
    ],
)
def test_a_study_that_makes_no_sense_is_refused_and_the_stored_one_stays(filled, change):
    before = filled.study("demo")
    with pytest.raises(ValueError, match="Study demo can not be stored"):
        filled.save_study(before | change)
    assert filled.study("demo") == before


def test_the_store_is_found_by_argument_then_environment_then_default(tmp_path, monkeypatch):
    monkeypatch.setenv("ALGOPROGRESS_STORE", str(tmp_path / "from environment"))
    assert Store().url == str(tmp_path / "from environment")
    assert Store(tmp_path).url == Store(f"file://{tmp_path}").url == str(tmp_path)
    monkeypatch.delenv("ALGOPROGRESS_STORE")
    monkeypatch.chdir(tmp_path)
    assert Store().url == str(tmp_path / "results" / "data")


def test_failures_are_numbered_and_keep_their_reason(store):
    run_id = "ab" * 10
    store.record_failure(run_id, {"class": "infra", "message": "killed"})
    store.record_failure(run_id, {"class": "failed", "message": "ValueError: naïve", "traceback": ValueError("naïve")})
    table = store.failures(run_id)
    assert table["attempt"].tolist() == [1, 2] and table["class"].tolist() == ["infra", "failed"]
    assert table["message"].tolist() == ["killed", "ValueError: naïve"] and table["traceback"][1] == "naïve"
    assert len(store.failures()) == 2


def test_a_store_in_memory_behaves_like_a_folder(make_run):
    store = Store("memory://algoprogress-test/store")
    record, curve = make_run()
    assert store.runs().empty
    store.writable()
    assert store.publish(record, curve) is True
    assert store.publish(record | {"loss": 9.0}, curve) is False
    store.save_study({"name": "demo", "baseline": "a", "arms": {"a": [{"run_id": record["run_id"]}]}})
    assert store.claim(record["run_id"], {"step": 1})
    store.record_failure(record["run_id"], {"class": "infra"})
    assert store.runs("demo")["loss"].tolist() == [record["loss"]]
    assert store.compact() == 1
    assert store.runs("demo")["loss"].tolist() == [record["loss"]]
    assert len(store.curves("demo")) == len(curve)
    assert len(store.failures()) == len(store.active()) == 1
    assert store.verify().empty
    store.retire(record["run_id"])
    store.set_aside(record["run_id"], "a test")
    assert store.runs().empty and store.active().empty


def test_a_url_that_nothing_can_open_is_one_sentence():
    with pytest.raises(StoreError, match=r"Cannot open the store nonsense://x: .*--store"):
        Store("nonsense://x").runs()


def test_any_parquet_reader_opens_a_run(filled):
    name = next(Path(filled.url, "runs").iterdir())
    assert len(pd.read_parquet(name)) == 12


def test_reading_a_table_needs_neither_torch_nor_ray(filled):
    code = (
        "import sys; from algoprogress.results import Store\n"
        f"assert len(Store({filled.url!r}).runs('demo')) == 4\n"
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_sound_store_warns_of_nothing(filled):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert filled.runs().attrs["corrupt"] == [] and filled.curves().attrs["corrupt"] == []
        assert filled.verify().empty
