"""How fast did algorithms progress, by the models that were published?  The augmented scaling law of Ho et al. 2024.

    L = E + exp(a_b - alpha_year t - alpha ln N) + exp(b_b - beta_year t - beta ln D),    t = year - mean year,

with L in nats/token, a and b of each benchmark. Algorithms make a model of N parameters as good as one of N exp(g_N t)
was, with g_N = alpha_year / alpha, and D tokens as good as D exp(g_D t), g_D = beta_year / beta. Effective compute
6 N D grows by g_N + g_D a year, so that the compute for a given loss halves in 12 ln 2 / (g_N + g_D) months.
(Ho, Besiroglu, Erdil, Owen, Rahman, Guo, Atkinson, Thompson, Sevilla 2024, "Algorithmic progress in language models".)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from algoprogress.analysis.runs import check_columns

# months in which the compute for a loss halves, and its 95 % interval: Ho et al. 2024, models of 2012 to 2023
HO2024_MONTHS = (8.44, 4.52, 14.27)
SLOPES = ("alpha", "beta", "alpha_year", "beta_year")
STARTS = tuple((alpha, beta, rate) for alpha in (0.05, 0.2) for beta in (0.05, 0.2) for rate in (0.0, 0.03))
LEAST_YEARS = 1.0  # of a history: over less, a trend is the noise between laboratories
FEW_RESAMPLES = 0.9  # of the resamples must be fitted, or the interval is of the lucky ones


@dataclass(frozen=True)
class Trend:
    """A fitted history.

    Attributes:
        estimate: [parameter, estimate, low, high]: alpha, beta, alpha_year, beta_year, growth_params and growth_data
            (ln per year), growth_per_year (a factor), halving_months.
        n_models, n_rows, n_resamples: what it rests on.
        residual: root mean square, in ln loss.
        span: (first, last) year.
    """

    estimate: pd.DataFrame
    n_models: int
    n_rows: int
    n_resamples: int
    residual: float
    span: tuple[float, float]
    level: float

    def value(self, parameter: str) -> tuple[float, float, float]:
        """(estimate, low, high) of a parameter."""
        row = self.estimate.set_index("parameter").loc[parameter]
        return float(row["estimate"]), float(row["low"]), float(row["high"])


def read_history(path: str | Path) -> pd.DataFrame:
    """A table of models from CSV or Parquet: year, N, D, loss or perplexity, and model, benchmark where there are any.

    Returns:
        [model, benchmark, year, n_params, tokens, loss]; a perplexity is exp(loss).
    """
    path = Path(path)
    if not path.exists() or path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"there is no table {path}: give a CSV or Parquet file with year, N, D, loss or perplexity")
    return history(pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path))


def history(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that the law needs, from a table that may call them N, D and perplexity."""
    table = table.rename(columns={"N": "n_params", "D": "tokens"})
    if "loss" not in table and "perplexity" in table:
        perplexity = pd.to_numeric(table["perplexity"], errors="coerce")
        if not (perplexity > 1).all():
            raise ValueError(
                f"A perplexity is above 1, not {table['perplexity'][~(perplexity > 1)].iloc[0]}: it is exp(loss)."
            )
        table = table.assign(loss=np.log(perplexity))
    check_columns(table, ("year", "n_params", "tokens", "loss"), "The augmented scaling law")
    models = table["model"] if "model" in table else pd.Series(range(len(table)), index=table.index)
    benchmarks = table["benchmark"] if "benchmark" in table else pd.Series("all", index=table.index)
    kept = table[["year", "n_params", "tokens", "loss"]].astype(float)
    return kept.assign(model=models.astype(str), benchmark=benchmarks.astype(str)).reset_index(drop=True)


def fit_trend(
    table: pd.DataFrame, irreducible: float = 0.0, n_resamples: int = 500, level: float = 0.95, seed: int = 0
) -> Trend:
    """Fit the law by least squares on ln loss from many starts, and again to resampled models.

    Args:
        table: as of `history`.
        irreducible: E in nats/token, below every loss. Ho et al. leave it out (0), since their data do not identify it.
        n_resamples: of whole models, whose losses on several benchmarks are alike; 0 for no interval.

    Raises:
        ValueError: too few rows or years, or losses below E.
    """
    table = history(table)
    benchmarks = sorted(table["benchmark"].unique())
    n_free = 2 * len(benchmarks) + len(SLOPES)
    if len(table) <= n_free:
        raise ValueError(
            f"{len(table)} rows can not tell {n_free} parameters: give more models, or fewer benchmarks "
            f"({len(benchmarks)} now, two parameters each)."
        )
    span = (float(table["year"].min()), float(table["year"].max()))
    if span[1] - span[0] < LEAST_YEARS:
        raise ValueError(f"The models are of {span[0]:g} to {span[1]:g}: a trend needs at least {LEAST_YEARS:g} year.")
    if not 0 <= irreducible < table["loss"].min():
        raise ValueError(
            f"The irreducible loss is at least 0 and below every loss (the lowest is {table['loss'].min():.4g}), "
            f"not {irreducible:g}."
        )
    data = _Data.of(table, benchmarks, irreducible)
    best = min((data.descend(data.start(*s)) for s in STARTS), key=lambda found: found[1])
    rng = np.random.default_rng(seed)
    drawn: list[np.ndarray] = []
    groups = [np.flatnonzero(table["model"] == m) for m in table["model"].unique()]
    for _ in range(n_resamples):
        rows = np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))])
        part = data.rows(rows)
        if len(np.unique(part.benchmark)) == len(benchmarks) and np.ptp(part.t) > 0:
            drawn.append(_quantities(part.descend(best[0])[0]))
    if n_resamples and len(drawn) < FEW_RESAMPLES * n_resamples:
        raise ValueError(
            f"Only {len(drawn)} of {n_resamples} resamples hold every benchmark: leave out benchmarks of few models."
        )
    estimates = _quantities(best[0])
    names = [*SLOPES, "growth_params", "growth_data", "rate"]
    tail = (1 - level) / 2
    ends = np.quantile(drawn, [tail, 1 - tail], axis=0) if drawn else np.full((2, len(names)), np.nan)
    found = [(n, e, lo, hi) for n, e, lo, hi in zip(names, estimates, *ends, strict=True) if n != "rate"]
    rate = (estimates[-1], ends[0, -1], ends[1, -1])
    found.append(("growth_per_year", *np.exp(rate)))
    found.append(("halving_months", _months(rate[0]), _months(rate[2]), _months(rate[1])))
    return Trend(
        estimate=pd.DataFrame(found, columns=["parameter", "estimate", "low", "high"]),
        n_models=len(groups),
        n_rows=len(table),
        n_resamples=len(drawn),
        residual=float(np.sqrt(2 * best[1] / len(table))),
        span=span,
        level=level,
    )


def _months(rate: float) -> float:
    """Months to halve the compute at a growth in ln per year; infinite where there is no progress."""
    return float(12 * np.log(2) / rate) if rate > 0 else float("nan") if np.isnan(rate) else float("inf")


def _quantities(theta: np.ndarray) -> np.ndarray:
    """alpha, beta, their years, growth of effective parameters and data, and of effective compute (ln per year)."""
    alpha, beta, by_alpha, by_beta = np.exp(theta[0]), np.exp(theta[1]), theta[2], theta[3]
    return np.array(
        [alpha, beta, by_alpha, by_beta, by_alpha / alpha, by_beta / beta, by_alpha / alpha + by_beta / beta]
    )


@dataclass(frozen=True)
class _Data:
    """The rows of a history, centred; theta = (ln alpha, ln beta, alpha_year, beta_year, a of each, b of each)."""

    t: np.ndarray
    log_n: np.ndarray
    log_d: np.ndarray
    log_loss: np.ndarray
    benchmark: np.ndarray
    n_benchmarks: int
    irreducible: float

    @classmethod
    def of(cls, table: pd.DataFrame, benchmarks: list[str], irreducible: float) -> "_Data":
        log_n, log_d = np.log(table["n_params"].to_numpy()), np.log(table["tokens"].to_numpy())
        year = table["year"].to_numpy()
        number = table["benchmark"].map({b: k for k, b in enumerate(benchmarks)}).to_numpy()
        year, log_n, log_d = (v - v.mean() for v in (year, log_n, log_d))
        return cls(year, log_n, log_d, np.log(table["loss"].to_numpy()), number, len(benchmarks), irreducible)

    def rows(self, at: np.ndarray) -> "_Data":
        t, log_n, log_d, log_loss = (v[at] for v in (self.t, self.log_n, self.log_d, self.log_loss))
        return _Data(t, log_n, log_d, log_loss, self.benchmark[at], self.n_benchmarks, self.irreducible)

    def start(self, alpha: float, beta: float, rate: float) -> np.ndarray:
        """Slopes as given, the reducible loss of each benchmark split evenly between the two terms."""
        half = [
            np.log(np.mean(np.exp(self.log_loss[self.benchmark == b]) - self.irreducible) / 2)
            for b in range(self.n_benchmarks)
        ]
        return np.array([np.log(alpha), np.log(beta), rate, rate, *half, *half])

    def terms(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = theta[4 : 4 + self.n_benchmarks][self.benchmark], theta[4 + self.n_benchmarks :][self.benchmark]
        by_n = np.exp(np.clip(a - theta[2] * self.t - np.exp(theta[0]) * self.log_n, -60, 60))
        by_d = np.exp(np.clip(b - theta[3] * self.t - np.exp(theta[1]) * self.log_d, -60, 60))
        return by_n, by_d

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        by_n, by_d = self.terms(theta)
        return np.log(self.irreducible + by_n + by_d) - self.log_loss

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        by_n, by_d = self.terms(theta)
        loss = self.irreducible + by_n + by_d
        p, q = by_n / loss, by_d / loss
        found = np.zeros((len(loss), len(theta)))
        found[:, 0], found[:, 1] = -p * np.exp(theta[0]) * self.log_n, -q * np.exp(theta[1]) * self.log_d
        found[:, 2], found[:, 3] = -p * self.t, -q * self.t
        row = np.arange(len(loss))
        found[row, 4 + self.benchmark] = p
        found[row, 4 + self.n_benchmarks + self.benchmark] = q
        return found

    def descend(self, theta: np.ndarray) -> tuple[np.ndarray, float]:
        """(theta, half the sum of squares) of the minimum near a start; slopes between e^-6 and 2 per ln."""
        from scipy.optimize import least_squares

        low, high = np.full(len(theta), -30.0), np.full(len(theta), 30.0)
        low[:2], high[:2] = -6.0, np.log(2.0)
        done = least_squares(
            self.residuals, np.clip(theta, low, high), jac=self.jacobian, bounds=(low, high), x_scale="jac"
        )
        return done.x, float(done.cost)
