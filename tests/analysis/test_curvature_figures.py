"""Figures of curvature show what their tables hold."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.figures import block_spectra, loss_along_updates, new_axes, pair_map


def test_the_map_is_symmetric_and_has_every_block_in_order():
    pairs = pd.DataFrame({"a": ["q", "q", "k"], "b": ["k", "v", "v"], "js_nats": [0.1, 0.6, 0.3]})
    ax = pair_map(pairs, new_axes())
    table = np.asarray(ax.images[0].get_array())
    assert table.tolist() == [[0, 0.1, 0.6], [0.1, 0, 0.3], [0.6, 0.3, 0]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["q", "k", "v"]


def test_each_spectrum_is_drawn_over_its_own_largest_eigenvalue_below_the_last():
    x = np.linspace(-2, 2, 50)
    one = pd.DataFrame({"eigenvalue": x, "density": np.exp(-(x**2)), "largest_magnitude": 1.0})
    parts = [one.assign(block="q", group="q"), (1000 * one).assign(block="v", group="v")]
    ax = block_spectra(pd.concat(parts), new_axes())
    curves = [line for line in ax.lines if len(line.get_xdata()) == 50]
    assert all(line.get_xdata().max() == 2 for line in curves)
    assert curves[0].get_ydata().min() > curves[1].get_ydata().max() - 1
    assert curves[0].get_ydata().max() - curves[1].get_ydata().max() == pytest.approx(1)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["q", "v"]


def test_every_optimizer_has_a_line_from_the_same_start():
    curves = pd.DataFrame(
        {"optimizer": ["sgd"] * 2 + ["adam"] * 2, "length": [0.0, 1.0] * 2, "loss": [2.0, 1.9, 2, 1.5]}
    )
    ax = loss_along_updates(curves, new_axes())
    assert [line.get_ydata()[0] for line in ax.lines] == [2.0, 2.0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["sgd", "adam"]
