"""The command line as a user meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from algoprogress.pipeline.cli import app

pytestmark = pytest.mark.alone


@pytest.fixture
def study_file(tiny_study, text_file):
    return text_file.with_name("tiny.yaml")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def full_store(cli, study_file, filled):
    assert cli("submit", study_file, "--store", filled, "--executor", "inline")[0] == 0
    return filled


READING = [
    ["studies"],
    ["status"],
    ["runs", "tiny"],
    ["verify"],
    ["diff", "tiny"],
    ["tables", "tiny"],
    ["gains", "tiny"],
    ["fit", "tiny"],
    ["compact"],
    ["corpus", "list"],
]


@pytest.mark.parametrize("words", READING, ids=" ".join)
@pytest.mark.filterwarnings("ignore")
def test_a_reading_command_prints_one_json_document_on_stdout(cli, full_store, words):
    stored = [] if words[0] in ("studies", "corpus") else ["--store", full_store]
    if words[0] == "fit":
        code, out, err = cli(*words, *stored, "--json")
        assert code == 2  # two budgets are fewer than the three parameters of the law
        assert out == ""
        assert "parameters" in err
        return
    code, out, _ = cli(*words, *stored, "--json")
    assert code == 0
    json.loads(out)


def test_plan_trains_nothing_and_says_what_is_done(cli, study_file, full_store, tmp_path):
    code, out, _ = cli("plan", study_file, "--store", tmp_path, "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["totals"]["pending"] == 8
    assert plan["totals"]["wall_hours_low"] < plan["totals"]["wall_hours"] < plan["totals"]["wall_hours_high"]
    assert all(row["seconds"] > 0 for row in plan["runs"])
    assert not list(tmp_path.rglob("*.parquet"))
    assert json.loads(cli("plan", study_file, "--store", full_store, "--json")[1])["totals"]["pending"] == 0


def test_a_plan_over_the_cap_is_refused_with_exit_code_3(cli, study_file, tmp_path):
    code, _, err = cli("submit", study_file, "--store", tmp_path, "--executor", "inline", "--max-hours", "1e-9")
    assert code == 3
    assert "--max-hours" in err
    assert not list(tmp_path.rglob("*.parquet"))


def test_status_counts_from_files_alone(cli, full_store):
    rows = json.loads(cli("status", "--store", full_store, "--json")[1])
    assert [(row["arm"], row["done"], row["to_do"]) for row in rows] == [
        ("lstm", 4, 0),
        ("modern", 4, 0),
        (None, 8, 0),
    ]


def test_logs_show_a_run_by_the_beginning_of_its_id(cli, full_store):
    runs = json.loads(cli("runs", "tiny", "--store", full_store, "--json")[1])
    code, out, _ = cli("logs", runs[0]["run_id"][:10], "--store", full_store)
    assert code == 0
    assert runs[0]["run_id"] in out
    code, _, err = cli("logs", "zzz", "--store", full_store)
    assert code == 2
    assert "zzz" in err


def test_runs_can_be_queried(cli, full_store):
    rows = json.loads(cli("runs", "tiny", "--store", full_store, "--where", "arm == 'lstm' and seed == 0", "--json")[1])
    assert len(rows) == 2
    assert rows[0]["architecture"] == "lstm"
    assert cli("runs", "tiny", "--store", full_store, "--where", "nonsense >")[0] == 2


@pytest.mark.filterwarnings("ignore")
def test_a_report_is_written_with_its_figures_and_tables(cli, full_store, tmp_path):
    code, out, _ = cli("report", "tiny", "--store", full_store, "--out", tmp_path / "report")
    assert code == 0
    names = {p.name for p in (tmp_path / "report").iterdir()}
    assert {"report.html", "gains.png", "loss.png", "efficiency.csv", "efficiency.md"} <= names
    assert "report.html" in out
    code, out, _ = cli("figures", "tiny", "--store", full_store, "--out", tmp_path / "figures", "--json")
    assert code == 0
    assert set(json.loads(out)) >= {"gains", "loss"}
    code, out, _ = cli("figures", "tiny", "--store", full_store, "--out", tmp_path / "paper", "--format", "pdf,svg")
    assert code == 0
    assert {p.suffix for p in (tmp_path / "paper").iterdir()} == {".pdf", ".svg"}


@pytest.mark.filterwarnings("ignore")
def test_a_report_of_no_study_is_a_site_of_all(cli, full_store, tmp_path):
    code, out, _ = cli("report", "--store", full_store, "--out", tmp_path / "site")
    assert code == 0
    assert out.startswith("tiny: ")
    assert out.strip().endswith(str(tmp_path / "site" / "index.html"))
    assert (tmp_path / "site" / "studies" / "tiny.html").exists()
    code, out, _ = cli("report", "--store", full_store, "--out", tmp_path / "site", "--json")
    assert set(json.loads(out)["answers"]) == {"tiny"}


@pytest.mark.filterwarnings("ignore")
def test_tables_are_printed_for_a_paper(cli, full_store):
    assert "\\toprule" in cli("tables", "tiny", "--store", full_store, "--format", "latex")[1]
    assert "arm,compute,loss" in cli("tables", "tiny", "--store", full_store, "--format", "csv")[1]


def test_a_forecast_is_printed_with_its_band_and_its_distance(cli, tmp_path):
    code, out, _ = cli("accounting", "--compute", "1e26", "--figures", tmp_path, "--format", "svg")
    assert code == 0
    assert "decades of compute beyond what was measured" in out
    assert "Ho et al. 2024" in out
    assert {p.name for p in tmp_path.iterdir()} >= {"waterfall.svg", "multiverse.svg"}
    found = json.loads(cli("accounting", "--compute", "1e26", "--json")[1])["forecast"]
    assert found["low"] < found["total"] < found["high"]


def test_a_table_of_models_has_a_trend(cli, tmp_path):
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    year, log_n, log_d = rng.uniform(2012, 2023, 80), rng.uniform(16, 23, 80), rng.uniform(18, 25, 80)
    rate = np.log(2) * 12 / 9.0  # effective compute doubles in nine months
    loss = np.exp(2 - 0.1 * (log_n + 0.5 * rate * (year - 2012))) + np.exp(
        2 - 0.1 * (log_d + 0.5 * rate * (year - 2012))
    )
    table = pd.DataFrame({"year": year, "N": np.exp(log_n), "D": np.exp(log_d), "perplexity": np.exp(loss)})
    table.to_csv(tmp_path / "models.csv", index=False)
    code, out, _ = cli("trend", tmp_path / "models.csv", "--resamples", 20)
    assert code == 0
    assert "halves in 9.00" in out


def test_a_failed_run_gives_exit_code_1(cli, study_file, tmp_path, monkeypatch):
    from algoprogress.pipeline import trainer

    def broken(*args, **kwargs):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(trainer, "train", broken)
    code, _, err = cli("submit", study_file, "--store", tmp_path, "--executor", "inline")
    assert code == 1
    assert "no such luck" in err


WRONG = {
    "unknown study": (["submit", "no_such_study"], "known: "),
    "unknown stored study": (["tables", "no_such_study"], "no_such_study"),
    "missing file": (["plan", "missing.yaml"], "missing.yaml"),
    "unknown command": (["frobnicate"], "frobnicate"),
    "unknown option": (["plan", "smoke", "--frobnicate"], "--frobnicate"),
    "unknown executor": (["submit", "{study}", "--executor", "carrier_pigeon"], "known: inline, process, ray"),
    "unknown format of tables": (["tables", "x", "--format", "doc"], "markdown, latex, csv"),
    "unknown format of figures": (["figures", "x", "--format", "gif"], "png, svg, pdf"),
    "an account for one study": (["report", "x", "--account", "a.toml"], "leave out x"),
    "a forecast at no compute": (["accounting", "--compute", "-1"], "-1"),
    "no table of models": (["trend", "missing.csv"], "missing.csv"),
    "unknown benchmark": (["bench", "no_such_bench"], "known: "),
    "missing corpus": (["corpus", "build", "/no/such/file.txt"], "/no/such/file.txt"),
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_wrong_use_is_one_sentence_and_exit_code_2(cli, case, tmp_path, study_file, monkeypatch):
    words, said = WRONG[case]
    monkeypatch.setenv("ALGOPROGRESS_STORE", str(tmp_path / "store"))
    code, out, err = cli(*[w.format(study=study_file) for w in words])
    assert code == 2
    assert said in err
    assert out == ""
    assert "Traceback" not in err
    assert not (tmp_path / "store").exists()


def test_a_wrong_key_names_the_line_and_the_nearest_key(cli, study_file, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(study_file.read_text().replace("width: 16}", "widht: 16}", 1))
    code, _, err = cli("submit", path, "--store", tmp_path / "store")
    assert code == 2
    line = path.read_text().splitlines().index("    architecture: {name: lstm, widht: 16}") + 1
    assert f"{path}:{line}:" in err
    assert "did you mean 'width'?" in err


@pytest.mark.parametrize(("content", "said"), [(b"", "empty"), (b"abc \xff\xfe" * 100, "UTF-8")])
def test_a_bad_corpus_is_named_and_nothing_is_written(cli, study_file, text_file, tmp_path, content, said):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(content)
    path = tmp_path / "study.yaml"
    path.write_text(study_file.read_text().replace(str(text_file), str(bad)))
    code, _, err = cli("submit", path, "--store", tmp_path / "store", "--executor", "inline")
    assert code == 2
    assert str(bad) in err
    assert said in err
    assert not list((tmp_path / "store").rglob("*.parquet"))


def test_a_store_that_cannot_be_written_is_one_sentence(cli, study_file, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = cli("submit", study_file, "--store", tmp_path / "file" / "store", "--executor", "inline")
    assert code == 2
    assert str(tmp_path / "file") in err
    assert len(err.strip().splitlines()) == 1


def test_every_command_has_help():
    done = subprocess.run([sys.executable, "-m", "algoprogress.pipeline.cli", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for command in app.registered_commands:
        assert (command.callback.__doc__ or "").strip()
        assert command.callback.__name__ in done.stdout


@pytest.mark.network
def test_the_smoke_study_trains_on_real_text(cli, tmp_path):
    code, _, err = cli("submit", "smoke", "--store", tmp_path, "--executor", "inline")
    assert code == 0, err
    rows = json.loads(cli("runs", "smoke", "--store", tmp_path, "--json")[1])
    assert len(rows) == 12
    assert {row["corpus"] for row in rows} <= {"english", "python"}  # python where no package index answers
    assert all(row["loss"] < 3.6 for row in rows)


@pytest.mark.slow
def test_the_store_benchmark_runs_and_gives_ratios(cli, monkeypatch):
    from algoprogress.pipeline import bench, bench_store

    monkeypatch.setattr(bench_store, "RUNS", 20)
    monkeypatch.setattr(bench_store, "PEER_RUNS", 5)
    monkeypatch.setattr(bench, "ROUNDS", 1)
    code, out, _ = cli("bench", "store", "--json")
    assert code == 0
    rows = json.loads(out)
    assert all({"case", "ours", "peer", "ratio", "unit", "target", "holds"} <= set(row) for row in rows)
    assert any(" 20 runs" in row["case"] for row in rows)


def test_ctrl_c_says_that_nothing_is_lost(study_file, tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(study_file.read_text().replace("[2e8, 4e8]", "[1e11, 2e11]"))
    store = tmp_path / "store"
    command = [sys.executable, "-m", "algoprogress.pipeline.cli", "submit", str(path), "--store", str(store)]
    child = subprocess.Popen([*command, "--executor", "process"], stderr=subprocess.PIPE, text=True)
    while not list(store.glob("active/*.json")) and child.poll() is None:
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert not list(store.glob("active/*.json"))


@pytest.mark.parametrize("words", [["--slots", "0"], ["--max-hours", "nan"], ["--time-limit", "-1"]], ids=" ".join)
def test_numbers_that_make_no_sense_are_refused(cli, study_file, tmp_path, words):
    code, _, err = cli("submit", study_file, "--store", tmp_path / "store", "--executor", "process", *words)
    assert code == 2
    assert words[0] in err
    assert not (tmp_path / "store" / "runs").exists()


def test_a_damaged_study_file_index_or_run_stops_neither_plan_nor_submit(cli, study_file, tmp_path):
    store = tmp_path / "store"
    cli("submit", study_file, "--store", store, "--executor", "inline")
    cli("compact", "--store", store)
    (store / "studies" / "tiny.json").write_text("x")
    next(store.glob("index/*.parquet")).write_text("x")
    next(store.glob("runs/*.parquet")).write_text("x")
    code, out, _ = cli("plan", study_file, "--store", store, "--json")
    assert code == 0
    assert json.loads(out)["totals"]["pending"] == 1
    code, _, err = cli("submit", study_file, "--store", store, "--executor", "inline")
    assert code == 0
    assert "set aside" in err
    assert cli("compact", "--store", store)[0] == 0
    assert cli("verify", "--store", store)[0] == 0
