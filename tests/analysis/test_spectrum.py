"""The numbers that describe a weight matrix, on matrices whose numbers are known."""

import math

import numpy as np
import pytest
from scipy.stats import entropy, ortho_group

from algoprogress.analysis.phases import phases
from algoprogress.analysis.spectrum import hyperspherical_energy, orthogonality_error, spectrum_drift, svd_entropy

RNG = np.random.default_rng(0)


def test_equal_singular_values_have_entropy_one_and_a_single_one_zero():
    assert svd_entropy(np.full(7, 3.0)) == pytest.approx(1)
    assert svd_entropy([2.0, 0, 0]) == 0


def test_the_entropy_is_scipys_of_the_squares():
    s = RNG.random(9)
    assert svd_entropy(s) == pytest.approx(entropy(s**2) / math.log(9), rel=1e-12)
    assert svd_entropy(5 * s) == pytest.approx(svd_entropy(s), rel=1e-12)


def test_drift_is_the_largest_change_as_a_part_of_the_largest_singular_value():
    assert spectrum_drift([4, 2, 1], [1, 2, 4]) == 0
    assert spectrum_drift([4, 2, 0.6], [4, 2, 1]) == pytest.approx(0.1)
    s = np.linalg.svd(RNG.standard_normal((6, 4)), compute_uv=False)
    assert spectrum_drift(s, s) == 0


def test_the_orthogonality_error_of_a_scaled_rotation():
    R = ortho_group.rvs(5, random_state=1)
    assert orthogonality_error(R) < 1e-14
    assert orthogonality_error(1.1 * R) == pytest.approx(0.21)


def test_the_energy_of_a_simplex_of_opposite_and_of_equal_neurons():
    corners = np.eye(4) - 1 / 4  # distance (2 + 2 / 3)^(1/2) between unit vectors at cosine -1/3
    assert hyperspherical_energy(corners) == pytest.approx((8 / 3) ** -0.5)
    assert hyperspherical_energy([[1, 0], [-3, 0]]) == pytest.approx(0.5)
    assert hyperspherical_energy([[1, 0], [2, 0]]) == math.inf


def test_the_energy_is_that_of_the_directions_and_does_not_see_a_rotation_of_the_inputs():
    W, P = RNG.standard_normal((6, 4)), ortho_group.rvs(4, random_state=2)
    assert hyperspherical_energy(W @ P) == pytest.approx(hyperspherical_energy(W), rel=1e-12)
    assert hyperspherical_energy(W * RNG.uniform(1, 9, (6, 1))) == pytest.approx(hyperspherical_energy(W), rel=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: svd_entropy([1.0]), "2 or more singular values, not 1"),
        (lambda: svd_entropy([0.0, 0.0]), "not all 0"),
        (lambda: svd_entropy([1.0, -1.0]), "0 or more"),
        (lambda: svd_entropy([1.0, math.nan]), "finite"),
        (lambda: spectrum_drift([1.0, 2], [1.0]), "2 singular values cannot be compared with 1"),
        (lambda: orthogonality_error(np.ones((2, 3))), r"not one of shape \(2, 3\)"),
        (lambda: hyperspherical_energy(np.zeros((2, 3))), "none of them zero"),
    ],
)
def test_what_has_no_such_number_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def history(settles: float, rests: float, steps: int = 1000, every: int = 10, cone: float = 0.6):
    """A cosine that falls in a line to the cone, and a turning that is constant until it comes to rest."""
    t = np.arange(0, steps + 1, every, dtype=float)
    return t, 1 - (1 - cone) * np.minimum(t / settles, 1), np.where(t < rests, 1e-3, 2e-4)


@pytest.mark.parametrize(("settles", "rests"), [(100, 700), (300, 600), (50, 950)])
def test_the_dates_of_the_phases_are_recovered(settles, rests):
    found = phases(*history(settles, rests))
    assert (found.settled, found.at_rest) == (settles, rests)
    assert found.cone == pytest.approx(0.6, abs=0.01)


def test_dates_are_recovered_under_noise():
    t, cosine, turn = history(200, 700)
    noisy = phases(t, cosine + 0.005 * RNG.standard_normal(len(t)), turn * RNG.uniform(0.8, 1.2, len(t)))
    assert noisy.settled == pytest.approx(200, abs=20)
    assert noisy.at_rest == pytest.approx(700, abs=20)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda t, c, a: (t, np.ones_like(c), 0 * a), "nothing has turned"),
        (lambda t, c, a: (t, 1 - t / t[-1], a), "there is no cone to settle on yet; train longer"),
        (lambda t, c, a: (t, c, np.ones_like(a)), "still turns at step 1000: let the rate decay"),
        (lambda t, c, a: (t[:4], c[:4], a[:4]), "8 or more steps .*, not 4: look more often"),
        (lambda t, c, a: (t[::-1], c, a), "steps must rise"),
        (lambda t, c, a: (t, c * np.nan, a), "finite"),
    ],
)
def test_phases_that_are_not_there_are_not_found(changed, message):
    with pytest.raises(ValueError, match=message):
        phases(*changed(*history(100, 700)))
