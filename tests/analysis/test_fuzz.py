"""Whatever runs a law is given: a sentence that says what is wrong, or a fit that is finite and honest about itself."""

import os
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algoprogress.analysis import AnalysisWarning, ConvergenceError, laws
from algoprogress.analysis.fit import CONVERGED

DEPTH = int(os.environ.get("ALGOPROGRESS_FUZZ", "1"))  # `make test-all` looks ten times as far, and each time elsewhere


def examples(n: int) -> settings:
    return settings(
        max_examples=n * DEPTH, deadline=None, suppress_health_check=list(HealthCheck), derandomize=DEPTH == 1
    )


BAD = (np.nan, np.inf, -np.inf, 0.0, -1.0, "x", None, 1e-320, 1e300, True)
WRONGS = (
    "constant_loss", "constant_input", "one_ratio", "few", "few_inputs", "duplicates", "bad_value", "outlier", "rising",
    "units", "below", "integers", "noise", "huge_noise", "missing_column", "index", "random_loss", "two_levels",
)  # fmt: skip


@st.composite
def frames(draw: st.DrawFn, name: str) -> pd.DataFrame:
    """The law's own example after one to three things that happen to tables."""
    law = laws[name]
    design, parameters = law.example()
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    runs = design.assign(loss=law.formula(parameters, *(design[c].to_numpy(float) for c in law.inputs)))
    column = draw(st.sampled_from(law.inputs))
    for wrong in draw(st.lists(st.sampled_from(WRONGS), min_size=1, max_size=3, unique=True)):
        n = len(runs)
        if n == 0 or column not in runs or "loss" not in runs:
            break
        if wrong == "constant_loss":
            runs = runs.assign(loss=2.5)
        elif wrong == "constant_input":
            runs = runs.assign(**{column: runs[column].iloc[0]})
        elif wrong == "one_ratio" and len(law.inputs) > 1:
            runs = runs.assign(**{law.inputs[1]: 20 * runs[law.inputs[0]]})
        elif wrong == "few":
            runs = runs.sample(draw(st.integers(0, min(n, 9))), random_state=1)
        elif wrong == "few_inputs":
            runs = runs[runs[column].isin(runs[column].unique()[: draw(st.integers(1, 3))])]
        elif wrong == "duplicates":
            runs = pd.concat([runs.iloc[: draw(st.integers(1, n))]] * 3)
        elif wrong == "bad_value":
            where, bad = draw(st.sampled_from([*law.inputs, "loss"])), draw(st.sampled_from(BAD))
            runs = runs.astype({where: object})
            runs.iloc[rng.integers(n), runs.columns.get_loc(where)] = bad
        elif wrong == "outlier":
            runs.iloc[rng.integers(n), runs.columns.get_loc("loss")] = draw(st.sampled_from([1e-6, 0.1, 30.0, 1e6]))
        elif wrong == "rising":
            runs = runs.assign(loss=1 / pd.to_numeric(runs["loss"], errors="coerce"))
        elif wrong == "units":
            scale = 10.0 ** draw(st.integers(-9, 9))
            runs = runs.assign(**{c: pd.to_numeric(runs[c], errors="coerce") * scale for c in (column, "loss")})
        elif wrong == "below":
            runs = runs.assign(loss=pd.to_numeric(runs["loss"], errors="coerce") - 1.6)
        elif wrong == "integers":
            runs = runs.assign(**{column: pd.to_numeric(runs[column], errors="coerce").round()})
        elif wrong in ("noise", "huge_noise"):
            sd = 0.01 if wrong == "noise" else 1.0
            loss = pd.to_numeric(runs["loss"], errors="coerce")
            runs = runs.assign(loss=loss * np.exp(sd * rng.standard_normal(n)))
        elif wrong == "missing_column":
            runs = runs.drop(columns=draw(st.sampled_from([column, "loss"])))
        elif wrong == "index":
            runs = runs.set_index(pd.Index([0] * n))
        elif wrong == "random_loss":
            runs = runs.assign(loss=rng.uniform(0.1, 10, n))
        elif wrong == "two_levels":
            runs = runs.assign(loss=np.where(rng.uniform(size=n) < 0.5, 2.0, 3.0))
    return runs


def refused(error: Exception) -> None:
    """A sentence for a person; LinAlgError is a ValueError, but none."""
    assert not isinstance(error, np.linalg.LinAlgError)
    assert len(str(error)) > 30


@pytest.mark.parametrize("name", laws)
@examples(15)
@given(data=st.data(), huber=st.sampled_from([None, np.inf, 1e-3, 1e-5]))
def test_any_table_gives_a_refusal_or_an_honest_fit(name, data, huber):
    runs = data.draw(frames(name))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            law = laws[name](huber=huber).fit(runs)
        except (ValueError, ConvergenceError) as error:
            refused(error)
            return
    others = [w for w in caught if not issubclass(w.category, AnalysisWarning)]
    assert not others, [str(w.message) for w in others]
    assert np.isfinite(law.params_.to_numpy()).all()
    assert np.isfinite(law.diagnostics_["objective"])
    assert law.diagnostics_["gradient_norm"] < CONVERGED or caught
    assert (law.predict(*(pd.to_numeric(runs[c]).to_numpy(float) for c in law.inputs)) > 0).all()
    if not caught:  # nothing is doubted: then every parameter has an error, and the law fits better than a constant
        assert np.isfinite(law.summary["stderr"]).all()
        assert law.diagnostics_["starts_agree"] >= 0.5
        assert not law.diagnostics_["at_bound"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "bnsl" else n for n in laws])
@examples(4)
@given(data=st.data(), share=st.sampled_from([None, "rescaled", "first"]))
def test_any_two_tables_as_arms_give_a_refusal_or_an_honest_fit(name, data, share):
    parts = [data.draw(frames(name)).assign(arm=arm) for arm in "ab"]
    try:
        runs = pd.concat(parts)
    except ValueError:
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            chosen = {laws[name].shareable[0]: "all"} if share == "first" else share
            law = laws[name]().fit(runs, share=chosen)
        except (ValueError, ConvergenceError) as error:
            refused(error)
            return
    assert np.isfinite(law.params_.to_numpy()).all()
    assert law.diagnostics_["gradient_norm"] < CONVERGED or caught


@pytest.mark.parametrize("name", laws)
@examples(4)
@given(
    data=st.data(),
    method=st.sampled_from(["pairs", "wild-cluster", "jackknife", "sandwich", "profile"]),
)
def test_any_interval_of_any_fit_holds_its_estimate_or_says_why_not(name, data, method):
    runs = data.draw(frames(name))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            law = laws[name](huber=0.02).fit(runs)
            table = law.intervals(method, n=20)
        except (ValueError, ConvergenceError) as error:
            refused(error)
            return
    known = table[~(table["low"].isna() | table["high"].isna())]
    assert (known["low"] <= known["high"]).all()
    if method != "pairs":  # percentiles of few resamples may miss the estimate
        assert (known["low"] <= known["estimate"] + 1e-6 * known["estimate"].abs()).all()
    assert caught or len(known) >= len(table) - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", laws)
def test_a_million_runs_are_fitted(name):
    n, rng = 1_000_000, np.random.default_rng(0)
    N, D = np.exp(rng.uniform(16, 24, n)), np.exp(rng.uniform(20, 28, n))
    columns = {"n_params": N, "tokens": D, "unique_tokens": D / np.exp(rng.uniform(0, 3, n)), "compute": 6 * N * D}
    _, parameters = laws[name].example()
    runs = pd.DataFrame({c: columns[c] for c in laws[name].inputs})
    loss = laws[name].formula(parameters, *(runs[c].to_numpy() for c in runs))
    runs["loss"] = loss * np.exp(0.01 * rng.standard_normal(n))
    law = laws[name]().fit(runs)
    some = runs.iloc[:1000]
    found = law.predict(*(some[c].to_numpy() for c in law.inputs))
    np.testing.assert_allclose(found, loss[:1000], rtol=2e-3)
