"""What do the runs look like?  Functions of tidy data and an `ax`; they draw and compute no statistics."""

from algoprogress.analysis.figures.account import account_gains_plot, fixed_compute_plot
from algoprogress.analysis.figures.coverage import coverage_plot
from algoprogress.analysis.figures.curvature import block_spectra, loss_along_updates, pair_map
from algoprogress.analysis.figures.fits import fit_with_band
from algoprogress.analysis.figures.gains import gain_versus_compute, slope_forest
from algoprogress.analysis.figures.isoflop import isoflop_curves
from algoprogress.analysis.figures.losses import loss_versus_compute, training_curves
from algoprogress.analysis.figures.multiverse import multiverse_plot
from algoprogress.analysis.figures.profile import profile_plot
from algoprogress.analysis.figures.reference import reference_plot, small_models_plot
from algoprogress.analysis.figures.shares import shares_plot
from algoprogress.analysis.figures.style import draw, new_axes, save
from algoprogress.analysis.figures.waterfall import waterfall_plot

__all__ = [
    "account_gains_plot",
    "block_spectra",
    "coverage_plot",
    "draw",
    "fit_with_band",
    "fixed_compute_plot",
    "gain_versus_compute",
    "isoflop_curves",
    "loss_along_updates",
    "loss_versus_compute",
    "multiverse_plot",
    "new_axes",
    "pair_map",
    "profile_plot",
    "reference_plot",
    "save",
    "shares_plot",
    "slope_forest",
    "small_models_plot",
    "training_curves",
    "waterfall_plot",
]
