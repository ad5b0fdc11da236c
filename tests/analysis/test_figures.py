"""Figures show what their tables say: each is read back from its artists."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from algoprogress.analysis import laws
from algoprogress.analysis.figures import (
    draw,
    fit_with_band,
    isoflop_curves,
    multiverse_plot,
    new_axes,
    profile_plot,
    save,
    slope_forest,
)
from algoprogress.analysis.palette import colours

C = np.geomspace(1e15, 1e20, 11)


def points() -> pd.DataFrame:
    return pd.DataFrame({"arm": ["a"] * 5 + ["b"] * 5, "compute": [*C[3:8]] * 2, "loss": [*np.linspace(3, 2, 5)] * 2})


def law(extrapolated=(C[3] > C) | (C[7] < C)) -> pd.DataFrame:
    line = pd.DataFrame({"compute": C, "loss": np.linspace(4, 1, 11), "extrapolated": extrapolated})
    line = line.assign(loss_low=line["loss"] - 0.1, loss_high=line["loss"] + 0.1)
    return pd.concat([line.assign(arm="a"), line.assign(arm="b", loss=line["loss"] + 0.2)], ignore_index=True)


def dashed(line) -> bool:
    return line.is_dashed()


def isoflop_tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    sizes, rows, lines = np.geomspace(1e7, 1e9, 7), [], []
    for k, budget in enumerate((1e18, 1e19, 1e20)):
        loss = 3 - 0.3 * k + 0.1 * np.log(sizes / 1e8 / 2**k) ** 2
        rows.append(pd.DataFrame({"budget": budget, "n_params": sizes, "loss": loss}))
        lines.append(rows[-1])
    minima = pd.DataFrame(
        {
            "compute": [1e18, 1e19, 1e20],
            "n_params": [1e8, 2e8, 1e9],
            "n_params_low": [9e7, 1e8, 0.0],
            "n_params_high": [2e8, 3e8, np.inf],
            "loss": [3, 2.7, 2.4],
            "at_edge": ["", "", ">"],
        }
    )
    return pd.concat(rows), pd.concat(lines), minima


class TestFitWithBand:
    def test_the_law_is_solid_where_measured_and_dashed_beyond(self):
        ax = fit_with_band(points(), law(), ["a", "b"], new_axes())
        own = [
            line
            for line in ax.lines
            if to_hex(line.get_color()) == colours(["a"])["a"].lower() and len(line.get_xdata()) > 1
        ]
        solid = [line for line in own if not dashed(line) and line.get_linestyle() != "None"]
        assert [line.get_xdata().tolist() for line in solid] == [C[3:8].tolist()]
        beyond = sorted((line.get_xdata().tolist() for line in own if dashed(line)), key=min)
        assert beyond == [C[:4].tolist(), C[7:].tolist()]

    def test_nothing_is_called_extrapolated_that_is_not(self):
        ax = fit_with_band(points(), law(extrapolated=False), ["a", "b"], new_axes())
        assert not any(dashed(line) for line in ax.lines)
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]

    def test_sizes_are_on_a_logarithmic_axis_and_losses_are_not(self):
        sizes = (
            points().rename(columns={"loss": "n_params"}),
            law().rename(columns={"loss": "n_params", "loss_low": "n_params_low", "loss_high": "n_params_high"}),
        )
        assert fit_with_band(*sizes, ["a", "b"], new_axes(), y="n_params").get_yscale() == "log"
        assert fit_with_band(points(), law(), ["a", "b"], new_axes()).get_yscale() == "linear"

    def test_known_errors_of_points_are_drawn(self):
        with_errors = points().assign(loss_low=lambda t: t["loss"] - 0.1, loss_high=lambda t: t["loss"] + 0.1)
        assert len(fit_with_band(with_errors, law(), ["a"], new_axes()).collections) == 4  # three bands, and the errors


class TestIsoflopCurves:
    def test_each_budget_has_a_colour_and_the_order_of_compute(self):
        ax = isoflop_curves(*isoflop_tables(), new_axes())
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["1e20", "1e19", "1e18"]
        drawn = {to_hex(line.get_color()) for line in ax.lines if len(line.get_xdata()) == 7}
        assert len(drawn) == 3

    def test_a_minimum_at_an_edge_is_open_and_off_the_line_of_minima(self):
        ax = isoflop_curves(*isoflop_tables(), new_axes())
        open_ones = [line for line in ax.lines if line.get_marker() == "D" and line.get_markerfacecolor() == "white"]
        assert [line.get_xdata().tolist() for line in open_ones] == [[1e9]]
        path = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None"]
        assert [line.get_xdata().tolist() for line in path] == [[1e8, 2e8]]

    def test_runs_above_the_view_are_counted(self):
        rows, lines, minima = isoflop_tables()
        rows.loc[rows.index[0], "loss"] = 90.0
        ax = isoflop_curves(rows, lines, minima, new_axes())
        assert ax.get_ylim()[1] < 10
        above = int((rows["loss"] > ax.get_ylim()[1]).sum())
        assert any(text.get_text() == f"{above} runs above" for text in ax.texts)


class TestSlopeForest:
    slopes = pd.DataFrame(
        {
            "arm": ["b", "b", "a", "c"],
            "slope": [0.2, 0.3, -0.1, np.nan],
            "slope_low": [0.1, np.nan, -0.2, np.nan],
            "slope_high": [0.3, np.nan, 0.05, np.nan],
            "method": ["interpolated", "law", "interpolated", "law"],
            "law": ["", "power", "", "power"],
        }
    )

    def test_rows_are_in_the_order_of_the_study_and_say_their_interval(self):
        ax = slope_forest(self.slopes, ["a", "b", "c"], new_axes())
        assert [t.get_text() for t in ax.get_yticklabels()] == ["a, interpolated", "b, interpolated", "b, law (power)"]
        assert [t.get_text() for t in ax.texts] == ["−0.10 [−0.20, 0.05]", "0.20 [0.10, 0.30]", "0.30"]
        assert any(list(line.get_xdata()) == [0, 0] for line in ax.lines)

    def test_an_arm_has_the_colour_it_has_elsewhere(self):
        ax = slope_forest(self.slopes, ["a", "b", "c"], new_axes())
        drawn = [to_hex(line.get_markeredgecolor()) for line in ax.lines if line.get_marker() not in ("None", None)]
        assert drawn == [colours("abc")[arm].lower() for arm in ("a", "b", "b")]


class TestMultiverse:
    def table(self) -> pd.DataFrame:
        rows = [(law, e, "6N") for law in ("power", "bnsl") for e in ("free", "shared", "fixed")]
        table = pd.DataFrame(rows, columns=["law", "irreducible_loss", "flop"])
        ceg = np.array([2.0, 1.5, np.nan, 3.0, 1.2, 1.1])
        return table.assign(ceg=ceg, ceg_low=ceg * 0.9, ceg_high=[2.2, np.inf, np.nan, 3.3, 1.3, 1.2])

    def panels(self, table: pd.DataFrame):
        figure = draw(multiverse_plot, table, choices=["law", "irreducible_loss", "flop"])
        return figure.axes

    def test_estimates_rise_and_those_without_are_counted(self):
        top, below = self.panels(self.table())
        dots = next(line for line in top.lines if line.get_marker() == "o")
        assert dots.get_ydata().tolist() == [1.1, 1.2, 1.5, 2.0, 3.0]
        assert below.get_xlabel().startswith("5 protocols; 1 more gave no estimate")

    def test_each_estimate_stands_above_the_choices_that_made_it(self):
        _, below = self.panels(self.table())
        names = [t.get_text() for t in below.get_yticklabels()]
        assert names == ["law", "bnsl", "power", "irreducible loss", "fixed", "free", "shared"]
        places = {}
        for marks in below.collections:
            for (x, low), (_, high) in marks.get_segments():
                places.setdefault(round((low + high) / 2), []).append(int(x))
        by_name = {name: sorted(places[k]) for k, name in enumerate(names) if k in places}
        assert by_name == {"bnsl": [0, 1, 4], "power": [2, 3], "fixed": [0], "free": [3, 4], "shared": [1, 2]}

    def test_what_was_chosen_stands_out(self):
        table = self.table().assign(default=[True, *[False] * 5])
        top, _ = self.panels(table)
        chosen = next(line for line in top.lines if line.get_marker() == "D")
        assert chosen.get_ydata().tolist() == [2.0]


class TestProfile:
    def profile(self, name: str = "chinchilla", parameter: str = "E") -> pd.DataFrame:
        design, parameters = laws[name].example()
        loss = laws[name].formula(parameters, *(design[c] for c in laws[name].inputs))
        noise = np.exp(0.005 * np.random.default_rng(0).standard_normal(len(loss)))
        return laws[name](huber=np.inf).fit(design.assign(loss=loss * noise)).profile(parameter)

    def test_the_view_holds_the_interval_the_threshold_and_the_estimate(self):
        profile = self.profile()
        ax = profile_plot(profile, new_axes(), unit="nats/token")
        inside = profile["value"][profile["statistic"] <= profile["threshold"]]
        assert ax.get_xlim()[0] < inside.min() < inside.max() < ax.get_xlim()[1]
        assert any(set(line.get_ydata()) == {profile["threshold"][0]} for line in ax.lines)
        assert [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"] == [profile["estimate"][0]]
        assert ax.get_xlabel() == "E (nats/token)"

    def test_what_is_shaded_lies_below_the_threshold(self):
        profile = self.profile()
        shade = profile_plot(profile, new_axes()).collections[0].get_paths()[0].vertices
        assert shade[:, 1].max() == pytest.approx(profile["threshold"][0])

    def test_a_parameter_known_by_its_order_of_magnitude_is_on_a_logarithmic_axis(self):
        assert profile_plot(self.profile(parameter="B"), new_axes()).get_xscale() == "log"
        assert profile_plot(self.profile(parameter="alpha"), new_axes()).get_xscale() == "linear"

    def test_an_objective_alone_is_drawn_without_a_threshold(self):
        ax = profile_plot(self.profile()[["parameter", "value", "objective"]], new_axes())
        assert ax.get_ylabel() == "objective"
        assert len(ax.lines) == 1

    def test_a_profile_of_two_parameters_is_refused(self):
        both = pd.concat([self.profile(), self.profile().assign(parameter="alpha")])
        with pytest.raises(ValueError, match="of one parameter; the table has E, alpha"):
            profile_plot(both, new_axes())


def test_the_same_figure_gives_the_same_files(tmp_path):
    files = [save(draw(isoflop_curves, *isoflop_tables(), width=5, height=4), tmp_path / name) for name in ("a", "b")]
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_no_figure_loads_pyplot_or_changes_settings():
    before = dict(mpl.rcParams)
    draw(fit_with_band, points(), law(), ["a", "b"])
    assert dict(mpl.rcParams) == before
    code = "import sys, algoprogress.analysis.figures; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
