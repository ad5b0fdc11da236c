"""One surface through all isoFLOP curves, so that each budget borrows from the others: the law `isoflop`."""

import warnings

import numpy as np
import pandas as pd

from algoprogress.analysis.isoflop.minima import Curves, Minima
from algoprogress.analysis.laws.isoflop import IsoFLOPSurface
from algoprogress.analysis.warnings import AnalysisWarning


class Surface:
    """Minima N* = G C^a and L* = E + K C^-gamma of `IsoFLOPSurface`, by least squares in log loss.

    Being as lopsided as the data, it has no bias of a parabola's kind; but it is stiff: curves that do not share one
    shape are said so by their misfit.
    """

    def minima(self, curves: Curves, loss_Bn: np.ndarray) -> Minima:
        """Minima of B sets of losses; raises a ConvergenceError when no start came to rest on the first."""
        law = self.fit(curves, loss_Bn[0])
        theta_BP = law.theta_[None]
        if len(loss_Bn) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AnalysisWarning)
                theta_BP = np.concatenate([theta_BP, law.refit(y_Bn=np.log(loss_Bn[1:]))])
        E, K, gamma, G, a, _, _ = (law.parameters_of(None, theta_BP)[:, i, None] for i in range(7))
        log_n = np.log(G) + a * curves.budgets
        least, most = curves.ends
        edge = np.where(log_n < least, -1, np.where(log_n > most, 1, 0))
        return Minima(log_n, E + K * np.exp(-gamma * curves.budgets), edge)

    def spacing(self, curves: Curves) -> np.ndarray:
        return curves.spacing

    def lines(self, curves: Curves, loss: np.ndarray, grid: Curves) -> np.ndarray:
        n_params = np.exp(grid.log_n)
        return self.fit(curves, loss).predict(n_params, np.exp(grid.log_c) / 6 / n_params)

    def fit(self, curves: Curves, loss: np.ndarray) -> IsoFLOPSurface:
        """The law fitted to one set of losses; tokens are counted so that the budget is 6 N D, whatever else it is."""
        if len(curves.slices) < 3:
            raise ValueError(
                f"{len(curves.slices)} budgets can not tell the irreducible loss of an isoFLOP surface from the rest; "
                "measure more, or fit parabolas."
            )
        n_params = np.exp(curves.log_n)
        runs = pd.DataFrame({"n_params": n_params, "tokens": np.exp(curves.log_c) / 6 / n_params, "loss": loss})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnalysisWarning)  # E may not be identified where the minima are
            return IsoFLOPSurface(huber=float("inf")).fit(runs)
