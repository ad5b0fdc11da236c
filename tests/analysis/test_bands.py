"""Lines and bands of figures: the law itself, and how far it is known."""

import numpy as np
import pytest

from algoprogress.analysis import laws
from algoprogress.analysis.bands import BEYOND, fitted_curves
from algoprogress.analysis.simulation import simulate_isoflop

SIZED = {"old": (1.8, 480.0, 2100.0, 0.35, 0.37), "new": (1.8, 420.0, 2000.0, 0.35, 0.37)}


def test_the_line_is_the_law_and_ends_a_decade_beyond_the_runs():
    runs = simulate_isoflop(SIZED, noise=0.01, seed=3)
    law = laws["chinchilla"]().fit(runs)
    line = fitted_curves(law, runs)
    for arm, part in line.groupby("arm"):
        np.testing.assert_allclose(part["loss"], law.best_loss(part["compute"], arm))
        last = runs.loc[runs["arm"] == arm, "compute"].max()
        assert part["compute"].max() == pytest.approx(BEYOND * last)
        assert (part["extrapolated"] == (part["compute"] > last)).all()
    assert (line["loss_low"] < line["loss"]).all() and (line["loss"] < line["loss_high"]).all()


def test_the_band_holds_the_true_law_as_often_as_its_level():
    inside = []
    for s in range(60):
        runs = simulate_isoflop({"old": SIZED["old"]}, noise=0.01, seed=s)
        line = fitted_curves(laws["chinchilla"](huber=np.inf).fit(runs), runs, 0.8)
        E, A, B, alpha, beta = SIZED["old"]
        G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        N = G * (line["compute"] / 6) ** (beta / (alpha + beta))
        true = E + A * N**-alpha + B * (line["compute"] / 6 / N) ** -beta
        inside.append(((line["loss_low"] < true) & (true < line["loss_high"])).mean())
    assert 0.68 < np.mean(inside) < 0.92  # 60 studies: a standard error of about .04
