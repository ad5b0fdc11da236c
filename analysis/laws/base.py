"""What every law does: fit runs of one arm or jointly of several, predict, invert, say how sure it is."""

import warnings
from typing import Any, Self

import numpy as np
import pandas as pd

from algoprogress.analysis import identifiability, likelihood, objective, profiles
from algoprogress.analysis.checks import check_design, warn_of_repeats
from algoprogress.analysis.fit import CONVERGED
from algoprogress.analysis.intervals import intervals
from algoprogress.analysis.laws.definition import Definition
from algoprogress.analysis.objective import HuberSum
from algoprogress.analysis.search import best_minimum, refitted
from algoprogress.analysis.sharing import Share, Sharing
from algoprogress.analysis.warnings import ConvergenceError, NotIdentified


class Law(Definition):
    """A law fitted in log loss by the sum of Huber's function of ln L_hat - ln L, for one arm or jointly for several.

    Attributes:
        params_: DataFrame, one row per arm, one column per parameter.
        summary: DataFrame [arm, parameter, estimate, stderr, shared, at_bound], standard errors by
            `stderr_method`, 0 for what is fixed and nan for what is at a bound.
        diagnostics_: n, n_free, objective, gradient_norm (relative offset), condition, n_starts, starts_agree,
            at_bound, iterations, n_inside_delta; for laws with E also E_interval {label: (low, high)}, 95 % by profile.
        theta_: the free working parameters (P,).
        resamples_: after `intervals` by resampling, the parameters of each resample: [arm, parameters, derived].
    """

    params_: pd.DataFrame
    summary: pd.DataFrame
    diagnostics_: dict[str, Any]
    resamples_: pd.DataFrame
    theta_: np.ndarray
    start_SP_: np.ndarray
    profiles_: dict[int, profiles.ColumnProfile]
    sigma_: float
    share: Any

    # ---- fitting ------------------------------------------------------------------------------------------------

    def fit(self, runs: pd.DataFrame, share: Share | None = None) -> Self:
        """Minimise over many starts, annealing the Huber threshold, with exact Newton steps.

        Args:
            runs: rows with `inputs` and loss (nats/token), and arm where there are several. For a law in compute give
                `frontier(runs)`.
            share: parameters with one value for several arms: {"E": "all"}, or {"alpha": ["lstm", "modern"]}. With
                {"E": "all", "alpha": "all", "beta": "all"} arms differ in their efficiency in size and in data, as in
                arXiv 2602.07712; with "rescaled" in one compute multiplier only: the best loss of an arm at C is that
                of the first arm at kappa C, all else shared. `summary` then gives kappa.

        Raises:
            ValueError: a column is missing, a value is not positive, or the design can not tell the terms apart.
            ConvergenceError: no start came to rest, and not because the minimum is a flat valley.
        """
        frame = check_design(self, runs)
        warn_of_repeats(frame, self.inputs)
        self.arms_ = list(pd.unique(frame["arm"]))
        self.runs_, self.share = frame, share if isinstance(share, str) else dict(share or {})
        logs = [np.log(frame[c].to_numpy(float)) for c in self.inputs]
        log_loss = np.log(frame["loss"].to_numpy(float))
        self.center_, self.log_l0_ = self.centers(logs), float(log_loss.mean())
        fixed = {p: self.to_working(p, v) for p, v in self.fixed.items()}
        self.sharing_ = Sharing.of(
            self.arms_, self.parameters, self.shareable, self.rescaled, self.tied, fixed, share, self.name
        )
        self.n_free_ = self.sharing_.n_free
        arm = frame["arm"].to_numpy()
        self.rows_ = [np.flatnonzero(arm == a) for a in self.arms_]
        self.x_ = tuple(values - center for values, center in zip(logs, self.center_, strict=True))
        self.y_ = log_loss - self.log_l0_
        self.points_ = [self.points(tuple(v[r] for v in self.x_), self.y_[r]) for r in self.rows_]
        identifiability.check_enough(self)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of starts far off; the end is checked
            said = self._solve()
        if said:
            warnings.warn(f"{self.name}: {'; '.join(said)}.", NotIdentified, stacklevel=2)
        return self

    def _solve(self) -> list[str]:
        """Search, tabulate, and say what is doubtful."""
        self.lower_, self.upper_ = self.joint_bounds(self.points_)
        self.huber_sum_ = self.sum_over(self.points_)
        found = best_minimum(self)
        self.theta_, self.profiles_ = found.theta, found.profiles
        self.diagnostics_ = identifiability.diagnostics(self, found)
        self._tabulate(found.at_bound)
        if self.diagnostics_["gradient_norm"] > CONVERGED and not identifiability.is_flat(self):
            raise ConvergenceError(
                f"None of {self.diagnostics_['n_starts']} starts of {self.name} came to rest (smallest relative offset "
                f"{self.diagnostics_['gradient_norm']:.1e}); look at the runs for a loss that rises with compute, size "
                "or data."
            )
        if not np.isfinite(self.params_.to_numpy()).all():
            raise ConvergenceError(
                f"The best {self.name} has a parameter beyond the range of numbers: the loss hardly falls with "
                f"{' or '.join(self.inputs)}; look at the runs, or fix a parameter."
            )
        return identifiability.doubts(self)

    def joint_bounds(self, points: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of theta, (P,), or (B, P) where members have outcomes of their own."""
        each = [self.bounds(p) for p in points]
        return self.sharing_.bounds(*(np.stack([pair[i] for pair in each], -2) for i in (0, 1)))

    def sum_over(self, points: list[Any], weight_Bn: np.ndarray | None = None) -> HuberSum:
        """What is minimised, for the points of each arm."""
        s = self.sharing_
        return HuberSum(self.sums, points, s.map_akP, s.offset_ak, self.rows_, weight_Bn)

    def refit(self, weight_Bn: np.ndarray | None = None, y_Bn: np.ndarray | None = None) -> np.ndarray:
        """Free parameters (B, P) refitted to resamples of the rows of `runs_`, from the estimate.

        Args:
            weight_Bn: how often each row counts in each resample.
            y_Bn: other log losses (nats/token) of the rows.
        """
        self._fitted()
        points = self.points_
        if y_Bn is not None:
            y = y_Bn - self.log_l0_
            points = [objective.with_outcomes(p, y[:, r]) for p, r in zip(points, self.rows_, strict=True)]
        return refitted(self, points, weight_Bn, len(y_Bn) if weight_Bn is None else len(weight_Bn))  # type: ignore[arg-type]

    # ---- how sure -----------------------------------------------------------------------------------------------

    def quantities(self, a: int, theta: np.ndarray) -> np.ndarray:
        """Parameters, derived quantities and, for rescaled arms, kappa (..., m) of arm number a."""
        w = self.sharing_.working(theta, a)
        natural = self.natural(w)
        parts = [natural, self.derive(natural)]
        if self.sharing_.is_rescaled:
            parts.append(np.exp(self.log_multiplier(w, self.sharing_.working(theta, 0)))[..., None])
        return np.concatenate(parts, -1)

    @property
    def quantity_names(self) -> list[str]:
        return [*self.parameters, *self.derived, *(["kappa"] if self.sharing_.is_rescaled else [])]

    def slopes(self, a: int) -> np.ndarray:
        """d quantities / d theta (m, P) at the estimate, by central differences (exact enough for an error bar)."""
        h = 1e-6 * np.maximum(1.0, np.abs(self.theta_))
        above, below = (self.quantities(a, self.theta_ + s * np.diag(h)) for s in (1, -1))
        return ((above - below) / (2 * h[:, None])).T

    def _tabulate(self, at_bound: np.ndarray) -> None:
        s, names, k = self.sharing_, self.quantity_names, len(self.parameters)
        values = np.stack([self.quantities(a, self.theta_) for a in range(len(self.arms_))])
        self.params_ = pd.DataFrame(
            values[:, :k], index=pd.Index(self.arms_, name="arm"), columns=list(self.parameters)
        )
        self.covariance_ = identifiability.covariance(self, at_bound)
        parts = []
        for a, arm in enumerate(self.arms_):
            D = self.slopes(a)
            with np.errstate(invalid="ignore"):
                stderr = np.sqrt(np.maximum(np.einsum("mp,pq,mq->m", D, self.covariance_, D), 0.0))
            held = [bool(c >= 0 and at_bound[c]) for c in s.column_ak[a]]
            rests = (np.abs(D[:, at_bound]) > 0).any(1) if at_bound.any() else np.zeros(len(D), bool)
            bound = np.concatenate([held, rests[k:]])
            shared = [s.is_shared(a, j) for j in range(k)] + [False] * (len(names) - k)
            parts.append(
                pd.DataFrame(
                    {
                        "arm": arm,
                        "parameter": names,
                        "estimate": values[a],
                        "stderr": np.where(bound, np.nan, stderr),
                        "shared": shared,
                        "at_bound": bound,
                    }
                )
            )
        self.summary = pd.concat(parts, ignore_index=True)

    def profile(self, parameter: str, arm: str | None = None, n_grid: int = 41, level: float = 0.95) -> pd.DataFrame:
        """The least objective with one parameter, or derived quantity, held at each of a grid of values.

        Returns:
            [arm, parameter, value, objective, statistic, threshold, estimate], for a profile plot: values whose
            statistic is at most the threshold are inside the interval of that level (see `profiles`).
        """
        return profiles.profile(self, parameter, self._arm(arm), n_grid, level)

    def intervals(
        self,
        method: str = "pairs",
        cluster: str | None = None,
        level: float = 0.95,
        n: int = 4000,
        seed: int = 42,
    ) -> pd.DataFrame:
        """[arm, parameter, estimate, stderr, low, high, method, level, n_resamples]: see `analysis.intervals`."""
        self._fitted()
        return intervals(self, method, cluster, level, n, seed)

    @property
    def aic(self) -> float:
        """Akaike's criterion in log loss: see `analysis.likelihood` for what it means under Huber's function."""
        return likelihood.criteria(self)["aic"]

    @property
    def aicc(self) -> float:
        """Akaike's criterion for few points (Hurvich and Tsai 1989)."""
        return likelihood.criteria(self)["aicc"]

    @property
    def bic(self) -> float:
        """Schwarz's criterion."""
        return likelihood.criteria(self)["bic"]

    # ---- using a fit --------------------------------------------------------------------------------------------

    def predict(self, *inputs: Any, arm: str | None = None, theta: np.ndarray | None = None) -> np.ndarray:
        """Loss in nats/token at values of `inputs`; with resampled `theta` (B, P) the result is (B, ...)."""
        w = self._w(arm, theta)
        values = np.broadcast_arrays(*(np.asarray(v, float) for v in inputs))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            x = [np.log(v).ravel() - c for v, c in zip(values, self.center_, strict=True)]
            y = self.log_loss(np.atleast_2d(w), *x)[0]
            return np.exp(y + self.log_l0_).reshape((*w.shape[:-1], *values[0].shape))

    def best_loss(self, compute: Any, arm: str | None = None, theta: np.ndarray | None = None) -> np.ndarray:
        """Loss in nats/token of the best allocation at compute in FLOP; (B, ...) with resampled `theta`."""
        w, at = self._w(arm, theta), np.asarray(compute, float)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            y = self._best(np.atleast_2d(w), np.log(at).ravel() - self.log_c0())
        return np.exp(y + self.log_l0_).reshape((*w.shape[:-1], *at.shape))

    def compute_for(self, loss: Any, arm: str | None = None, theta: np.ndarray | None = None) -> np.ndarray:
        """The least compute in FLOP that reaches a loss in nats/token; infinite where none does."""
        w, at = self._w(arm, theta), np.asarray(loss, float)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            x = self.invert(np.atleast_2d(w), np.log(at).ravel() - self.log_l0_)
            return np.exp(x + self.log_c0()).reshape((*w.shape[:-1], *at.shape))

    def compute_for_each(self, loss_B: np.ndarray, arm: str | None, theta_BP: np.ndarray) -> np.ndarray:
        """Compute (B,) in FLOP at which each resampled law reaches its own loss."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # beyond 1e308 FLOP is as good as never
            x = self.invert(self._w(arm, theta_BP), (np.log(loss_B) - self.log_l0_)[:, None])
            return np.exp(x[:, 0] + self.log_c0())

    def frontier(self, compute: Any, arm: str | None = None) -> pd.DataFrame:
        """[compute, *inputs, loss]: the best loss at each compute in FLOP, and how it is reached."""
        w, at = self._w(arm, None), np.atleast_1d(np.asarray(compute, float))
        x = self.allocate(w[None], np.log(at) - self.log_c0())
        table = {"compute": at} | {
            c: np.exp(v[0] + center) for c, v, center in zip(self.inputs, x, self.center_, strict=True)
        }
        return pd.DataFrame(table | {"compute": at, "loss": self.best_loss(at, arm)})

    def parameters_of(self, arm: str | None, theta_BP: np.ndarray) -> np.ndarray:
        """Resampled parameters (B, k) of one arm, in the order and units of `parameters` and `units`."""
        return self.natural(self._w(arm, theta_BP))

    def _best(self, w: np.ndarray, log_c: np.ndarray) -> np.ndarray:
        return self.log_loss(w, *self.allocate(w, log_c))[0]

    def _fitted(self) -> None:
        if not hasattr(self, "theta_"):
            raise ValueError(f"Fit {self.name} to runs before asking it for numbers.")

    def _arm(self, arm: str | None) -> int:
        """Number of an arm, which need not be named where there is one."""
        self._fitted()
        if arm is None and len(self.arms_) == 1:
            return 0
        if arm not in self.arms_:
            raise ValueError(f"{arm!r} is not an arm of this fit; the arms are {', '.join(map(str, self.arms_))}.")
        return self.arms_.index(arm)

    def _w(self, arm: str | None, theta: np.ndarray | None) -> np.ndarray:
        a = self._arm(arm)
        return self.sharing_.working(self.theta_ if theta is None else theta, a)
