"""Do published numbers come out?  Runs of other groups, what was published of them, and what this package says.

    python -m algoprogress.analysis.published ../shared/data/fitting

prints a row for each number. The runs are not part of the project: the folder holds extracts of those of Hoffmann et
al. 2022 as digitised by Besiroglu et al. 2024, of Porian et al. 2024, of Gadre et al. 2024, the Gemstones, the OLMo
ladder.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.fit import minimise
from algoprogress.analysis.gains import compute_equivalent_gain
from algoprogress.analysis.identifiability import doubts
from algoprogress.analysis.isoflop import isoflop, isoflop_frontier
from algoprogress.analysis.laws import laws
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.overtraining import fit_overtraining
from algoprogress.analysis.seeding import random_starts
from algoprogress.analysis.warnings import AnalysisWarning, LawsDisagree

# Besiroglu et al. 2024, the published digits of estimates and of bootstrap standard errors
HOFFMANN = {"E": "1.8172", "A": "477.8", "B": "2143.4", "alpha": "0.34731", "beta": "0.36717"}
HOFFMANN_STDERR = {"E": 0.0257, "A": 124.5, "B": 1293.0, "alpha": 0.0154, "beta": 0.0206, "a_opt": 0.020}
# Porian et al. 2024: exponents of N*(C), each recipe one correction further from that of Kaplan et al. 2020
STEPS = {
    ("base", "long", "kaplan", "kaplan", "train"): 0.835,
    ("base", "long", "kaplan", "standard", "val"): 0.707,
    ("base", "short", "kaplan", "standard", "val"): 0.602,
    ("base", "short", "chinchilla", "standard", "val"): 0.572,
    ("tuned", "short", "const", "standard", "val"): 0.497,
}
RECIPE = ["hparams", "warmup", "decay", "param_count", "val"]
AS_PORIAN: dict[str, Any] = {
    "estimator": "akima_grid",
    "resolution": 0.33,
    "window": np.inf,
    "medians": True,
    "scatter": False,
}
NOISE, DRAWS, DRAW_SEED = 0.002, 1000, 42  # nats/token between their seeds; exponents vary with the draw by .0005
# each analysis of theirs begins with that seed, and draws the noise of its recipes one after the other
ANALYSES = [
    list(STEPS),
    [(*key[:3], "attention", "train") for key in list(STEPS)[1:]],
    [("tuned", "long", "const", "kaplan", "train")],
]
# gain of the tuned recipe over the Kaplan-style one between isoFLOP minima, by compute
GAINS = {1.25e16: "7.8", 1e17: "3.0", 4e17: "1.8", 1.6e18: "1.3", 1.28e19: "1.0"}
WINDOW = 2.0  # sizes within this factor of the best: the gains of 2.25 are the same to these digits
RESTARTS = 1000


class Published:
    """The runs of published studies in a folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"{folder} is no folder: give the one with the published runs.")

    def read(self, name: str) -> pd.DataFrame:
        path = self.folder / name
        return pd.read_csv(path) if name.endswith(".csv") else pd.read_parquet(path)

    def hoffmann(self, n: int = 240) -> pd.DataFrame:
        """The points of Hoffmann et al. 2022, figure 4, as digitised by Besiroglu et al. 2024; D = C / 6N exactly."""
        runs = self.read("chinchilla_epoch_svg_245.csv").assign(tokens=lambda t: t["flops"] / 6 / t["n_params"])
        return runs[~runs["epoch_excluded_outlier"]] if n == 240 else runs

    def recipes(self) -> dict[Any, pd.DataFrame]:
        """Runs of Porian et al. 2024 on RefinedWeb by (hparams, warmup, decay, param_count, val)."""
        runs = self.read("porian_isoflop_refinedweb.csv").rename(columns={"flops": "compute"})
        return dict(iter(runs.groupby(RECIPE)))

    def porian(self) -> pd.DataFrame:
        """All recipes of Porian et al. 2024 on RefinedWeb, with standard FLOPs and validation losses."""
        runs = self.read("porian_isoflop_refinedweb.csv")
        return runs[(runs["param_count"] == "standard") & (runs["val"] == "val")].rename(columns={"flops": "compute"})

    def olmo(self) -> pd.DataFrame:
        """The last evaluation of each run of the ladder, without the reruns."""
        rows = self.read("olmo_ladder_last5evals_190M-1B.parquet")
        rows = rows.assign(loss=rows["eval/c4_en-validation/CrossEntropyLoss"])
        rows = rows[~rows["run"].str.contains("rerun")].dropna(subset="loss").reset_index(drop=True)
        return rows.loc[rows.groupby("run")["_step"].idxmax()]

    def gadre(self) -> pd.DataFrame:
        return self.read("gadre_rpj.csv").assign(loss=lambda t: t["loss_c4_val"])

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
        return self.gadre() if name.startswith("gadre") else self.olmo()

    def optima(self) -> pd.DataFrame:
        """The known optima of approach 3, by data set."""
        return self.read("expected_approach3_optima.csv").set_index("dataset")


def allocation_exponents(published: Published) -> dict[tuple[str, ...], float]:
    """The exponents of N*(C) by the method of Porian et al. 2024, and by the noise that they drew."""
    runs = published.recipes()
    found: dict[tuple[str, ...], float] = {}
    for recipes in ANALYSES:
        rng = np.random.RandomState(DRAW_SEED)
        for key in recipes:
            noise = np.concatenate([_draw(rng, len(sizes)) for _, sizes in runs[key].groupby("compute")], axis=1)
            fit = isoflop(runs[key], noise=noise, n_resamples=DRAWS, **AS_PORIAN)
            found[key] = float(fit.exponents["exponent"].iloc[0])
    return found


def _draw(rng: Any, n_sizes: int) -> np.ndarray:
    """Noise of the losses at one budget; as much again is drawn for the tokens, which are not asked for here."""
    noise: np.ndarray = NOISE * rng.normal(size=(DRAWS, n_sizes))
    rng.normal(size=(DRAWS, n_sizes))
    return noise


def recipes_compared(published: Published) -> pd.DataFrame:
    """Runs of the Kaplan-style recipe, arm "kaplan", and of the tuned one, arm "tuned"."""
    runs = published.recipes()
    arms = {"kaplan": ("base", "long", "kaplan"), "tuned": ("tuned", "short", "const")}
    return pd.concat([runs[(*key, "standard", "val")].assign(arm=arm) for arm, key in arms.items()])


def isoflop_gains(published: Published) -> pd.Series:
    """Gains of the tuned recipe between minima of parabolas through the sizes near the best, by compute in FLOP."""
    minima = isoflop_frontier(recipes_compared(published), "parabola", window=WINDOW)
    found = compute_equivalent_gain(minima, "kaplan", at_compute=list(GAINS), method="interpolated", n_resamples=0)
    return found.set_index("compute")["ceg"]


def extrapolation_errors(published: Published) -> dict[int, float]:
    """Relative errors of the law of Gadre et al. 2024, fitted to five small runs, at their two large ones, by M."""
    runs = published.gadre()
    small = runs[runs["n_params"] < 1e9]
    law = fit_overtraining(small[(small["tok_mult"] == 20) | ((small["n_params"] < 2e7) & (small["tok_mult"] == 320))])
    found = {}
    for n_params, M in ((1.4e9, 640), (6.9e9, 20)):
        run = runs[(np.log(runs["n_params"] / n_params).abs() < 0.05) & (runs["tok_mult"] == M)].iloc[0]
        found[M] = abs(float(law.predict(run["n_params"], run["tokens"])) / run["loss"] - 1)
    return found


def restarted(law: Law, n: int, seed: int) -> float:
    """The lowest objective that n random starts lead to."""
    start = random_starts(law.points_[0], n, seed)
    return float(minimise(law.huber_sum_, start, law.lower_, law.upper_, len(law.y_), law.huber).objective_B.min())


Row = tuple[str, str, str, bool]  # number, published, ours, whether it holds


def _hoffmann(published: Published) -> Iterator[Row]:
    law = laws["chinchilla"]().fit(published.hoffmann())
    estimates = law.params_.loc["all"]
    for name, digits in HOFFMANN.items():
        ours = f"{estimates[name]:.{len(digits.partition('.')[2])}f}"
        yield f"Besiroglu et al.: {name}", digits, ours, ours == digits
    stderr = law.intervals(n=4000).set_index("parameter")["stderr"]
    for name, value in HOFFMANN_STDERR.items():
        near = bool(abs(stderr[name] / value - 1) <= 0.02)
        yield f"Besiroglu et al.: standard error of {name}", f"{value:g}", f"{stderr[name]:.4g}", near


def _optima(published: Published) -> Iterator[Row]:
    for name, row in published.optima().iterrows():
        law = laws["chinchilla"](huber=row["delta"]).fit(published.data_set(str(name)))
        least = law.diagnostics_["objective"]
        lower = restarted(law, RESTARTS, seed=0) < least * (1 - 1e-9)
        said = f"{least:.11g}" + (", a random start finds less" if lower else f", {RESTARTS:,} random starts no less")
        yield (
            f"optimum of {name}",
            f"{row['huber_sum']:.11g}",
            said,
            least <= row["huber_sum"] * (1 + 1e-6) and not lower,
        )


def _olmo(published: Published) -> Iterator[Row]:
    law = laws["chinchilla"]().fit(published.olmo())
    said = [doubt for doubt in doubts(law) if doubt.startswith("E ") or "of E" in doubt]
    yield "OLMo ladder: E", "not identified", "; ".join(said) or "identified", bool(said)


def _porian(published: Published) -> Iterator[Row]:
    theirs = published.read("porian_published_exponents.csv").set_index(RECIPE)["n_exponent_weighted_median"]
    for key, ours in allocation_exponents(published).items():
        same = f"{ours:.4f}" == f"{theirs[key]:.4f}"
        printed = f" ({STEPS[key]:g} in print)" if key in STEPS else ""
        yield f"Porian et al.: a of {'/'.join(key)}", f"{theirs[key]:.4f}{printed}", f"{ours:.4f}", same


def _gadre(published: Published) -> Iterator[Row]:
    for (M, ours), digits in zip(extrapolation_errors(published).items(), ("0.7103%", "0.7320%"), strict=True):
        yield f"Gadre et al.: error at M = {M}", digits, f"{ours:.4%}", f"{ours:.4%}" == digits


def _gains(published: Published) -> Iterator[Row]:
    for (compute, digits), ours in zip(GAINS.items(), isoflop_gains(published), strict=True):
        yield f"gain of the tuned recipe at {compute:.3g} FLOP", digits, f"{ours:.2f}", f"{ours:.1f}" == digits
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = compute_equivalent_gain(
            recipes_compared(published), "kaplan", at_compute=2e19, law="chinchilla", n_resamples=200
        )
    law = found[found["method"] == "law"].iloc[0]
    disagrees = any(issubclass(w.category, LawsDisagree) for w in caught)
    said = f"{law['ceg']:.2f} [{law['ceg_low']:.2f}, {law['ceg_high']:.2f}]" + ", LawsDisagree" * disagrees
    yield "gain by approach 3 at 2e19 FLOP", "0.24 [0.15, 0.41]", said, disagrees and f"{law['ceg']:.2f}" == "0.24"


CHECKS: dict[str, Callable[[Published], Iterator[Row]]] = {
    "hoffmann": _hoffmann,
    "porian": _porian,
    "gadre": _gadre,
    "gains": _gains,
    "olmo": _olmo,
    "optima": _optima,
}


def compared(folder: Path | str, checks: Sequence[str] | None = None) -> pd.DataFrame:
    """[number, published, ours, holds]: one row for each published number.

    Raises:
        ValueError: there is no such folder, or no such check.
    """
    published = Published(folder)
    if unknown := set(checks or ()) - set(CHECKS):
        raise ValueError(f"There is no check {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)
        rows = [row for name in checks or CHECKS for row in CHECKS[name](published)]
    return pd.DataFrame(rows, columns=["number", "published", "ours", "holds"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a number does not come out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="with the published runs")
    parser.add_argument("--check", action="append", help="one or several of: " + ", ".join(CHECKS))
    given = parser.parse_args(arguments)
    try:
        table = compared(given.folder, given.check)
    except ValueError as error:
        parser.error(str(error))
    print(table.to_string(index=False))
    return int(not table["holds"].all())


if __name__ == "__main__":
    raise SystemExit(main())
