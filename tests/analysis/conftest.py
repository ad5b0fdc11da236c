"""Simulated studies: laws that are known, so that every estimate can be held against the truth."""

import warnings

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.simulation import simulate_runs
from algoprogress.analysis.warnings import AnalysisWarning

# The arm's exponent is larger than the baseline's: gains grow as C^(0.165 / 0.14 - 1).
GROWING = {"lstm": (0.6, 60.0, 0.14), "modern": (0.6, 115.0, 0.165), "retro": (0.6, 60.0, 0.142)}
# One exponent: a gain of 1.6 (and 1.2) at every compute.
CONSTANT = {
    "lstm": (0.6, 60.0, 0.14),
    "modern": (0.6, 60.0 * 1.6**-0.14, 0.14),
    "retro": (0.6, 60.0 * 1.2**-0.14, 0.14),
}


@pytest.fixture(autouse=True)
def _quiet():
    """Doubts are expected of small studies; tests of the warnings themselves ask for them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)
        yield


@pytest.fixture(scope="session")
def growing() -> dict:
    return GROWING


@pytest.fixture(scope="session")
def constant() -> dict:
    return CONSTANT


@pytest.fixture(scope="session")
def true_gain():
    """CEG of an arm over lstm at compute C, from the laws."""

    def gain(laws: dict, arm: str, compute: float) -> float:
        E0, A0, alpha0 = laws["lstm"]
        E, A, alpha = laws[arm]
        return ((E + A * compute**-alpha - E0) / A0) ** (-1 / alpha0) / compute

    return gain


@pytest.fixture(scope="session")
def noisy_runs() -> pd.DataFrame:
    return simulate_runs(GROWING, noise=0.04, noise_exponent=0.3, seed=3)


@pytest.fixture(scope="session")
def study() -> dict:
    return {
        "name": "demo <script>alert(1)</script> & more",
        "question": "Does the gain of a Transformer over an LSTM depend on compute?",
        "baseline": "lstm",
        "arms": {"lstm": [], "retro": [], "modern": []},
        "differences": {"modern": {"architecture.name": {"baseline": ["lstm"], "arm": ["transformer"]}}},
    }


@pytest.fixture(scope="session")
def curves(noisy_runs) -> pd.DataFrame:
    parts = []
    for run in noisy_runs.itertuples():
        compute = np.geomspace(run.compute / 100, run.compute, 12)
        parts.append(
            pd.DataFrame({"run_id": run.run_id, "compute": compute, "loss": run.loss + (compute[0] / compute) ** 0.5})
        )
    return pd.concat(parts, ignore_index=True)
