"""`fit` and `gains` on anybody's file."""

import json

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.simulation import simulate_runs


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


@pytest.mark.parametrize("method", ["pairs", "wild-cluster", "jackknife", "sandwich", "profile"])
def test_every_method_of_intervals_is_an_option(cli, tmp_path, method):
    file = tmp_path / "runs.csv"
    grid().to_csv(file, index=False)
    code, out, _ = cli("fit", file, *OPTIONS, "--method", method, "--bootstrap", 50, "--json")
    found = json.loads(out)
    assert code == 0
    assert method in found["stderr_method"] or method == "pairs"
    low, high = found["intervals"]["alpha"]
    assert low < found["params"]["alpha"] < high
    code, out, _ = cli("fit", file, *OPTIONS, "--method", method, "--bootstrap", 50)
    assert (code, "95% intervals of" in out) == (0, True)


def frontier_file(tmp_path, n_compute: int, n_runs: int = 2):
    compute = np.geomspace(1e15, 1e19, n_compute)
    rng = np.random.default_rng(0)
    rows = [{"compute": c, "loss": 1.8 + 300 * c**-0.15 * np.exp(0.01 * rng.standard_normal()), "lab": k}
            for c in compute for k in range(n_runs)]  # fmt: skip
    file = tmp_path / "frontier.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


def test_a_law_in_compute_has_intervals_from_its_frontier(cli, tmp_path):
    file = frontier_file(tmp_path, 12)
    code, out, _ = cli("fit", file, "--law", "power", "--bootstrap", 100, "--json")
    found = json.loads(out)
    assert code == 0
    assert any("12 points of the frontier" in line for line in found["warnings"])
    low, high = found["intervals"]["alpha"]
    assert low < found["params"]["alpha"] < high


def test_a_short_frontier_is_not_resampled(cli, tmp_path):
    file = frontier_file(tmp_path, 4)
    code, out, err = cli("fit", file, "--law", "power", "--bootstrap", 100)
    assert (code, out) == (2, "")
    assert "fewer different points than power has parameters" in err


def test_arms_are_fitted_jointly_with_what_they_share(cli, tmp_path):
    file = tmp_path / "runs.csv"
    pd.concat([grid(seed=s).assign(arm=f"a{s}") for s in (0, 1)]).to_csv(file, index=False)
    code, out, _ = cli("fit", file, *OPTIONS, "--share", "E,alpha", "--json")
    one, two = json.loads(out)
    assert code == 0
    assert one["params"]["E"] == two["params"]["E"]
    assert one["params"]["alpha"] == two["params"]["alpha"]
    assert one["params"]["beta"] != two["params"]["beta"]
    assert one["diagnostics"]["n_free"] == 8
    code, out, _ = cli("fit", file, *OPTIONS, "--share", "rescaled", "--json")
    assert [row["params"]["kappa"] for row in json.loads(out)] == [1, pytest.approx(1, abs=0.2)]
    code, _, err = cli("fit", file, *OPTIONS, "--share", "gamma")
    assert (code, "can share E, alpha, beta" in err) == (2, True)


def test_unique_tokens_have_a_column_of_their_own(cli, tmp_path):
    from algoprogress.analysis import laws

    design, parameters = laws["repeated_data"].example()
    loss = laws["repeated_data"].formula(parameters, *(design[c].to_numpy() for c in design))
    file = tmp_path / "epochs.csv"
    design.assign(loss=loss).rename(columns={"unique_tokens": "corpus"}).to_csv(file, index=False)
    code, out, _ = cli("fit", file, "--law", "repeated_data", "--u-col", "corpus", "--json")
    assert code == 0
    assert json.loads(out)["params"] == pytest.approx(parameters | {"a_opt": 0.5}, rel=1e-3)
    code, _, err = cli("fit", file, "--law", "repeated_data")
    assert (code, "needs a column unique_tokens" in err) == (2, True)


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
        (("--law", "chinchila"), "the laws are bnsl, chinchilla"),
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


def test_a_fit_of_every_arm_is_drawn_where_asked(cli, tmp_path):
    file, arms = tmp_path / "runs.csv", {"old": (0.6, 60.0, 0.14), "new": (0.6, 56.0, 0.14)}
    simulate_runs(arms, noise=0.01, sizes=(0,), rates=(0,)).to_csv(file, index=False)
    code, _, err = cli("fit", file, "--arm", "arm", "--figure", tmp_path / "fit.svg")
    assert code == 0
    drawn = (tmp_path / "fit.svg").read_text()
    assert "old" in drawn and "new" in drawn and "extrapolated" in drawn
    assert f"wrote {tmp_path / 'fit.png'}" in err


def test_rows_that_repeat_or_diverged_are_left_out_and_said_to_be(cli, tmp_path):
    def fitted(name: str, runs: pd.DataFrame) -> dict:
        runs.to_csv(tmp_path / name, index=False)
        code, out, _ = cli("fit", tmp_path / name, *OPTIONS, "--json")
        assert code == 0
        return json.loads(out)

    once = fitted("once.csv", grid())
    twice = fitted("twice.csv", pd.concat([grid(), grid()]))
    with_ids = grid().assign(run_id=range(40))
    again = fitted("again.csv", pd.concat([with_ids, with_ids]))
    bad = grid(4, seed=9).assign(nats=8.0, status="diverged")
    diverged = fitted("diverged.csv", pd.concat([grid().assign(status="done"), bad]))
    for found, n in ((twice, 40), (again, 40), (diverged, 4)):
        assert found["n"] == 40
        assert found["params"] == pytest.approx(once["params"])
        assert any(f"{n} of {40 + n} rows are left out" in w for w in found["warnings"])
