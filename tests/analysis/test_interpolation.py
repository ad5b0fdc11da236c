from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprogress.analysis.interpolation import Interpolant

losses = st.lists(st.floats(1.0, 3.0), min_size=2, max_size=6)


@given(losses, st.floats(1.0, 3.0))
def test_the_compute_for_a_loss_has_that_loss(measured, loss):
    line = Interpolant.through(np.arange(len(measured)) * 1.1, np.array(measured))
    log_c, censored = line.log_c_for(loss)
    if not censored and np.isfinite(log_c):
        assert line.loss_at(log_c) == pytest.approx(loss, abs=1e-6)


@given(losses)
def test_a_lower_loss_never_takes_less_compute(measured):
    line = Interpolant.through(np.arange(len(measured)) * 1.1, np.array(measured))
    taken = [line.log_c_for(x)[0] for x in np.linspace(3, 1, 30)]
    assert all(b >= a - 1e-9 for a, b in pairwise(taken))


def test_one_point_knows_its_own_loss_alone():
    line = Interpolant.through(np.array([2.0]), np.array([1.5]))
    assert line.log_c_for(1.5) == (2.0, "")
    assert line.log_c_for(1.4)[1] == ">"
    assert line.log_c_for(1.6)[1] == "<"
