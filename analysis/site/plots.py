"""The figures of the pages, as data for plotly: what is drawn, in the colours and markers of every other figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import flop_text, gain_text
from algoprogress.analysis.palette import colours, styles

COMPUTE, LOSS = "training compute (FLOP)", "validation loss (nats/token)"
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")  # in the order of palette.MARKERS
DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
MOST_POINTS = 3000  # of a scatter: more take seconds to lay out, and lie on one another
MOST_LINES = 120  # of training curves, for the same reason
LINE_POINTS = 160  # of one training curve in a page: more than there are pixels to tell apart
MOST_BANDS = 6  # as many as there are colours: more hide one another
MOST_NAMED = 12  # arms in a legend: the names of more take the room of the figure
UNNAMED = " The arm of a point stands under the pointer."
DIGITS = 5  # of a number in a page; the files beside it have all


@dataclass(frozen=True)
class Plot:
    """A figure: `data` and `layout` as plotly has them, what it shows in words, and the page that a point leads to."""

    name: str
    caption: str
    description: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    link: str = ""  # address before the `customdata` of a point

    @property
    def spec(self) -> dict[str, Any]:
        return {"data": self.data, "layout": self.layout, "link": self.link}


Columns = Mapping[str, np.ndarray]  # column -> its numbers, or text


def by_arm(table: pd.DataFrame) -> dict[str, Columns]:
    """Arm -> the columns of its rows: made once of a table whose arms have a figure each."""
    columns = {str(c): table[c].to_numpy() for c in table if c != "arm"}
    if not len(table):
        return {}
    arm_n = table["arm"].to_numpy()
    return {str(arm): {c: v[arm_n == arm] for c, v in columns.items()} for arm in pd.unique(arm_n)}


def gain_plot(
    gains: Mapping[str, Columns],
    bands: Mapping[str, Columns],
    arms: Sequence[str],
    baseline: str,
    level: float,
    name: str = "gains",
) -> Plot:
    """CEG over the baseline against compute.

    Args:
        gains: arm -> rows of its interpolated gains, as `figures.gain_versus_compute` has them; others are not drawn.
        bands: arm -> its gain by law, as `gain_bands`.
        arms: all of the study, which colours go by.
    """
    colour, style = colours(arms), styles(arms)
    bottom, top = _gain_range([*gains.values(), *bands.values()])
    shown = [a for a in arms if a != baseline and (a in gains or a in bands)]
    rungs = np.unique(np.concatenate([own["compute"] for own in gains.values()])) if gains else np.empty(0)
    aside = _aside(rungs, len(shown))
    data: list[dict[str, Any]] = []
    for k, arm in enumerate(arms):
        if arm not in shown:
            continue
        own, law = (_kept(of[arm], np.isfinite(of[arm]["ceg"])) if arm in of else {} for of in (gains, bands))
        if law:
            ceg, low, high = law["ceg"], law["ceg_low"], law["ceg_high"]
            if len(shown) <= MOST_BANDS:
                low_shown, high_shown = np.maximum(low, bottom / 10), np.minimum(high, top * 10)
                low_shown, high_shown = (np.where(np.isnan(v), ceg, v) for v in (low_shown, high_shown))
                data += band(law["compute"], low_shown, high_shown, colour[arm], arm)
            told = [gain_text(*row) for row in zip(*(v.tolist() for v in (ceg, low, high)), strict=True)]
            line = {"color": colour[arm], "width": 2, "dash": DASHES[style[arm]]}
            data.append(
                trace(f"{arm}, by law", law["compute"], ceg, "lines", arm, line=line, text=told)
                | {"showlegend": not own}
            )
        if own:
            nudge = aside ** (shown.index(arm) - (len(shown) - 1) / 2)  # arms side by side at a rung
            data += _gain_points(own, arm, colour[arm], _marker(k), nudge, top)
    one = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": colour[baseline]}}
    label = {"name": html_safe(f"{baseline} (baseline)"), "hoverinfo": "skip", "mode": "lines"}
    data.insert(0, label | {"type": "scatter", "x": [None], "y": [None], "line": {"color": colour[baseline]}})
    axes = layout(COMPUTE, f"gain over {baseline}", y_log=True, y_range=(bottom, top), ticksuffix="×")
    axes["xaxis"] |= at_rungs(rungs)
    axes |= {"shapes": [one], "showlegend": len(shown) < MOST_NAMED}
    caption = (
        f"Compute-equivalent gain over {baseline}. Markers: interpolated, with intervals; open triangles are bounds, "
        f"pointing to where the gain lies. Lines{' and bands' * (len(shown) <= MOST_BANDS)}: the law"
        + (
            f" with its {100 * level:g} % interval."
            if len(shown) <= MOST_BANDS
            else "; its intervals are in the table."
        )
    )
    caption += UNNAMED * (len(shown) >= MOST_NAMED)
    return Plot(name, caption, f"Compute-equivalent gain over {baseline} against training compute", data, axes)


def _gain_range(drawn: Sequence[Columns]) -> tuple[float, float]:
    """Of the axis: every gain, and the ends of intervals unless they are far from all."""
    values, ends = (
        np.concatenate([first, *(np.asarray(of[c], float) for of in drawn for c in columns)])
        for first, columns in (([1.0], ["ceg"]), ([], ["ceg_low", "ceg_high"]))
    )
    values = values[np.isfinite(values) & (values > 0)]
    ends = ends[np.isfinite(ends) & (ends > values.min() / 3) & (ends < values.max() * 3)]
    both = np.concatenate([values, ends])
    return float(both.min() / 1.25), float(both.max() * 1.25)


def _gain_points(own: Columns, arm: str, colour: str, symbol: str, nudge: float, top: float) -> list[dict[str, Any]]:
    """Interpolated gains of an arm with their intervals, and its sign in the legend."""
    ceg, low, high, censored = own["ceg"], own["ceg_low"], own["ceg_high"], own["censored"]
    rows = zip(*(v.tolist() for v in (ceg, low, high, censored, own["compute"])), strict=True)
    told = [f"{gain_text(*row)}<br>{flop_text(c)} FLOP" for *row, c in rows]
    bound = censored != ""
    up, down = high - ceg, ceg - low
    up = np.where(np.isinf(up), top * 10, up)
    shape = np.where(bound, np.where(censored == ">", "triangle-up", "triangle-down"), symbol)
    marker = {"color": colour, "size": 10, "line": {"color": "white", "width": 1}}
    marker |= {"symbol": [f"{s}-open" if b else s for s, b in zip(shape, bound, strict=True)]}
    error = {"symmetric": False, "array": numbers(np.where(bound, 0, up)), "width": 0, "thickness": 1.5}
    error |= {"arrayminus": numbers(np.where(bound, 0, down)), "color": colour}
    points = trace(arm, own["compute"] * nudge, ceg, "markers", arm, marker=marker, error_y=error, text=told)
    sign = {"marker": {"color": colour, "size": 10, "symbol": symbol}, "hoverinfo": "skip"}
    return [points | {"showlegend": False}, trace(arm, [np.nan], [np.nan], "markers", arm) | sign]


def _kept(of: Columns, rows: np.ndarray) -> Columns:
    """Those rows; nothing where there is none."""
    return {c: v[rows] for c, v in of.items()} if rows.any() else {}


def loss_plot(
    runs: Mapping[str, Columns],
    front: Mapping[str, Columns],
    laws: Mapping[str, Columns],
    arms: Sequence[str],
    link: str,
    order: Sequence[str] | None = None,
    name: str = "loss",
) -> Plot:
    """Every run as a point that leads to its page, the frontier as a marker, the law as a line.

    Args:
        runs: arm -> compute, loss, run_id, learning_rate.
        front, laws: arm -> rows of what `figures.loss_versus_compute` draws.
        order: all arms of the study, which colours go by.
    """
    order = list(order or arms)
    colour, style = colours(order), styles(order)
    shown = {a: _kept(runs[a], np.isfinite(runs[a]["loss"].astype(float))) for a in arms if a in runs}
    shown = {a: own for a, own in shown.items() if own}
    n_shown, left_out = sum(len(own["loss"]) for own in shown.values()), 0
    if n_shown > MOST_POINTS:
        left_out = n_shown - MOST_POINTS
        kept = np.isin(np.arange(n_shown), np.linspace(0, n_shown - 1, MOST_POINTS).astype(int))
        parts = np.split(kept, np.cumsum([len(own["loss"]) for own in shown.values()])[:-1])
        shown = {a: _kept(own, part) for (a, own), part in zip(shown.items(), parts, strict=True)}
    data: list[dict[str, Any]] = []
    for arm in arms:
        own, best, law = (of.get(arm, {}) for of in (shown, front, laws))
        if law:
            data += band(law["compute"], law["loss_low"], law["loss_high"], colour[arm], arm)
            line = {"color": colour[arm], "width": 2, "dash": DASHES[style[arm]]}
            data.append(trace(f"{arm}, by law", law["compute"], law["loss"], "lines", arm, line=line, legend=False))
        if own:
            marker = {"color": colour[arm], "size": 6, "opacity": 0.35, "symbol": _marker(order.index(arm))}
            rate = [f"learning rate {v:g}" for v in own["learning_rate"]] if "learning_rate" in own else None
            points = trace(f"{arm}, a run", own["compute"], own["loss"], "markers", arm, marker=marker, text=rate)
            data.append(points | {"customdata": own["run_id"].tolist(), "showlegend": not best})
        if best:
            marker = {"color": colour[arm], "size": 10, "line": {"color": "white", "width": 1}}
            marker |= {"symbol": _marker(order.index(arm))}
            data.append(trace(arm, best["compute"], best["loss"], "markers", arm, marker=marker))
    losses = _all(shown, "loss")
    seen = _all({a: front[a] for a in arms if a in front}, "loss") if front else losses
    y_range, above = None, 0
    if len(seen):
        low, high = float(seen.min()), float(seen.max())
        top = max(high + 0.35 * (high - low), high + 0.05)
        above = int((losses > top).sum())
        y_range = (low - 0.12 * (high - low) - 0.02, top)
    caption = "Validation loss against training compute. Faint points: runs, each of which leads to its page; strong "
    caption += "markers: the best configuration at each compute; lines and bands: the law with its interval."
    if above:
        caption += f" {above} run{'s' * (above > 1)} lie above the view; double-click to see them."
    if left_out:
        caption += f" {left_out:,} of the runs are left out of the figure, evenly; all are in the table."
    axes = layout(COMPUTE, LOSS, y_range=y_range)
    axes["xaxis"] |= at_rungs(_all(front, "rung"))
    axes["showlegend"] = len(arms) <= MOST_NAMED
    caption += UNNAMED * (len(arms) > MOST_NAMED)
    return Plot(name, caption, "Validation loss against training compute", data, axes, link)


def _all(of: Mapping[str, Columns], column: str) -> np.ndarray:
    """A column of all arms."""
    return np.concatenate([np.asarray(own[column], float) for own in of.values()]) if of else np.empty(0)


def curves_plot(
    curves: Mapping[str, Columns], arm_of: dict[str, str], order: Sequence[str], link: str, name: str = "curves"
) -> Plot:
    """Training loss of runs against compute, a faint line each.

    Args:
        curves: run -> [compute, loss].
        arm_of: run -> arm.
        order: all arms of the study.
    """
    colour, chosen = colours(list(order)), list(arm_of)
    if len(chosen) > MOST_LINES:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, MOST_LINES).astype(int)]
    data, seen = [], set()
    for run in chosen:
        if run not in curves:
            continue
        arm, compute = arm_of[run], curves[run]["compute"]
        rows = thinned(compute)
        loss = curves[run]["loss"][rows]
        line = trace(arm, compute[rows], loss, "lines", arm, line={"color": colour[arm], "width": 1})
        data.append(line | {"opacity": 0.5, "showlegend": arm not in seen, "customdata": [run] * len(rows)})
        seen.add(arm)
    few = "" if len(chosen) == len(arm_of) else f", {len(chosen)} of {len(arm_of)} runs"
    return Plot(
        *(name, f"Training loss of each run against compute{few}; a line leads to its run."),
        *("Training loss against training compute, a line for each run", data),
        *(layout(COMPUTE, "training loss (nats/token)") | {"showlegend": len(seen) <= MOST_NAMED}, link),
    )


def run_plot(of: Columns, name: str = "curve") -> Plot:
    """One run: training loss, and validation loss where it was evaluated, against compute."""
    rows = thinned(of["compute"])
    facts = np.nan_to_num(np.stack([of[c][rows] for c in ("step", "tokens", "learning_rate", "grad_norm")], 1))
    told = [
        f"step {s:,.0f}, {t:,.0f} tokens<br>learning rate {r:.3g}, gradient norm {g:.3g}"
        for s, t, r, g in facts.tolist()
    ]
    (blue, orange), x, y = colours(["a", "b"]).values(), of["compute"][rows], of["loss"][rows]
    data = [trace("training", x, y, "lines", "t", line={"color": blue, "width": 2}, text=told)]
    found = np.isfinite(of["val_loss"]) if "val_loss" in of else np.zeros(len(of["compute"]), bool)
    if found.any():
        marker = {"color": orange, "size": 9, "symbol": "square", "line": {"color": "white", "width": 1}}
        data.append(trace("validation", of["compute"][found], of["val_loss"][found], "markers", "v", marker=marker))
    axes = layout(COMPUTE, "loss (nats/token)")
    described = "Loss of the run against training compute"
    return Plot(
        name, "Training loss of the run, and its validation loss where it was evaluated.", described, data, axes
    )


def thinned(compute: np.ndarray, most: int = LINE_POINTS) -> np.ndarray:
    """Rows of a training curve whose compute (FLOP, ascending) is above 0: evenly spaced in its logarithm, the first
    and the last among them.
    """
    known = np.flatnonzero(compute > 0)
    if len(known) <= most:
        return known
    log_c = np.log(compute[known])
    rows = np.searchsorted(log_c, np.linspace(log_c[0], log_c[-1], most))
    return known[np.unique(np.clip([0, *rows, len(known) - 1], 0, len(known) - 1))]


def trace(
    name: str,
    x: Any,
    y: Any,
    mode: str,
    group: str,
    text: Sequence[str] | None = None,
    legend: bool = True,
    **options: Any,
) -> dict[str, Any]:
    shown = "%{text}" if "error_y" in options else "%{y}, %{x} FLOP" + ("<br>%{text}" if text is not None else "")
    hover = f"<b>{html_safe(name)}</b><br>{shown}<extra></extra>"
    found: dict[str, Any] = {"type": "scatter", "name": html_safe(name), "x": numbers(x), "y": numbers(y), "mode": mode}
    found |= {"legendgroup": group, "hovertemplate": hover, "showlegend": legend, **options}
    return found | ({"text": [*text]} if text is not None else {})


def band(x: Any, low: Any, high: Any, colour: str, group: str) -> list[dict[str, Any]]:
    """Between two lines, as one closed outline: plotly's fill between traces fails where an end is missing."""
    x, low, high = (np.asarray(v, float) for v in (x, low, high))
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return []
    x, low, high = x[known], low[known], high[known]
    outline = {"x": numbers([*x, *x[::-1]]), "y": numbers([*low, *high[::-1]]), "mode": "lines", "fill": "toself"}
    style = {"fillcolor": rgba(colour, 0.14), "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    return [{"type": "scatter", "name": "interval", "legendgroup": group} | outline | style]


def layout(
    x: str,
    y: str,
    x_log: bool = True,
    y_log: bool = False,
    y_range: tuple[float, float] | None = None,
    ticksuffix: str = "",
) -> dict[str, Any]:
    """Axes in the house style. Ranges are in the units of the data."""
    axis = {"gridcolor": "#e4e4e4", "linecolor": "#777", "ticks": "outside", "tickcolor": "#777", "zeroline": False}
    log = {"type": "log", "exponentformat": "power", "dtick": 1}
    across = axis | (log if x_log else {}) | {"title": {"text": x}, "automargin": True}
    up = axis | ({"type": "log", "exponentformat": "power"} if y_log else {}) | {"title": {"text": y}}
    up |= {"automargin": True, "ticksuffix": ticksuffix}
    if y_range is not None:
        up["range"] = numbers(np.log10(y_range) if y_log else y_range)
        if y_log:
            up |= log_ticks(*y_range, ticksuffix)
    font = {"family": "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif", "size": 13, "color": "#222"}
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "xanchor": "left"}
    found: dict[str, Any] = {"xaxis": across, "yaxis": up, "font": font, "legend": legend, "hovermode": "closest"}
    white = {"plot_bgcolor": "white", "paper_bgcolor": "white", "margin": {"l": 60, "r": 16, "t": 16, "b": 50}}
    return found | white | {"dragmode": False, "hoverlabel": {"align": "left"}}


def _aside(rungs: np.ndarray, n_arms: int) -> float:
    """The factor between arms at one rung: together they take at most a half of the way to the next."""
    room = np.min(rungs[1:] / rungs[:-1]) if len(rungs) > 1 else 3.0
    return float(min(1.05, room ** (0.5 / max(n_arms, 1))))


def at_rungs(compute: Any) -> dict[str, Any]:
    """Ticks at the computes that a study trained at, where they are few."""
    rungs = sorted(set(np.asarray(compute, float).tolist()))
    if not 1 < len(rungs) <= 8:
        return {}
    return {"tickmode": "array", "tickvals": rungs, "ticktext": [flop_text(r) for r in rungs]}


def log_ticks(low: float, high: float, suffix: str) -> dict[str, Any]:
    """Ticks of a logarithmic axis, written out: powers of ten over many decades, else 1, 2, 5, or finer."""
    decades = np.log10(high / low)
    steps = (1,) if decades > 2.5 else (1, 2, 5) if decades > 0.7 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7)
    every = max(1, int(np.ceil(decades / 8)))  # of the powers of ten
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    at = [s * 10.0**p for p in powers if p % every == 0 for s in steps if low <= s * 10.0**p <= high]
    text = [
        f"{v:g}{suffix}"
        if (1e-3 < v < 2e4 and decades < 5) or v in (1, 10)
        else f"10<sup>{np.log10(v):.0f}</sup>{suffix}"
        for v in at
    ]
    return {"tickmode": "array", "tickvals": [float(f"{v:g}") for v in at], "ticktext": text, "ticksuffix": ""}


def numbers(values: Any) -> list[float | None]:
    """As JSON has them: rounded to what can be seen, and null for what is not finite."""
    found = np.asarray(values, float)
    return [float(f"{v:.{DIGITS}g}") if ok else None for v, ok in zip(found.tolist(), np.isfinite(found), strict=True)]


def rgba(colour: str, alpha: float) -> str:
    return "rgba({}, {}, {}, {:g})".format(*(int(colour[k : k + 2], 16) for k in (1, 3, 5)), alpha)


def html_safe(text: str) -> str:
    """plotly reads some HTML in names: an arm's name is text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _marker(k: int) -> str:
    return MARKERS[(k + k // len(MARKERS)) % len(MARKERS)]
