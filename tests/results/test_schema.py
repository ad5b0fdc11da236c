"""A record is whole or refused, an old one becomes a new one, and the page that describes both is up to date."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from algoprogress.results import runfile, schema
from algoprogress.results.record import faults, row, upgrade

DOCS = Path(__file__).parents[2] / "docs" / "schema.md"


def test_the_page_of_the_schema_is_up_to_date():
    assert DOCS.read_text() == schema.markdown(), "run `python -m algoprogress.results.schema > docs/schema.md`"


@pytest.mark.parametrize("table", ["STUDY_COLUMNS", "RECORD_COLUMNS", "SPEC_COLUMNS", "CURVE_COLUMNS"])
def test_every_column_has_one_line_with_a_type_and_a_meaning(table):
    columns = getattr(schema, table)
    assert len({column.name for column in columns}) == len(columns)
    assert all(column.dtype in ("int64", "float64", "str", "bool") and column.meaning for column in columns)


def test_a_simulated_record_fits_the_schema(make_run):
    record, curve = make_run()
    assert faults(record) == []
    assert list(curve.columns) == [column.name for column in schema.CURVE_COLUMNS]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"n_params": "many"}, "n_params is 'many'"),
        ({"steps": True}, "steps is True"),
        ({"loss": None}, "not a finite number"),
        ({"loss": float("inf")}, "not a finite number"),
        ({"status": "perfect"}, "not one of done, diverged"),
        ({"configuration_id": "../../etc"}, "not 20 hex digits"),
        ({"new_field": 1}, "results/columns.py"),
        ({"spec": "adam"}, "not a mapping"),
    ],
)
def test_a_record_that_breaks_the_schema_is_refused_with_the_reason(store, make_run, change, complaint):
    record, curve = make_run()
    with pytest.raises(ValueError, match=complaint):
        store.publish(record | change, curve)
    assert store.run_ids() == set()


@pytest.mark.parametrize("missing", ["loss", "corpus_sha256", "spec"])
def test_a_record_without_a_field_is_refused(store, make_run, missing):
    record, curve = make_run()
    del record[missing]
    with pytest.raises(ValueError, match=f"no field {missing}"):
        store.publish(record, curve)


def test_a_curve_that_breaks_the_schema_is_refused(store, make_run):
    record, curve = make_run()
    with pytest.raises(ValueError, match="no column grad_norm"):
        store.publish(record, curve.drop(columns="grad_norm"))
    with pytest.raises(ValueError, match="surprise is not in the schema"):
        store.publish(record, curve.assign(surprise=1))
    with pytest.raises(ValueError, match="do not increase"):
        store.publish(record, curve[::-1])
    with pytest.raises(ValueError, match="whole numbers"):
        store.publish(record, curve.assign(tokens=curve["tokens"] + 0.5))


def test_a_diverged_run_may_lack_what_it_never_reached(store, make_run):
    record, curve = make_run(status="diverged", loss=7.5, loss_se=np.float32("nan"), bits_per_byte=None)
    assert store.publish(record, curve)
    assert store.record(record["run_id"])["loss_se"] is None


def test_numpy_numbers_are_stored_as_numbers(store, make_run):
    record, curve = make_run(n_params=np.int64(1234), loss=np.float64(2.5), peak_memory_bytes=np.int32(7))
    store.publish(record, curve)
    stored = store.record(record["run_id"])
    assert (stored["n_params"], stored["loss"], stored["peak_memory_bytes"]) == (1234, 2.5, 7)


def test_a_record_from_before_the_peak_was_measured_lacks_only_what_was_not_known(make_run):
    record, _ = make_run()
    new = {"gemm_flop_per_second", "gemm_fraction", "matmul", "attention", "kernels", "torch_compile"}
    old = {key: value for key, value in record.items() if key not in {*new, "micro_batches"}} | {"schema_version": 1}
    today = upgrade(old)
    assert faults(today) == []
    assert {key for key, value in today.items() if value != record[key]} == new
    assert today["micro_batches"] == 1  # no batch was ever split
    assert all(today[key] is None for key in new)


def test_an_old_record_passes_through_every_version():
    upgrades = {
        1: lambda record: {**record, "compute": record["flop"]},
        2: lambda record: {**record, "compute": 1e12 * record["compute"]},
    }
    old = {"schema_version": 1, "flop": 3.0}
    assert upgrade(old, upgrades, to_version=3) == {"schema_version": 3, "flop": 3.0, "compute": 3e12}
    assert old == {"schema_version": 1, "flop": 3.0}


def test_a_record_from_the_future_is_refused_and_left_alone(filled, make_run, monkeypatch):
    monkeypatch.setattr("algoprogress.results.runfile.SCHEMA_VERSION", 99)
    monkeypatch.setattr("algoprogress.results.record.SCHEMA_VERSION", 99)
    future, curve = make_run(width=99, schema_version=99)
    filled.publish(future, curve)
    monkeypatch.undo()
    with pytest.warns(match="schema version 99, and this package reads up to [0-9]+; install the version"):
        assert future["run_id"] not in set(filled.runs()["run_id"])


def test_a_curve_from_before_a_column_was_added_lacks_only_that_column(store, make_run, monkeypatch):
    old = runfile.CURVE_SCHEMA.remove(runfile.CURVE_SCHEMA.get_field_index("grad_norm"))
    record, curve = make_run()
    monkeypatch.setattr(runfile, "CURVE_SCHEMA", old)
    store.publish(record, curve.drop(columns="grad_norm"))
    monkeypatch.undo()
    for _ in range(2):  # from its file, then from the index
        read = store.curves()
        assert read["grad_norm"].isna().all()
        pd.testing.assert_frame_equal(read[old.names], curve[old.names])
        assert store.verify().empty
        store.compact()


def test_a_record_with_no_way_to_the_present_is_refused():
    with pytest.raises(ValueError, match="nothing here reads version 0"):
        upgrade({"schema_version": 0})


def test_a_row_is_flat_and_facts_win_over_what_was_asked_for(make_run):
    record, _ = make_run(tokens=200_000)
    record["tokens"] = 199_680
    record["spec"]["optimizer"]["betas"] = [0.9, 0.95]
    record["spec"]["architecture"]["norm"] = {"name": "rmsnorm", "epsilon": 1e-6}
    flat = row(record)
    assert flat["tokens"] == 199_680
    assert (flat["architecture"], flat["architecture_width"]) == ("transformer", 32)
    assert (flat["architecture_norm"], flat["architecture_norm_epsilon"]) == ("rmsnorm", 1e-6)
    assert flat["optimizer_betas"] == (0.9, 0.95)
    assert (flat["data_tokenizer"], flat["evaluation_tokens"], flat["reparameterization"]) == ("bytes", 65536, None)
    assert "spec" not in flat


def test_a_run_stored_with_version_1_is_read_today(store):
    golden = Path(__file__).parent / "golden" / "9e4c73de5af242f02538.parquet"
    folder = Path(store.url, "runs")
    folder.mkdir(parents=True)
    (folder / golden.name).write_bytes(golden.read_bytes())
    for _ in range(2):  # from its file, then from the index
        table = store.runs()
        assert table[["run_id", "schema_version", "micro_batches"]].to_dict("records") == [
            {"run_id": golden.stem, "schema_version": 2, "micro_batches": 1}
        ]
        assert table["loss"].tolist() == [3.772246758920426]
        assert store.verify().empty
        store.compact()
