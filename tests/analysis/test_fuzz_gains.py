"""Whatever runs gains are asked of: a sentence that says what is wrong, or rows that are honest about themselves."""

import os
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algoprogress.analysis import (
    AnalysisWarning,
    ConvergenceError,
    compute_equivalent_gain,
    nested_models,
    scale_dependence,
    validate,
)

DEPTH = int(os.environ.get("ALGOPROGRESS_FUZZ", "1"))
BAD = (np.nan, np.inf, -np.inf, 0.0, -1.0, "x", None)


def examples(n: int) -> settings:
    return settings(
        max_examples=n * DEPTH, deadline=None, suppress_health_check=list(HealthCheck), derandomize=DEPTH == 1
    )


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Two or three arms on a ladder, with or without sizes, seeds and sense."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rungs, n_seeds = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    parts = []
    for k in range(draw(st.integers(1, 3))):
        compute = np.repeat(np.geomspace(1e11, 10 ** draw(st.floats(11.1, 15)), n_rungs), n_seeds)
        loss = draw(st.sampled_from([0.5, 1.0, 50.0])) * (0.5 + 30 * compute ** -draw(st.floats(-0.02, 0.3)))
        loss *= np.exp(draw(st.sampled_from([0.0, 0.01, 0.3])) * rng.standard_normal(len(compute)))
        parts.append(
            pd.DataFrame({"arm": f"a{k}", "compute": compute, "loss": loss, "seed": np.tile(range(n_seeds), n_rungs)})
        )
    runs = pd.concat(parts, ignore_index=True)
    if draw(st.booleans()):
        runs["n_params"] = 1e4 * np.exp(rng.uniform(-1, 1, len(runs))) * draw(st.sampled_from([1.0, np.nan]))
        runs["n_params"] = runs["n_params"].fillna(1e4)
        runs["tokens"] = runs["compute"] / 6 / runs["n_params"]
    for wrong in draw(st.lists(st.sampled_from(["constant", "duplicates", "drop", "shuffle", "huge"]), max_size=2)):
        if wrong == "constant":
            runs["loss"] = 2.0
        elif wrong == "duplicates":
            runs = pd.concat([runs, runs.iloc[: draw(st.integers(1, len(runs)))]])
        elif wrong == "drop":
            runs = runs.drop(columns=draw(st.sampled_from(["seed", "compute", "arm"])), errors="ignore")
        elif wrong == "shuffle":
            runs = runs.sample(frac=1, random_state=1)
        elif "compute" in runs:
            runs["compute"] = runs["compute"] * draw(st.sampled_from([1e-200, 1e200]))
    return runs


def quiet(call, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)
        return call(*arguments, **options)


def check(gains: pd.DataFrame) -> None:
    """What every gain table promises."""
    known = gains["ceg"].notna()
    assert (gains.loc[~known, "note"] != "").all()
    assert (gains.loc[known, "ceg"] > 0).all()
    assert np.isfinite(gains.loc[known, "ceg"]).all()
    both = known & gains["ceg_low"].notna()
    assert (gains.loc[both, "ceg_low"] <= gains.loc[both, "ceg"] * (1 + 1e-9)).all()
    assert (gains.loc[both, "ceg"] <= gains.loc[both, "ceg_high"] * (1 + 1e-9)).all()
    assert (gains["ceg_low"].isna() == gains["ceg_high"].isna()).all()
    assert (gains.loc[known, "n_runs"] >= 2).all()
    assert gains["censored"].isin(["", ">", "<"]).all()


@given(frames(), st.sampled_from(["power", "chinchilla"]), st.sampled_from(["new", "old"]), st.booleans())
@examples(40)
def test_gains_of_any_runs_are_refused_or_honest(runs, law, reference, at_loss):
    asked = {"at_loss": [1.0, 2.0]} if at_loss else {}
    try:
        gains = quiet(
            compute_equivalent_gain, runs, "a0", law=law, reference=reference, n_resamples=10, method="both", **asked
        )
    except ValueError as error:
        assert len(str(error)) > 20
        return
    check(gains)
    slopes = quiet(scale_dependence, gains)
    assert (slopes["slope"].notna() | (slopes["note"] != "")).all()
    p = slopes["p_equal_exponents"].dropna()
    assert p.between(0, 1).all()


@given(frames(), st.sampled_from(["compute", "loss"]), st.sampled_from(BAD), st.integers(0, 100))
@examples(20)
def test_one_value_that_is_no_positive_number_is_refused(runs, column, bad, where):
    if not {"arm", "compute", "loss"} <= set(runs):
        return
    runs = runs.astype({column: object})
    runs.iloc[where % len(runs), runs.columns.get_loc(column)] = bad
    with pytest.raises(ValueError, match="not a positive number"):
        quiet(compute_equivalent_gain, runs, "a0", n_resamples=5)


@given(frames(), st.sampled_from(["power", "chinchilla"]))
@examples(8)
def test_nested_models_of_any_runs_are_refused_or_have_a_p_or_a_note(runs, law):
    try:
        table = quiet(nested_models, runs, law, n_resamples=19)
    except (ValueError, ConvergenceError):
        return
    later = table.iloc[1:]
    assert (later["p"].between(0, 1) | (later["note"] != "") | later["against"].isna()).all()


@given(frames(), st.sampled_from(["power", "chinchilla"]), st.floats(11, 15))
@examples(15)
def test_validation_of_any_runs_is_refused_or_honest(runs, law, at):
    try:
        table = quiet(validate, runs, f"compute > {10**at}", law, n_resamples=5)
    except ValueError:
        return
    assert (table["predicted"].notna() | (table["note"] != "")).all()
    known = table.dropna(subset=["low", "high"])
    assert (known["low"] <= known["high"]).all()


@pytest.mark.slow
def test_the_gain_between_a_million_runs_is_found():
    rng, n = np.random.default_rng(0), 500_000
    compute = 10 ** rng.uniform(15, 20, n)
    loss = {arm: 1.7 + 3e3 * (compute * gain) ** -0.2 for arm, gain in (("old", 1.0), ("new", 3.0))}
    noisy = [
        pd.DataFrame({"arm": a, "compute": compute, "loss": y * np.exp(0.005 * rng.standard_normal(n))})
        for a, y in loss.items()
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)
        found = compute_equivalent_gain(pd.concat(noisy), "old", at_compute=1e17).set_index("method")["ceg"]
    assert found["law"] == pytest.approx(3, rel=0.1)
    assert found["interpolated"] == pytest.approx(3, rel=0.2)
