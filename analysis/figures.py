"""What do the runs look like?  Functions of tidy data and an `ax`; they draw and compute no statistics."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullFormatter

from algoprogress.analysis.palette import colours, markers, styles

INK, FAINT, GRID = "#222222", "#777777", "#e4e4e4"
COMPUTE = "training compute (FLOP)"
LOSS = "validation loss (nats/token)"


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
    _dress(ax, COMPUTE, LOSS)
    _legend(ax)
    return ax


def gain_versus_compute(gains: pd.DataFrame, bands: pd.DataFrame, arms: Sequence[str], baseline: str, ax: Axes) -> Axes:
    """CEG over the baseline: interpolated gains as markers with intervals, the law with its band, the baseline at 1.

    A gain known only to be larger or smaller than a bound is an open marker at the bound with an arrow.

    Args:
        gains: rows of a gain table by the method "interpolated", at the rungs.
        bands: rows by the method "law", on a grid of compute; may be empty.
        arms: in the order of the study, the baseline among them.
    """
    colour, marker, style = colours(arms), markers(arms), styles(arms)
    others = [a for a in arms if a != baseline]
    ax.set_xscale("log")
    ax.set_yscale("log")
    shown = pd.concat([gains["ceg"], bands["ceg"], pd.Series([1.0])]).dropna()
    shown = shown[(shown > 0) & np.isfinite(shown)]
    ends = pd.concat([gains["ceg_low"], gains["ceg_high"], bands["ceg_low"], bands["ceg_high"]])
    ends = ends[np.isfinite(ends) & (ends > shown.min() / 3) & (ends < shown.max() * 3)]
    bottom, top = min([*shown, *ends]) / 1.35, max([*shown, *ends]) * 1.35
    ax.set_ylim(bottom, top)
    ax.axhline(1, color=colour[baseline], lw=1.6, zorder=1, label=f"{baseline} (baseline)")
    for k, arm in enumerate(others):
        own, law = gains[gains["arm"] == arm], bands[bands["arm"] == arm].dropna(subset=["ceg"])
        if len(law):
            low, high = law["ceg_low"].clip(lower=bottom / 10), law["ceg_high"].clip(upper=top * 10)
            ax.fill_between(law["compute"], low, high, color=colour[arm], alpha=0.13, lw=0, zorder=1)
            ax.plot(law["compute"], law["ceg"], color=colour[arm], ls=style[arm], lw=1.6, zorder=3)
        nudge = 1.07 ** (k - (len(others) - 1) / 2)  # arms side by side at a rung
        for row in own.dropna(subset=["ceg"]).itertuples():
            x = row.compute * nudge
            if row.censored:
                arrow = {"arrowstyle": "-|>", "color": colour[arm], "lw": 1.3, "shrinkA": 2, "shrinkB": 0}
                factor = 1.28 if row.censored == ">" else 1 / 1.28
                ax.annotate("", (x, row.ceg * factor), (x, row.ceg), zorder=4, arrowprops=arrow)
            elif np.isfinite(row.ceg_high):
                ax.plot([x, x], [max(row.ceg_low, bottom / 10), row.ceg_high], color=colour[arm], lw=1.2, zorder=3)
            elif np.isfinite(row.ceg_low):
                ax.plot([x, x], [max(row.ceg_low, bottom / 10), top * 10], color=colour[arm], lw=1.2, zorder=3)
            face = "white" if row.censored else colour[arm]
            edge = colour[arm] if row.censored else "white"
            ax.plot(
                x, row.ceg, marker=marker[arm], ms=6.5, mfc=face, mec=edge, mew=1.2 if row.censored else 0.9, zorder=5
            )
        ax.plot([], [], color=colour[arm], marker=marker[arm], mec="white", ms=6.5, ls=style[arm], lw=1.6, label=arm)
    ax.set_ylim(bottom, top)
    _dress(ax, COMPUTE, f"compute-equivalent gain over {baseline}")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}×"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    _legend(ax)
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
    _dress(ax, COMPUTE, "training loss (nats/token)")
    _legend(ax)
    return ax


def new_axes(width: float = 6.6, height: float = 4.3) -> Axes:
    """Axes of a figure of its own, outside pyplot: no global state, no window."""
    return Figure(figsize=(width, height), dpi=160, layout="constrained").add_subplot()


def draw(plot: Callable[..., Axes], *data: object) -> Figure:
    """A figure of one plot in the house style: `draw(loss_versus_compute, runs, front, fits, arms)`."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context(sns.axes_style("ticks") | sns.plotting_context("paper", font_scale=1.15)):
        ax = new_axes()
        plot(*data, ax)
        figure = ax.get_figure()
    assert isinstance(figure, Figure)
    return figure


def save(fig: Figure, path: str | Path) -> list[Path]:
    """Write PNG (200 dots per inch) and SVG beside one another; `path` is the name without or with a suffix."""
    import matplotlib as mpl

    stem = Path(path).with_suffix("") if Path(path).suffix in (".png", ".svg") else Path(path)
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    with mpl.rc_context({"svg.hashsalt": "algoprogress"}):  # the same figure gives the same file
        fig.savefig(files[0], dpi=200)
        fig.savefig(files[1], metadata={"Date": None})
    return files


def _dress(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK)
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if ax.get_yscale() == "linear":
        low, high = ax.get_ylim()
        step = 10.0 ** np.floor(np.log10(max(high - low, 1e-9) / 2))
        ax.yaxis.set_major_locator(MultipleLocator(step * (1 if (high - low) / step <= 8 else 2)))
    ax.grid(True, which="major", color=GRID, lw=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)


def _legend(ax: Axes) -> None:
    """Above the axes in one row, where it covers no data."""
    handles, labels = ax.get_legend_handles_labels()
    style = {"frameon": False, "borderaxespad": 0.2, "handletextpad": 0.5, "columnspacing": 1.4}
    ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(4, max(len(labels), 1)), **style)
