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
from algoprogress.results import Store


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


ODD = 'rotary <b>& "co"'  # an arm whose name a page, a file and a figure could stumble over


def publish(store: Store, make_run, arm: str, gain: float, budgets=(1e11, 1e12, 1e13)) -> list[dict]:
    """Runs of an arm whose loss is 1 + 60 (gain C)^-0.15, at three rates each, the middle one best, with two seeds."""
    members = []
    for k, compute in enumerate(budgets):
        for rate, penalty in ((0.003, 0.05), (0.01, 0.0), (0.03, 0.08)):
            for seed in (0, 1):
                noise = 0.004 * np.random.default_rng([k, seed, int(1e4 * rate)]).standard_normal()
                loss = (1 + 60 * (gain * compute) ** -0.15 + penalty) * np.exp(noise)
                record, curve = make_run(
                    architecture={"name": arm, "width": 32 * 2**k},
                    learning_rate=rate,
                    seed=seed,
                    compute=compute,
                    loss=loss,
                )
                store.publish(record, curve)
                members.append({"run_id": record["run_id"], "compute_budget": compute})
    return members


@pytest.fixture(scope="session")
def small_store(tmp_path_factory, make_run) -> Store:
    """Three studies: one to conclude from, one whose run diverged, one whose runs are not there; and a loose run."""
    there = Store(tmp_path_factory.mktemp("store"))
    arms = {"lstm": publish(there, make_run, "lstm", 1.0), ODD: publish(there, make_run, "transformer", 3.0)}
    question = "Does <script>alert(1)</script> pay?"
    there.save_study({"name": "swap", "question": question, "baseline": "lstm", "arms": arms, "differences": {}})
    bad, curve = make_run(architecture="gru", status="diverged", loss=9.0, epochs_seen=2.5)
    there.publish(bad, curve)
    lost = {"gru": [{"run_id": bad["run_id"], "compute_budget": None}]}
    there.save_study({"name": "lost", "question": "?", "baseline": "gru", "arms": lost, "differences": {}})
    none = {"name": "none", "question": "?", "baseline": "a", "arms": {"a": [{"run_id": "0" * 20}]}, "differences": {}}
    there.save_study(none)
    there.publish(*make_run(architecture="loose"))
    return there


@pytest.fixture(scope="session")
def site(small_store, tmp_path_factory) -> Path:
    from algoprogress.analysis.site import write_site

    out = tmp_path_factory.mktemp("site")
    mine = tmp_path_factory.mktemp("account") / "mine.csv"
    mine.write_text("key,innovation,year,multiplier,low,high\nmoe,dense -> MoE,2022,2,1.5,3\n", encoding="utf-8")
    write_site(small_store, out, accounts=[str(mine)], n_resamples=60)
    return out


FOLDER = Path(__file__).parents[2].parent / "shared/data/fitting"


@pytest.fixture(scope="session")
def published() -> Published:
    """Runs of published studies, with known answers."""
    if not FOLDER.is_dir():
        pytest.skip("the published runs are not here: ../shared/data/fitting is no folder")
    return Published(FOLDER)
