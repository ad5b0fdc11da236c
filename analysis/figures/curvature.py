"""How blocks are curved: the distance of each pair, their spectra, and the loss along updates."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from algoprogress.analysis.figures.style import FAINT, GRID, INK, finish, legend
from algoprogress.analysis.palette import colours, styles

LN2 = float(np.log(2))  # the largest distance there is
FLOOR = 1e-4  # of a density's peak: the lowest that is drawn


def pair_map(pairs: pd.DataFrame, ax: Axes) -> Axes:
    """Jensen-Shannon distance of each two blocks, dark where far apart.

    Args:
        pairs: [a, b, js_nats], a row a pair, in the order of the model.
    """
    names = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    place = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    i, j = pairs["a"].map(place), pairs["b"].map(place)
    table[i, j] = table[j, i] = pairs["js_nats"]
    image = ax.imshow(table, cmap="Blues", vmin=0, vmax=max(float(table.max()), np.finfo(float).tiny))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(range(len(names)), names, fontsize=7)
    ax.tick_params(axis="x", rotation=90)
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax, label=f"Jensen–Shannon divergence (nats; at most {LN2:.2f})")
    return ax


def block_spectra(densities: pd.DataFrame, ax: Axes) -> Axes:
    """The density of eigenvalues of each block, each over its own largest |eigenvalue|, set one above the other.

    Args:
        densities: [block, group, largest_magnitude, eigenvalue, density] on even grids; heights are logarithmic.
    """
    groups = list(dict.fromkeys(densities["group"]))
    colour, style = colours(groups), styles(groups)
    blocks = list(dict.fromkeys(densities["block"]))
    for k, block in enumerate(blocks):
        part = densities[densities["block"] == block]
        group = part["group"].iloc[0]
        x = part["eigenvalue"] / part["largest_magnitude"]
        height = np.log10(np.maximum(part["density"] / part["density"].max(), FLOOR)) / -np.log10(FLOOR) + 1
        ax.plot(x, -k + 0.9 * height, color=colour[group], ls=style[group], lw=1.2)
        ax.axhline(-k, color=GRID, lw=0.5, zorder=0)
    ax.set_yticks([-k + 0.2 for k in range(len(blocks))], blocks, fontsize=7)
    ax.set_xlabel("eigenvalue / the block's largest |eigenvalue|", color=INK)
    ax.axvline(0, color=FAINT, lw=0.6, zorder=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def loss_along_updates(curves: pd.DataFrame, ax: Axes) -> Axes:
    """The loss from where the trajectory is to the end of each optimizer's update.

    Args:
        curves: [optimizer, length, loss].
    """
    names = list(dict.fromkeys(curves["optimizer"]))
    colour, style = colours(names), styles(names)
    for name in names:
        part = curves[curves["optimizer"] == name]
        ax.plot(part["length"], part["loss"], color=colour[name], ls=style[name], lw=1.5, label=name)
    ax.set_xlabel("length, in updates", color=INK)
    ax.set_ylabel("loss (nats/token)", color=INK)
    finish(ax)
    legend(ax)
    return ax
