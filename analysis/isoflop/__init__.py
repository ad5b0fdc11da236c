"""IsoFLOP curves: loss against size at fixed compute, their minima, and the power laws through the minima."""

from algoprogress.analysis.isoflop.bias import minimum_bias
from algoprogress.analysis.isoflop.estimators import ESTIMATORS
from algoprogress.analysis.isoflop.fit import isoflop
from algoprogress.analysis.isoflop.frontier import isoflop_frontier
from algoprogress.analysis.isoflop.points import isoflop_points
from algoprogress.analysis.isoflop.result import IsoFLOP

__all__ = ["ESTIMATORS", "IsoFLOP", "isoflop", "isoflop_frontier", "isoflop_points", "minimum_bias"]
