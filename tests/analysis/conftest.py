"""Simulated studies: laws that are known, so that every estimate can be held against the truth."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.coverage import GROWING
from algoprogress.analysis.null_study import CONSTANT
from algoprogress.analysis.published import Published
from algoprogress.analysis.simulation import simulate_runs
from algoprogress.analysis.warnings import AnalysisWarning


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


FOLDER = Path(__file__).parents[2].parent / "shared/data/fitting"


@pytest.fixture(scope="session")
def published() -> Published:
    """Runs of published studies, with known answers."""
    if not FOLDER.is_dir():
        pytest.skip("the published runs are not here: ../shared/data/fitting is no folder")
    return Published(FOLDER)
