"""What all figures share: ink, axes, legend, and how one is drawn and written."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullFormatter

INK, FAINT, GRID = "#222222", "#777777", "#e4e4e4"
COMPUTE = "training compute (FLOP)"
LOSS = "validation loss (nats/token)"
LEAST_SPAN = 0.2  # of the view of estimates that agree: a fifth, in ln or as they are
FORMATS = ("png", "svg", "pdf")
UNDATED: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
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


def save(fig: Figure, path: str | Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write a figure in each format beside one another; `path` is the name without or with a suffix.

    Args:
        formats: of png (200 dots per inch), svg and pdf.
    """
    import matplotlib as mpl

    stem = Path(path).with_suffix("") if Path(path).suffix[1:] in FORMATS else Path(path)
    stem.parent.mkdir(parents=True, exist_ok=True)
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise ValueError(f"a figure is written as {', '.join(FORMATS)}, not {', '.join(unknown)}")
    files = [stem.with_name(f"{stem.name}.{suffix}") for suffix in formats]
    with mpl.rc_context({"svg.hashsalt": "algoprogress"}):  # the same figure gives the same file
        for file in files:
            fig.savefig(file, dpi=200, metadata=UNDATED[file.suffix[1:]])
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
    finish(ax)


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


def view(
    shown: Sequence[float], ends: Sequence[float], reference: float | None = None, log: bool = False
) -> tuple[float, float]:
    """All estimates, and ends of intervals up to as far again: a few that are endless would hide the rest."""
    known = [*shown, *([] if reference is None else [reference])]
    values, reach = (np.array([v for v in part if not np.isnan(v) and (v > 0 or not log)]) for part in (known, ends))
    if log:
        values, reach = np.log(values), np.log(reach)
    low, high = float(values.min()), float(values.max())
    span = max(high - low, LEAST_SPAN)
    far_down, far_up = reach < low - span, reach > high + span
    near = reach[~far_down & ~far_up]
    beyond = 0.15 * span  # so that what leaves the view is seen to leave it
    low = min([low, *near]) - beyond * bool(far_down.any())
    high = max([high, *near]) + beyond * bool(far_up.any())
    bottom, top = low - 0.04 * (high - low), high + 0.04 * (high - low)
    return (float(np.exp(bottom)), float(np.exp(top))) if log else (bottom, top)


def words(key: str) -> str:
    """The key of an entry as people read it."""
    return key.replace("_to_", " → ").replace("_", " ")


def times(value: float, _: object = None) -> str:
    """A tick of a gain: 0.1×, 1×, 100×, and powers of ten from ten thousand on."""
    if value <= 0:
        return ""
    if 1e-3 <= value < 1e4:
        return f"{value:g}×"
    return f"$10^{{{np.log10(value):.0f}}}$×"


def gain_axis(ax: Axes) -> None:
    """Ticks of gains upwards: powers of ten over many decades, else 1, 2, 5."""
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 1e3 * low else (1.0, 2.0, 5.0), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(times))
    ax.yaxis.set_minor_formatter(NullFormatter())


def finish(ax: Axes, grid: Literal["both", "x", "y"] = "both", spines: Sequence[str] = ("left", "bottom")) -> None:
    """A faint grid behind the data, and faint spines on some sides."""
    ax.grid(True, which="major", axis=grid, color=GRID, lw=0.7)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in spines)
        spine.set_color(FAINT)


def end_labels(ax: Axes, ends: Mapping[str, float], colour: Mapping[str, str], size: float = 9.0) -> None:
    """The name of each line beside its right end, in its colour, moved apart where ends lie close."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    transform = np.log10 if ax.get_yscale() == "log" else np.asarray
    bottom, top = transform(np.array(ax.get_ylim()))
    names = sorted(ends, key=lambda name: ends[name])
    at = (transform(np.array([ends[n] for n in names])) - bottom) / (top - bottom)
    gap = 1.35 * size / 72 / (figure.get_figheight() * 0.8)
    y = spread(at, gap)
    for name, own, moved in zip(names, at, y, strict=True):
        arrow = {"arrowstyle": "-", "color": colour[name], "lw": 0.7, "shrinkA": 2, "shrinkB": 0, "alpha": 0.7}
        arrow |= {"relpos": (0, 0.5)}
        ax.annotate(
            name, xy=(1.0, own), xytext=(1.045, moved), xycoords="axes fraction", va="center", fontsize=size,
            color=colour[name], arrowprops=arrow, annotation_clip=False,
        )  # fmt: skip


def spread(at: np.ndarray, gap: float) -> np.ndarray:
    """Heights in ascending order, moved as little as keeps a gap between neighbours, and below 1 where there is room.

    The least squares of the moves: an isotonic regression of the heights less their gaps.
    """
    from scipy.optimize import isotonic_regression

    if not len(at):
        return np.array([])
    steps = gap * np.arange(len(at))
    y = isotonic_regression(np.asarray(at, float) - steps).x + steps
    return np.clip(y, None, 1.0 - gap * np.arange(len(at))[::-1])
