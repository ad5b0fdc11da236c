"""What all figures share: ink, axes, legend, and how one is drawn and written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MultipleLocator, NullFormatter

INK, FAINT, GRID = "#222222", "#777777", "#e4e4e4"
COMPUTE = "training compute (FLOP)"
LOSS = "validation loss (nats/token)"
LETTERS = 11.5  # of legend text to an inch


def new_axes(width: float = 6.6, height: float = 4.3) -> Axes:
    """Axes of a figure of its own, outside pyplot: no global state, no window."""
    return Figure(figsize=(width, height), dpi=160, layout="constrained").add_subplot()


def draw(
    plot: Callable[..., Axes], *data: object, width: float = 6.6, height: float = 4.3, **options: object
) -> Figure:
    """A figure of one plot in the house style: `draw(loss_versus_compute, runs, front, fits, arms)`.

    Args:
        plot: called with the data, an `ax` and the options.
        width, height: inches.
    """
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context(sns.axes_style("ticks") | sns.plotting_context("paper", font_scale=1.15)):
        ax = new_axes(width, height)
        plot(*data, ax, **options)
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


def dress(ax: Axes, x: str, y: str) -> None:
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


def legend(ax: Axes) -> None:
    """Above the axes in as many columns as have room, where it covers no data."""
    handles, labels = ax.get_legend_handles_labels()
    figure = ax.get_figure(root=True)
    assert figure is not None
    room = figure.get_figwidth() * LETTERS
    columns = int(np.clip(room // (max(map(len, labels), default=1) + 5), 1, 4))  # a marker takes about five letters
    style: dict[str, Any] = {"frameon": False, "borderaxespad": 0.2, "handletextpad": 0.5, "columnspacing": 1.4}
    ax.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(columns, max(len(labels), 1)), **style
    )
