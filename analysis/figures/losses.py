"""Loss against compute: the runs, their frontier, the law, the training curves."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from algoprogress.analysis.figures.style import COMPUTE, FAINT, LOSS, dress, legend
from algoprogress.analysis.palette import colours, markers, styles


def loss_versus_compute(
    runs: pd.DataFrame, front: pd.DataFrame, fits: pd.DataFrame, arms: Sequence[str], ax: Axes
) -> Axes:
    """Each run as a faint point, each arm's frontier as markers, its law as a line with a band.

    Args:
        runs: [arm, compute, loss], the runs that count.
        front: [arm, compute, loss].
        fits: [arm, compute, loss, loss_low, loss_high], a law on a grid of compute; may be empty.
        arms: in the order of the study.
    """
    colour, marker, style = colours(arms), markers(arms), styles(arms)
    for arm in arms:
        own, best, law = (t[t["arm"] == arm] for t in (runs, front, fits))
        ax.scatter(own["compute"], own["loss"], s=9, color=colour[arm], alpha=0.28, linewidths=0, zorder=2)
        if len(law):
            ax.fill_between(
                law["compute"], law["loss_low"], law["loss_high"], color=colour[arm], alpha=0.13, lw=0, zorder=1
            )
            ax.plot(law["compute"], law["loss"], color=colour[arm], ls=style[arm], lw=1.6, zorder=3)
        ax.plot(
            best["compute"],
            best["loss"],
            ls="none",
            marker=marker[arm],
            ms=6.5,
            mfc=colour[arm],
            mec="white",
            mew=0.9,
            zorder=4,
            label=arm,
        )
    ax.set_xscale("log")
    if len(
        front
    ):  # far-off runs of a sweep would flatten the frontier: the view holds the frontier, and says what is above it
        low, high = front["loss"].min(), front["loss"].max()
        top = max(high + 0.35 * (high - low), high + 0.05)
        above = int((runs["loss"] > top).sum())
        ax.set_ylim(low - 0.12 * (high - low) - 0.02, top)
        if above:
            ax.annotate(f"{above} run{'s' * (above > 1)} above", (0.01, 0.985), xycoords="axes fraction", va="top",
                        fontsize=8, color=FAINT)  # fmt: skip
    dress(ax, COMPUTE, LOSS)
    legend(ax)
    return ax


def training_curves(curves: pd.DataFrame, arms: Sequence[str], ax: Axes, ceiling: float | None = None) -> Axes:
    """Training loss against compute, one faint line a run.

    Args:
        curves: [arm, run_id, compute, loss].
        arms: in the order of the study.
        ceiling: nats/token, the top of the view.
    """
    colour = colours(arms)
    for arm in arms:
        own = curves[curves["arm"] == arm]
        for _, run in own.groupby("run_id", sort=False):
            run = run[run["compute"] > 0]
            ax.plot(run["compute"], run["loss"], color=colour[arm], lw=0.8, alpha=0.4)
        ax.plot([], [], color=colour[arm], lw=2, label=arm)
    ax.set_xscale("log")
    if ceiling is not None:
        ax.set_ylim(top=ceiling)
    dress(ax, COMPUTE, "training loss (nats/token)")
    legend(ax)
    return ax
