"""Probes of a store: written once, found by run, step and way, and never believed when they are damaged."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.results import CorruptRun, Store
from algoprogress.results.probefile import encode, probe_id
from algoprogress.results.probes import Place

HOW = {"probes": 2, "blocks": [], "clip": None}


def spectrum_rows(scale: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "block": ["a", "a", "b"],
            "group": ["q", "q", "norm"],
            "n": [4, 4, 2],
            "direction": [0, 0, 0],
            "node": [-scale, 2.0, 1 / 3],
            "weight": [0.25, 0.75, 1.0],
            "trace": [np.nan, np.nan, 1.5],
            "trace_se": [np.nan, np.nan, 0.1],
        }
    )


def sharpness_rows() -> pd.DataFrame:
    numbers = {f"top_{share}%": [0.5] for share in ("0.1", "1", "10", "50")}
    return pd.DataFrame(
        {"update_of": ["sgd"], "sharpness": [2.0], "clipped": [1.0], **numbers, "loss_along": [[3.0, 2.5, 2.4]]}
    )


def probe(run_id: str, step: int = 0, kind: str = "spectra", **how) -> dict:
    spec = {"architecture": {"name": "lstm"}, "optimizer": {"name": "adam"}, "seed": 3}
    return {
        "kind": kind,
        "run_id": run_id,
        "step": step,
        "how": {**HOW, **how},
        "spec": spec,
        "loss": 1.25,
        "seconds": 0.5,
    }


RUN, OTHER = "a" * 20, "b" * 20


def test_what_is_read_is_what_was_published(store):
    assert store.publish_probe(probe(RUN, 7), spectrum_rows())
    table = store.spectra()
    pd.testing.assert_frame_equal(table[list(spectrum_rows())], spectrum_rows(), check_dtype=False)
    assert set(table["run_id"]) == {RUN}
    assert set(table["step"]) == {7}
    assert set(table["architecture"]) == {"lstm"}
    assert set(table["how_probes"]) == {2}
    assert set(table["probe_loss"]) == {1.25}
    assert store.sharpness().empty
    store.publish_probe(probe(RUN, kind="sharpness"), sharpness_rows())
    (row,) = store.sharpness().to_dict("records")
    assert list(row["loss_along"]) == [3.0, 2.5, 2.4]


def test_a_probe_is_its_run_step_and_way_and_the_first_of_two_stays(store):
    assert store.publish_probe(probe(RUN), spectrum_rows())
    assert not store.publish_probe(probe(RUN), spectrum_rows(scale=5.0))
    assert store.spectra()["node"].min() == -1.0
    assert store.has_probe("spectra", RUN, 0, HOW)
    for other in ((RUN, 1, HOW), (OTHER, 0, HOW), (RUN, 0, {**HOW, "probes": 3})):
        assert not store.has_probe("spectra", *other)
    assert probe_id("spectra", RUN, 0, {"a": 1, "b": 2}) == probe_id("spectra", RUN, 0, {"b": 2, "a": 1})
    with pytest.raises(ValueError, match="spectra, sharpness"):
        probe_id("spectra", RUN, 0, {}) and encode({**probe(RUN), "kind": "trace"}, spectrum_rows())


def test_tables_are_by_study_or_run(filled):
    members = [entry["run_id"] for entry in filled.study("demo")["arms"]["lstm"]]
    for run_id in (*members, RUN):
        filled.publish_probe(probe(run_id), spectrum_rows())
    assert set(filled.spectra("demo")["run_id"]) == set(members)
    assert set(filled.spectra(run_ids=[RUN])["run_id"]) == {RUN}
    assert len(set(filled.spectra()["probe_id"])) == 3
    with pytest.raises(ValueError, match="has no study 'dem'"):
        filled.spectra("dem")


@pytest.mark.parametrize("where", [10, 300, -400, -20])
def test_a_flipped_byte_is_found_and_the_probe_can_be_measured_again(store, where):
    store.publish_probe(probe(RUN), spectrum_rows())
    store.publish_probe(probe(OTHER), spectrum_rows())
    place = Place("spectra", RUN, probe_id("spectra", RUN, 0, HOW))
    path = store.folder.path / place.file
    data = bytearray(path.read_bytes())
    data[where] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.warns(CorruptRun, match=place.file):
        assert set(store.spectra()["run_id"]) == {OTHER}
    with pytest.raises(ValueError, match="set it aside"):
        store.probe("spectra", RUN, 0, HOW)
    (problem,) = store.verify().to_dict("records")
    assert (problem["kind"], problem["file"], problem["run_id"]) == ("damaged", place.file, RUN)
    store.set_aside_probe(problem["file"], problem["problem"])
    assert store.verify().empty
    assert store.publish_probe(probe(RUN), spectrum_rows())
    assert (store.folder.path / "quarantine").exists()


def test_a_renamed_probe_is_not_believed_and_a_stray_file_is_named(store):
    store.publish_probe(probe(RUN), spectrum_rows())
    place = Place("spectra", RUN, probe_id("spectra", RUN, 0, HOW))
    path = store.folder.path / place.file
    path.rename(path.with_name(f"{RUN}.{'c' * 20}.parquet"))
    (store.folder.path / "spectra" / "notes.txt").write_text("hello")
    kinds = store.verify().set_index("file")["kind"].to_dict()
    assert kinds == {f"spectra/{RUN}.{'c' * 20}.parquet": "damaged", "spectra/notes.txt": "stray"}
    with pytest.raises(ValueError, match="not the file of a probe"):
        store.set_aside_probe("runs/../secrets", "no")


def test_parts_are_kept_until_the_probe_is_whole(store):
    whole = probe_id("spectra", RUN, 0, HOW)
    store.keep_part("spectra", whole, 0, spectrum_rows())
    store.keep_part("spectra", whole, 1, spectrum_rows(scale=2.0))
    assert store.part("spectra", whole, 1)["node"].min() == -2.0
    assert store.part("spectra", whole, 2) is None
    torn = store.folder.path / "unfinished" / f"{whole}.0.parquet"
    torn.write_bytes(torn.read_bytes()[:100])
    assert store.part("spectra", whole, 0) is None
    assert store.spectra().empty
    store.publish_probe(probe(RUN), spectrum_rows())
    assert store.folder.entries("unfinished") == []


@pytest.mark.parametrize(
    ("change", "rows", "message"),
    [
        ({}, spectrum_rows().drop(columns="node"), "rows of spectra have the columns block, group"),
        ({}, spectrum_rows().iloc[:0], "there are 0 rows"),
        ({"run_id": "me"}, spectrum_rows(), "20 hex digits"),
        ({"kind": "sharpness"}, spectrum_rows(), "rows of sharpness have the columns update_of"),
    ],
)
def test_what_does_not_fit_is_refused(store, change, rows, message):
    with pytest.raises(ValueError, match=message):
        store.publish_probe({**probe(RUN), **change}, rows)
    assert not (store.folder.path / "spectra").exists()


def test_probes_go_with_their_runs_into_another_store(store, tmp_path):
    store.publish_probe(probe(RUN), spectrum_rows())
    store.publish_probe(probe(OTHER, kind="sharpness"), sharpness_rows())
    other = Store(tmp_path / "other")
    assert other.take_probes(store, [RUN]) == 1
    assert other.take_probes(store, [RUN, OTHER]) == 1
    pd.testing.assert_frame_equal(other.spectra(), store.spectra())
