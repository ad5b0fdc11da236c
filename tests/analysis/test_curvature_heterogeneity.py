"""Distances between block spectra, and the quadratics on which heterogeneity decides who wins."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from algoprogress.analysis.curvature import quadratics
from algoprogress.analysis.curvature.heterogeneity import heterogeneity, js_nats, log_spread, pair_distances
from algoprogress.analysis.curvature.quadrature import Quadrature


def at(*nodes: float) -> Quadrature:
    """A spectrum of equal weights, known from two probes."""
    theta = np.array(nodes)
    return Quadrature((theta, theta), (np.full(len(theta), 1 / len(theta)),) * 2, len(theta))


@pytest.fixture
def distributions() -> np.ndarray:
    drawn = np.random.default_rng(0).exponential(size=(3, 50))
    drawn[0, :10] = 0
    return drawn / drawn.sum(1, keepdims=True)


def test_js_is_zero_for_equals_and_ln_2_for_disjoint_ones(distributions):
    p = distributions[0]
    assert js_nats(p, p) == 0
    assert js_nats(np.append(p, 0 * p), np.append(0 * p, p)) == pytest.approx(np.log(2), abs=1e-15)


def test_js_is_symmetric_bounded_and_scipys(distributions):
    for p in distributions:
        for q in distributions:
            assert js_nats(p, q) == pytest.approx(js_nats(q, p), abs=1e-16)
            assert 0 <= js_nats(p, q) <= np.log(2)
            assert js_nats(p, q) == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-15)


def test_its_root_obeys_the_triangle_inequality(distributions):
    a, b, c = distributions
    assert np.sqrt(js_nats(a, c)) <= np.sqrt(js_nats(a, b)) + np.sqrt(js_nats(b, c))


def test_pairs_are_all_there_once_and_the_grid_sum_is_the_distance_over_the_step():
    pairs = pair_distances({"a": at(0.0), "b": at(0.0), "c": at(3.0)}, sigma=0.1, points=5001, margin=1.0)
    assert pairs[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    np.testing.assert_allclose(pairs["js_nats"], [0, np.log(2), np.log(2)], atol=1e-12)
    np.testing.assert_allclose(pairs["js_grid_sum"], pairs["js_nats"] / (5.0 / 5000))


def test_the_spread_of_largest_eigenvalues_does_not_see_the_scale_of_the_loss():
    one, other = ({"a": at(-c, 2 * c), "b": at(200 * c, 1.0 * c)} for c in (1.0, 1e-3))
    assert log_spread(one) == pytest.approx(2 / np.sqrt(2))
    assert log_spread(other) == pytest.approx(log_spread(one))
    assert log_spread({**one, "zero": at(0.0)}) == pytest.approx(log_spread(one))
    assert np.isnan(log_spread({"a": at(1.0)}))


def test_heterogeneity_is_told_with_and_without_embeddings_and_heads():
    blocks = {"q": at(1.0), "k": at(1.0), "table": at(100.0)}
    found = heterogeneity(blocks, {"q": "q", "k": "k", "table": "embedding"}, points=2000).set_index("blocks")
    assert found["n_blocks"].to_dict() == {"all": 3, "without_ends": 2}
    assert found.js_nats["all"] == pytest.approx(2 / 3 * np.log(2))
    assert found.js_nats["without_ends"] == pytest.approx(0, abs=1e-15)
    assert found.log_spread["without_ends"] == 0
    assert found.log_spread["all"] > 1
    with pytest.raises(ValueError, match=r"there is 1 \(without_ends\)"):
        heterogeneity({"q": at(1.0), "table": at(2.0)}, {"q": "q", "table": "head"}, points=100)


@pytest.fixture(scope="module")
def descents():
    return quadratics.run(seeds=8, max_steps=45_000)


def test_both_quadratics_have_the_same_eigenvalues_and_only_the_blocks_differ():
    flat = [sorted(np.ravel(spectrum)) for spectrum in quadratics.SPECTRA.values()]
    assert flat[0] == flat[1]
    rng = np.random.default_rng(0)
    for spectrum in quadratics.SPECTRA.values():
        H = quadratics.block_diagonal(spectrum, rng)
        np.testing.assert_allclose(np.linalg.eigvalsh(H), flat[0], rtol=1e-9)
        np.testing.assert_allclose(np.linalg.eigvalsh(H[:3, :3]), spectrum[0], rtol=1e-9)


def test_adam_is_far_ahead_on_heterogeneous_quadratics_and_not_on_homogeneous_ones(descents):
    steps = descents.assign(steps=descents["steps"].fillna(np.inf)).pivot(
        index=["spectrum", "seed"], columns="method", values="steps"
    )
    different, alike = steps.loc["heterogeneous"], steps.loc["homogeneous"]
    assert (different["GD"] > 10 * different["Adam"]).all()
    assert (different["GD"] / different["Adam"]).median() > 100
    assert (alike["GD"] < 10 * alike["Adam"]).all()
    assert (alike["Adam"] > alike["GD"]).sum() > len(alike) / 2
    assert (different["GD"] > 1000 * different["blockwise SGD"]).all()


def test_measured_rates_are_the_theorys(descents):
    progress = 1 - descents.set_index(["spectrum", "method"])[["theory", "measured"]]
    # a start that lies near the fast directions ends before the slow ones set the pace: never slower than the theory
    assert (progress["measured"] > 0.99 * progress["theory"]).all()
    median = progress.groupby(level=[0, 1]).median()
    np.testing.assert_allclose(median["measured"], median["theory"], rtol=0.2)
    np.testing.assert_allclose(
        median["measured"].drop("Adam", level=1), median["theory"].drop("Adam", level=1), rtol=1e-3
    )
