"""The figures of an account, as data for plotly: from the tables of `account_tables`, with what has no band dashed."""

from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import flop_text, gain_text, number
from algoprogress.analysis.palette import COLOURS, colours
from algoprogress.analysis.site.plots import COMPUTE, Plot, band, layout, log_ticks, numbers, trace

TOTAL = "#444444"


def waterfall_plot(steps: pd.DataFrame, year: float, name: str) -> Plot:
    """Steps from 1 to the total, each as long as its share of the logarithm."""
    labels = [key.replace("_", " ") for key in steps["key"]]
    told = [f"{i}: {gain_text(*r)}" for i, *r in steps[["innovation", "gain", "gain_low", "gain_high"]].to_numpy()]
    groups = [g for g in pd.unique(steps["group"]) if g]
    colour = colours(groups) | {"": TOTAL}
    bars: dict[str, Any] = {"type": "bar", "orientation": "h", "y": labels, "base": numbers(steps["start"])}
    bars |= {"x": numbers(steps["end"] - steps["start"]), "marker": {"color": [colour[g] for g in steps["group"]]}}
    bars |= {"text": [f"{number(g)}×" for g in steps["gain"]], "textposition": "outside", "cliponaxis": False}
    bars |= {"hovertext": told, "hovertemplate": "%{hovertext}<extra></extra>", "showlegend": False, "name": "gain"}
    keys = [
        {"type": "bar", "x": [None], "y": [None], "name": g, "marker": {"color": colour[g]}, "hoverinfo": "skip"}
        for g in groups
    ]
    top = float(steps["end"].max())
    axes = layout("gain, cumulative", "")
    reach = top**1.18  # room for the number at the end of the longest bar
    axes["xaxis"] |= {"range": [0, float(np.log10(reach))], "tickangle": 0} | log_ticks(1, reach, "×")
    axes["yaxis"] |= {"autorange": "reversed", "gridcolor": "white"}
    axes |= {"bargap": 0.3}
    return Plot(
        name,
        f"How the total of {year:g} comes about, in the order of adoption. On a logarithmic axis, so that a bar is as "
        "long as the share of the logarithm.",
        f"Waterfall of the gains that make up the total of {year:g}",
        [bars, *keys],
        axes,
    )


def compute_plot(gains: pd.DataFrame, name: str) -> Plot:
    """Gain of each entry against compute: thick where measured, dashed where extrapolated, with its band."""
    keys = [k for k, part in gains.groupby("key", sort=False) if part["gain"].notna().any()]
    varied = [k for k in keys if np.ptp(gains.loc[gains["key"] == k, "gain"].dropna()) > 1e-9]
    shown = varied or keys[: len(COLOURS)]
    colour = colours(shown)
    data: list[dict[str, Any]] = []
    for key in shown:
        part = gains[gains["key"] == key]
        data += band(part["compute"], part["gain_low"], part["gain_high"], colour[key], key)
        inside = part["compute"].between(part["measured_low"], part["measured_high"]) | part["measured_low"].isna()
        label = key.replace("_", " ")
        line = {"color": colour[key], "width": 1.5, "dash": "dot"}
        beyond = trace(f"{label}, extrapolated", part["compute"], part["gain"], "lines", key, line=line, legend=False)
        data.append(beyond)
        if inside.any():
            own = part[inside]
            line = {"color": colour[key], "width": 3.5}
            data.append(trace(label, own["compute"], own["gain"], "lines", key, line=line))
        else:
            beyond["showlegend"] = True
    constant = len(keys) - len(shown)
    more = f" {constant} more, the same at every compute, are in the table." if constant else ""
    low, high = (float(f(gains[gains["key"].isin(shown)]["gain"].dropna())) for f in (min, max))
    axes = layout(COMPUTE, "gain", y_log=True, y_range=(low / 1.5, high * 1.5), ticksuffix="×")
    axes["xaxis"] |= {"dtick": 2}
    said = "Thick where it was measured, dotted where it is extrapolated; bands are intervals, where any are known."
    return Plot(name, f"Gain of each innovation against compute. {said}{more}", "Gain against compute", data, axes)


def bases_plot(against: pd.DataFrame, name: str) -> Plot:
    """The same progress against each base algorithm over the years."""
    bases = list(pd.unique(against["base"]))
    colour = colours(bases)
    data = []
    for base in bases:
        part = against[against["base"] == base]
        data += band(part["year"], part["gain_low"], part["gain_high"], colour[base], base)
        rows = zip(part["compute"], part["decades_beyond"], strict=True)
        told = [f"at {flop_text(c)} FLOP" + (f", {d:.1f} decades beyond the data" if d > 0.05 else "") for c, d in rows]
        line = {"color": colour[base], "width": 2.5}
        curve = trace(f"against the {base}", part["year"], part["gain"], "lines", base, line=line, text=told)
        data.append(curve | {"hovertemplate": "<b>%{fullData.name}</b><br>%{x}: %{y}, %{text}<extra></extra>"})
    low, high = float(against["gain"].min()), float(against["gain"].max())
    axes = layout("year", "gain", x_log=False, y_log=True, y_range=(low / 1.5, high * 1.5), ticksuffix="×")
    said = (
        "All algorithms of the account at the compute of each year's frontier, whenever they were adopted, measured "
        "against each base algorithm: the gain grows by the year over one whose law is less steep, and not at all over "
        "the newest. How far a point is beyond the data stands under the pointer."
    )
    return Plot(name, said, "Gain over the years against each base algorithm", data, axes)


def multiverse_strip(worlds: pd.DataFrame, choices: list[str], name: str) -> Plot:
    """The total under every combination of conventions, in rising order."""
    rows = worlds.dropna(subset=["ceg"]).sort_values("ceg", kind="stable").reset_index(drop=True)
    told = ["<br>".join(f"{c}: {v}" for c, v in zip(choices, r, strict=True) if v) for r in rows[choices].to_numpy()]
    held = rows["extrapolation"] == "held"
    data = []
    for label, of, colour in (
        ("laws extrapolated", ~held, COLOURS[0]),
        ("held at what was measured", held, COLOURS[1]),
    ):
        marker = {"color": colour, "size": 9, "line": {"color": "white", "width": 1}}
        own = rows[of]
        dots = trace(label, own.index + 1, own["ceg"], "markers", label, marker=marker)
        data.append(
            dots | {"text": [told[k] for k in own.index], "hovertemplate": "<b>%{y}</b><br>%{text}<extra></extra>"}
        )
    chosen = rows[rows["default"]]
    marker = {"symbol": "circle-open", "size": 17, "color": "#222", "line": {"width": 2}}
    data.append(trace("the account's own", chosen.index + 1, chosen["ceg"], "markers", "own", marker=marker))
    low, high = float(rows["ceg"].min()), float(rows["ceg"].max())
    axes = layout(
        f"{len(rows)} combinations of conventions, in order", "total gain", x_log=False, y_log=True,
        y_range=(low / 2, high * 2), ticksuffix="×",
    )  # fmt: skip
    axes["xaxis"] |= {"showticklabels": False, "ticks": ""}
    said = "The total under every combination of reference compute, frontier, interaction rule and extrapolation."
    return Plot(name, said, "The total under every combination of conventions", data, axes)
