"""`fit` and `gains` on anybody's file."""

import json

import numpy as np
import pandas as pd
import pytest


def grid(n: int = 40, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    N, D = np.exp(rng.uniform(16, 23, n)), np.exp(rng.uniform(20, 27, n))
    loss = (1.7 + 400 * N**-0.34 + 410 * D**-0.28) * np.exp(0.005 * rng.standard_normal(n))
    return pd.DataFrame({"size": N, "data": D, "nats": loss, "lab": np.arange(n) % 12, "good": True})


OPTIONS = ("--law", "chinchilla", "--n-col", "size", "--d-col", "data", "--loss-col", "nats")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_fit_of_a_file_is_one_document(cli, tmp_path, kind):
    file = tmp_path / f"runs.{kind}"
    grid().to_csv(file, index=False) if kind == "csv" else grid().to_parquet(file)
    code, out, _ = cli("fit", file, *OPTIONS, "--where", "good", "--bootstrap", 50, "--json")
    found = json.loads(out)
    assert code == 0
    wanted = {"law", "n", "objective", "params", "stderr", "intervals", "diagnostics", "warnings"}
    assert wanted <= set(found)
    assert found["n"] == 40
    assert set(found["params"]) == set(found["stderr"]) == set(found["intervals"])
    low, high = found["intervals"]["alpha"]
    assert low < found["params"]["alpha"] < high


def test_intervals_by_cluster_and_the_huber_threshold_are_options(cli, tmp_path):
    file = tmp_path / "runs.csv"
    grid().to_csv(file, index=False)
    code, out, _ = cli("fit", file, *OPTIONS, "--bootstrap", 50, "--cluster", "lab", "--huber", "inf", "--json")
    assert code == 0
    assert json.loads(out)["stderr_method"] == "bootstrap by lab"
    code, _, err = cli("fit", file, *OPTIONS, "--cluster", "lab")
    assert (code, "give --bootstrap" in err) == (2, True)
    code, _, err = cli("fit", file, "--law", "power", "--bootstrap", 10, "--loss-col", "nats", "--n-col", "size")
    assert (code, "--bootstrap is for laws in size and data" in err) == (2, True)


def test_tokens_come_from_compute_where_there_are_none(cli, tmp_path):
    file = tmp_path / "runs.csv"
    runs = grid().assign(flops=lambda t: 6 * t["size"] * t["data"]).drop(columns="data")
    runs.to_csv(file, index=False)
    code, out, _ = cli("fit", file, "--law", "chinchilla", "--n-col", "size", "--loss-col", "nats", "--json")
    assert code == 0
    assert json.loads(out)["params"]["alpha"] == pytest.approx(0.34, abs=0.08)


def test_a_file_of_several_arms_gives_a_list(cli, tmp_path):
    file = tmp_path / "runs.csv"
    pd.concat([grid(seed=s).assign(arm=f"a{s}") for s in (0, 1)]).to_csv(file, index=False)
    assert [row["arm"] for row in json.loads(cli("fit", file, *OPTIONS, "--json")[1])] == ["a0", "a1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--n-col", "sizes"), "no column sizes; there are: size"),
        (("--law", "chinchila"), "the laws are chinchilla"),
        (("--law", "chinchilla"), "needs a column n_params, tokens"),
        (("--where", "wrong +"), "not a query"),
    ],
)
def test_wrong_use_is_one_sentence(cli, tmp_path, words, said):
    file = tmp_path / "runs.csv"
    grid().rename(columns={"nats": "loss"}).to_csv(file, index=False)
    code, out, err = cli("fit", file, *words)
    assert (code, out) == (2, "")
    assert said in err


def test_gains_name_an_arm_by_several_columns(cli, tmp_path):
    compute = np.geomspace(1e16, 1e19, 4)
    parts = [
        pd.DataFrame({"compute": compute, "loss": 2 + (compute * gain) ** -0.05, "decay": decay, "warmup": warmup})
        for decay, warmup, gain in (("cosine", 1, 1.0), ("const", 1, 2.0), ("const", 2, 3.0))
    ]
    file = tmp_path / "runs.csv"
    pd.concat(parts).to_csv(file, index=False)
    code, out, _ = cli("gains", file, "--arm", "decay,warmup", "--baseline", "cosine,1", "--at-compute", 1e17, "--json")
    gains = {row["arm"]: row["ceg"] for row in json.loads(out) if row["method"] == "interpolated"}
    assert code == 0
    assert gains == {"const,1": pytest.approx(2, rel=0.05), "const,2": pytest.approx(3, rel=0.05)}
