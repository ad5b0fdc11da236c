"""Simulated studies: laws that are known, so that every estimate can be held against the truth."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.coverage import GROWING
from algoprogress.analysis.null_study import CONSTANT
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


class Published:
    """Runs of published studies, with known answers."""

    def read(self, name: str) -> pd.DataFrame:
        return pd.read_csv(FOLDER / name) if name.endswith(".csv") else pd.read_parquet(FOLDER / name)

    def hoffmann(self, n: int = 240) -> pd.DataFrame:
        """The points of Hoffmann et al. 2022, figure 4, as digitised by Besiroglu et al. 2024; D = C / 6N exactly."""
        runs = self.read("chinchilla_epoch_svg_245.csv").assign(tokens=lambda t: t["flops"] / 6 / t["n_params"])
        return runs[~runs["epoch_excluded_outlier"]] if n == 240 else runs

    def porian(self) -> pd.DataFrame:
        runs = self.read("porian_isoflop_refinedweb.csv")
        return runs[(runs["param_count"] == "standard") & (runs["val"] == "val")].rename(columns={"flops": "compute"})

    def olmo(self) -> pd.DataFrame:
        """The last evaluation of each run of the ladder, without the reruns."""
        rows = self.read("olmo_ladder_last5evals_190M-1B.parquet")
        rows = rows.assign(loss=rows["eval/c4_en-validation/CrossEntropyLoss"])
        rows = rows[~rows["run"].str.contains("rerun")].dropna(subset="loss").reset_index(drop=True)
        return rows.loc[rows.groupby("run")["_step"].idxmax()]

    def data_set(self, name: str) -> pd.DataFrame:
        """The runs of a row of expected_approach3_optima.csv."""
        if name.startswith("chinchilla_epoch"):
            return self.hoffmann(int(name[-3:]))
        if name.startswith("chinchilla_kyotakano"):
            return self.read("chinchilla_kyotakano_234.csv")
        if name.startswith("gemstones"):
            rows = self.read("gemstones_hot_slim.csv")
            return rows[rows["subset"] == name.removeprefix("gemstones_").rsplit("_d", 1)[0]]
        if name.startswith("porian_rw_"):
            rows = self.porian()
            return rows[rows["hparams"] + "_" + rows["warmup"] + "_" + rows["decay"] == name.removeprefix("porian_rw_")]
        if name.startswith("gadre"):
            return self.read("gadre_rpj.csv").assign(loss=lambda t: t["loss_c4_val"])
        return self.olmo()


@pytest.fixture(scope="session")
def published() -> Published:
    if not FOLDER.is_dir():
        pytest.skip("the published runs are not here: ../shared/data/fitting is no folder")
    return Published()
