"""What isoFLOP curves say: their minima, the power laws through them, and the best loss at each compute."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.isoflop.estimators import estimator_named
from algoprogress.analysis.isoflop.minima import Curves
from algoprogress.analysis.isoflop.powers import Power
from algoprogress.analysis.isoflop.resample import Resamples, between
from algoprogress.analysis.laws.power import PowerLaw
from algoprogress.analysis.warnings import AnalysisWarning


@dataclass(frozen=True)
class IsoFLOP:
    """The minima of isoFLOP curves and the power laws through them.

    Attributes:
        estimator: its name.
        points: [budget, n_params, tokens, compute, loss, n_runs], what the estimator saw.
        minima: one row a budget, see `isoflop`.
        exponents: one row for n_params and one for tokens, see `isoflop`.
        powers: "n_params" and "tokens" -> the power law; empty where fewer than two minima lie between sizes tried.
        resamples: copies of the minima; None without intervals.
        level: of the intervals.
    """

    estimator: str
    points: pd.DataFrame
    minima: pd.DataFrame
    exponents: pd.DataFrame
    powers: dict[str, Power]
    resamples: Resamples | None
    level: float

    def lines(self, n: int = 101) -> pd.DataFrame:
        """[budget, n_params, loss]: the curve that each minimum was found on, over the sizes tried."""
        curves = curves_of(self.points)
        grids = [np.exp(np.linspace(curves.log_n[s][0], curves.log_n[s][-1], n)) for s in curves.slices]
        budgets = np.repeat(pd.unique(self.points["budget"]), n)
        grid = Curves.of(np.concatenate(grids), budgets)
        loss = estimator_named(self.estimator).lines(curves, self.points["loss"].to_numpy(float), grid)
        return pd.DataFrame({"budget": budgets, "n_params": np.exp(grid.log_n), "loss": loss})

    def frontier(self, compute: Any) -> pd.DataFrame:
        """N* = G C^a, D* = H C^b, and L* = E + K C^-gamma (law `power`) through the minima, with their intervals.

        Args:
            compute: FLOP.

        Returns:
            [compute, n_params, n_params_low, n_params_high, tokens, tokens_low, tokens_high, loss, loss_low, loss_high,
            extrapolated]; the loss is nan where fewer than three budgets have their best size between sizes tried.
        """
        if not self.powers:
            raise ValueError("Fewer than two budgets have their best size between sizes tried: there is no power law.")
        C = np.atleast_1d(np.asarray(compute, float))
        x, table = np.log(C), {"compute": C}
        for quantity, law in self.powers.items():
            table[quantity] = np.exp(law.log_coefficient + law.exponent * x)
            ends = np.full((2, len(C)), np.nan)
            if self.resamples is not None:
                slope, start = self.refits(quantity)
                known = np.isfinite(slope)
                ends = np.exp(between((start[:, None] + slope[:, None] * x)[known], self.level))
            table[f"{quantity}_low"], table[f"{quantity}_high"] = ends
        for name, values in zip(("loss", "loss_low", "loss_high"), self._losses(C), strict=True):
            table[name] = values
        used = self.minima["compute"][self.minima["at_edge"] == ""]
        return pd.DataFrame(table).assign(extrapolated=(used.min() > C) | (used.max() < C))

    def loss_law(self) -> PowerLaw:
        """L* = E + A C^-alpha fitted to the minima between sizes tried."""
        used = self.minima["at_edge"] == ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnalysisWarning)  # its interval of E says it
            return PowerLaw().fit(self.minima.loc[used, ["compute", "loss"]])

    def _losses(self, compute: np.ndarray) -> np.ndarray:
        """L* at compute and the ends of its interval, (3, m)."""
        used = self.minima["at_edge"].eq("").to_numpy()
        if used.sum() < 3:
            return np.full((3, len(compute)), np.nan)
        law = self.loss_law()
        loss, ends = law.predict(compute), np.full((2, len(compute)), np.nan)
        if self.resamples is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AnalysisWarning)
                theta_BP = law.refit(y_Bn=np.log(self.resamples.loss_BK[:, used]))
            ends = between(law.predict(compute, theta=theta_BP), self.level)
        return np.stack([loss, np.fmin(ends[0], loss), np.fmax(ends[1], loss)])

    def refits(self, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        """Exponents and log coefficients (B,) through resampled minima, which also scatter about their line."""
        assert self.resamples is not None
        used, law = self.minima["at_edge"].eq("").to_numpy(), self.powers[quantity]
        y_BK = (self.resamples.log_n_BK if quantity == "n_params" else self.resamples.log_d_BK)[:, used]
        scatter = law.tau * np.random.default_rng(0).standard_normal(y_BK.shape)
        return law.refit(np.log(self.minima["compute"].to_numpy(float)[used]), y_BK + scatter)


def curves_of(points: pd.DataFrame) -> Curves:
    """The curves through points sorted by budget and size."""
    return Curves.of(points["n_params"].to_numpy(float), points["budget"].to_numpy(float))
