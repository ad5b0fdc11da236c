"""What every law in compute alone does: fit runs of one or several arms, predict, invert, say how sure it is."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from algoprogress.analysis.fit import Solutions, minimise
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.runs import check_runs
from algoprogress.analysis.warnings import ConvergenceError, NotIdentified

Share = Mapping[str, str | Sequence[str]]
AGREE = 1e-6  # starts whose objectives differ by less than this share of the best found the same minimum
DELTA = (
    0.05  # Huber threshold in log loss: about two standard deviations of the noisiest small runs (.05 of 2 nats), so
)
# that ordinary noise is fitted by least squares and one failed rung cannot bend a curve. A choice of ours.


class LossLaw(Law):
    """A law L(C), fitted in log loss, for one arm or jointly for several.

    A subclass is one file: its parameters, `log_loss` with its Jacobian, `bounds`, `starts`, `natural`, `invert`.
    Arrays end in their axes: n points, k parameters of one arm, P columns of the joint fit, B members of a batch.

    Args:
        huber: threshold in log loss; `math.inf` is least squares.
        fixed: parameters held at a value, for example {"E": 0.0}: a law without irreducible loss.

    Attributes:
        params_: DataFrame, one row per arm, one column per parameter (loss in nats/token, compute in FLOP).
        summary: DataFrame [arm, parameter, estimate, stderr, shared, at_bound], standard errors by Gauss-Newton.
        diagnostics_: objective, gradient_norm (relative offset), condition, starts_agree, at_bound, n, n_free,
            E_interval (95 % by profile).
    """

    inputs: ClassVar[tuple[str, ...]] = ("compute",)

    def __init__(self, huber: float = DELTA, fixed: Mapping[str, float] | None = None) -> None:
        unknown = set(fixed or {}) - set(self.shareable)
        if unknown:
            raise ValueError(f"{sorted(unknown)} can not be fixed; {self.name} can fix {', '.join(self.shareable)}.")
        if not huber > 0:
            raise ValueError(f"huber is a threshold in log loss above 0, not {huber}.")
        self.huber = huber
        self.fixed = dict(fixed or {})

    # ---- what a law defines -------------------------------------------------------------------------------------

    @abstractmethod
    def log_loss(self, w_nk: np.ndarray, x_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln L and its Jacobian (..., n, k) at x = ln(C / C0), for working parameters w."""

    @abstractmethod
    def bounds(self, y_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds (..., k) of the working parameters, given the log losses of one arm (..., n)."""

    @abstractmethod
    def starts(self, x_n: np.ndarray, y_n: np.ndarray, lowest: float) -> np.ndarray:
        """Starts (S, k) for one arm; `lowest` is the lowest loss of all arms, so that shared starts are possible."""

    @abstractmethod
    def natural(self, w_k: np.ndarray, log_c0: float) -> np.ndarray:
        """Parameters in the units of `units` from working ones, (..., k) to (..., k)."""

    @abstractmethod
    def invert(self, w_k: np.ndarray, log_loss: np.ndarray) -> np.ndarray:
        """x = ln(C / C0) at which the law reaches a log loss: (..., k), (..., m) to (..., m); inf if never."""

    # ---- fitting ------------------------------------------------------------------------------------------------

    def fit(self, runs: pd.DataFrame, share: Share | None = None) -> Self:
        """Minimise the Huber function of ln L_predicted - ln L over all starts.

        Args:
            runs: rows with compute (FLOP) and loss (nats/token), and arm where there are several; for a compute-optimal
                law give `frontier(runs)`.
            share: parameters with one value for several arms: {"E": "all"}, or {"alpha": ["lstm", "modern"]}.

        Raises:
            ValueError: a column is missing, a value is not positive, there are fewer points than parameters.
            ConvergenceError: no start came to rest.
        """
        frame = runs if "arm" in runs else runs.assign(arm="all")
        check_runs(frame)
        self.arms_ = list(pd.unique(frame["arm"]))
        self.share = dict(share or {})
        log_c = np.log(frame["compute"].to_numpy(float))
        self.y_ = np.log(frame["loss"].to_numpy(float))
        self.log_c0_ = float(log_c.mean())
        self.x_ = log_c - self.log_c0_
        self._arm_of = np.array([self.arms_.index(a) for a in frame["arm"]])
        self._columns()
        self._check_enough(frame)
        theta_SP = self._all_starts()
        found = self._minimise(np.broadcast_to(self.y_, (len(theta_SP), len(self.y_))), self.x_, theta_SP)
        self._keep_best(found)
        return self

    def refit(self, log_c_Bn: np.ndarray, y_Bn: np.ndarray) -> np.ndarray:
        """The free parameters (B, P) for B resampled data sets with the same arms: log compute and log loss (B, n)."""
        few = self._all_starts()[[0, -2]]
        starts = np.concatenate([self.theta_[None], few])
        B, S = len(y_Bn), len(starts)
        found = self._minimise(np.repeat(y_Bn, S, 0), np.repeat(log_c_Bn - self.log_c0_, S, 0), np.tile(starts, (B, 1)))
        best = np.where(found.converged_B, found.objective_B, np.inf).reshape(B, S).argmin(1)
        return found.theta_BP.reshape(B, S, -1)[np.arange(B), best]

    def profile(self, parameter: str = "E", n_grid: int = 40) -> pd.DataFrame:
        """The lowest objective with one parameter held at each of a grid of values: [column, value, objective]."""
        rows = []
        lower, upper = self._bounds(self.y_[None])
        for column in np.unique(self._column_ak[:, self.shareable_index(parameter)]):
            grid = np.linspace(lower[0, column], upper[0, column] * (1 - 1e-3), n_grid)
            starts = np.tile(self.theta_, (n_grid, 1))
            starts[:, column] = grid
            lo, hi = np.tile(lower, (n_grid, 1)), np.tile(upper, (n_grid, 1))
            lo[:, column] = hi[:, column] = grid
            found = minimise(self._model(self.x_), np.tile(self.y_, (n_grid, 1)), starts, lo, hi, self.huber)
            rows.append(pd.DataFrame({"column": column, "value": grid, "objective": found.objective_B}))
        return pd.concat(rows, ignore_index=True)

    def shareable_index(self, parameter: str) -> int:
        if parameter not in self.shareable:
            raise ValueError(f"{parameter!r} can not be shared; {self.name} can share {', '.join(self.shareable)}.")
        return self.parameters.index(parameter)

    def _columns(self) -> None:
        """Number the free columns: one per arm and parameter, the same where a parameter is shared."""
        A, k = len(self.arms_), len(self.parameters)
        columns = np.arange(A * k).reshape(A, k)
        for parameter, arms in self.share.items():
            j = self.shareable_index(parameter)
            chosen = self.arms_ if isinstance(arms, str) and arms == "all" else list(arms)
            unknown = [a for a in chosen if a not in self.arms_]
            if (isinstance(arms, str) and arms != "all") or unknown:
                raise ValueError(
                    f"share[{parameter!r}] is 'all' or a list of arms among {', '.join(self.arms_)}, not {arms!r}."
                )
            rows = [self.arms_.index(a) for a in chosen]
            columns[rows, j] = columns[rows[0], j]
        self._column_ak = np.unique(columns, return_inverse=True)[1].reshape(A, k)
        self._column_nk = self._column_ak[self._arm_of]
        self._fixed_columns = {
            int(c): value
            for p, value in self.fixed.items()
            for c in np.unique(self._column_ak[:, self.parameters.index(p)])
        }
        self.n_free_ = int(self._column_ak.max()) + 1 - len(self._fixed_columns)

    def _check_enough(self, frame: pd.DataFrame) -> None:
        n = len(frame)
        if n < self.n_free_:
            raise ValueError(
                f"{n} points can not determine the {self.n_free_} parameters of {self.name} for {len(self.arms_)} "
                "arm(s); "
                "share parameters between arms, fix one, or measure more rungs of compute."
            )
        for a, arm in enumerate(self.arms_):
            own = [
                c
                for c in self._column_ak[a]
                if c not in self._fixed_columns and (self._column_ak == c).any(1).sum() == 1
            ]
            n_compute = frame.loc[frame["arm"] == arm, "compute"].nunique()
            if n_compute < len(own):
                raise ValueError(
                    f"Arm {arm!r} was measured at {n_compute} compute(s), fewer than its {len(own)} parameters of "
                    f"{self.name}; "
                    "measure more rungs, share parameters, or leave the arm out."
                )

    def _bounds(self, y_Bn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        P = int(self._column_ak.max()) + 1
        lower, upper = np.full((len(y_Bn), P), -np.inf), np.full((len(y_Bn), P), np.inf)
        for a in range(len(self.arms_)):
            lo, hi = self.bounds(y_Bn[:, self._arm_of == a])
            c = self._column_ak[a]
            lower[:, c], upper[:, c] = np.maximum(lower[:, c], lo), np.minimum(upper[:, c], hi)
        for c, value in self._fixed_columns.items():
            lower[:, c] = upper[:, c] = value
        return lower, upper

    def _all_starts(self) -> np.ndarray:
        lowest = float(np.exp(self.y_).min())
        per_arm = [
            self.starts(self.x_[self._arm_of == a], self.y_[self._arm_of == a], lowest) for a in range(len(self.arms_))
        ]
        S, P = len(per_arm[0]), int(self._column_ak.max()) + 1
        total, count = np.zeros((S, P)), np.zeros(P)
        for a, w_Sk in enumerate(per_arm):  # a shared parameter starts at the mean over its arms
            total[:, self._column_ak[a]] += w_Sk
            count[self._column_ak[a]] += 1
        return total / count

    def _model(self, x: np.ndarray):  # type: ignore[no-untyped-def]
        columns, n, k = self._column_nk, len(self.y_), len(self.parameters)
        rows = np.arange(n)[:, None].repeat(k, 1)

        def model(theta_BP: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            y, jacobian_Bnk = self.log_loss(theta_BP[:, columns], x[members] if x.ndim == 2 else x)
            jacobian = np.zeros((len(theta_BP), n, theta_BP.shape[1]))
            jacobian[:, rows, columns] = jacobian_Bnk
            return y, jacobian

        return model

    def _minimise(self, y_Bn: np.ndarray, x: np.ndarray, theta_BP: np.ndarray) -> Solutions:
        lower, upper = self._bounds(y_Bn)
        return minimise(self._model(x), y_Bn, theta_BP, lower, upper, self.huber)

    def _keep_best(self, found: Solutions) -> None:
        objective = np.where(found.converged_B, found.objective_B, np.inf)
        best = int(objective.argmin())
        if not np.isfinite(objective[best]):
            raise ConvergenceError(
                f"None of {len(objective)} starts of {self.name} came to rest (smallest relative offset "
                f"{found.offset_B.min():.1e}); look at the runs for a loss that rises with compute."
            )
        self.theta_ = found.theta_BP[best]
        tolerance = AGREE * objective[best] + 1e-18 * len(self.y_)
        w_ak = self.theta_[self._column_ak]
        natural = self.natural(w_ak, self.log_c0_)
        self.params_ = pd.DataFrame(natural, index=pd.Index(self.arms_, name="arm"), columns=list(self.parameters))
        names = {int(c): self._label(int(c)) for c in np.unique(self._column_ak)}
        self.diagnostics_: dict[str, Any] = {
            "n": len(self.y_),
            "n_free": self.n_free_,
            "objective": float(objective[best]),
            "gradient_norm": float(found.offset_B[best]),
            "n_starts": len(objective),
            "starts_agree": float((objective <= objective[best] + tolerance).mean()),
            "at_bound": [names[int(c)] for c in np.flatnonzero(found.at_bound_BP[best])],
            "iterations": found.iterations,
        }
        covariance, self.diagnostics_["condition"], self.sigma_ = self._covariance(found.at_bound_BP[best])
        self._identify()
        self.summary = self._summary(w_ak, natural, covariance, found.at_bound_BP[best])

    def _label(self, column: int) -> str:
        rows, ks = np.nonzero(self._column_ak == column)
        arms = "" if len(self.arms_) == 1 else f" of {', '.join(self.arms_[a] for a in np.unique(rows))}"
        return f"{self.parameters[ks[0]]}{arms}"

    def _covariance(self, at_bound_P: np.ndarray) -> tuple[np.ndarray, float, float]:
        y, J = self._model(self.x_)(self.theta_[None], np.zeros(1, int))
        free = np.ones(J.shape[2], bool)
        free[list(self._fixed_columns)] = False
        free &= ~at_bound_P
        H = J[0][:, free].T @ J[0][:, free]
        scale = np.sqrt(np.diag(H))
        condition = float(np.linalg.cond(H / np.outer(scale, scale)))
        n_left = len(self.y_) - self.n_free_
        sigma = float(np.sqrt(((y[0] - self.y_) ** 2).sum() / n_left)) if n_left > 0 else float("nan")
        covariance = np.full((J.shape[2],) * 2, np.nan)
        covariance[np.ix_(free, free)] = sigma**2 * np.linalg.pinv(H)
        return covariance, condition, sigma

    def _summary(
        self, w_ak: np.ndarray, natural: np.ndarray, covariance: np.ndarray, at_bound_P: np.ndarray
    ) -> pd.DataFrame:
        rows = []
        for a, arm in enumerate(self.arms_):
            c = self._column_ak[a]
            D = np.empty(
                (len(c), len(c))
            )  # d natural / d working, by central differences (exact enough for an error bar)
            for j in range(len(c)):
                h = 1e-6 * max(1.0, abs(w_ak[a, j]))
                e = h * np.eye(len(c))[j]
                D[:, j] = (self.natural(w_ak[a] + e, self.log_c0_) - self.natural(w_ak[a] - e, self.log_c0_)) / (2 * h)
            S = covariance[np.ix_(c, c)]
            known = ~np.isnan(np.diag(S))
            for j, parameter in enumerate(self.parameters):
                variance = D[j, known] @ S[np.ix_(known, known)] @ D[j, known] if known[j] else np.nan
                rows.append(
                    {
                        "arm": arm,
                        "parameter": parameter,
                        "estimate": natural[a, j],
                        "stderr": float(np.sqrt(variance)),
                        "shared": bool((self._column_ak[:, j] == c[j]).sum() > 1),
                        "at_bound": bool(at_bound_P[c[j]]),
                    }
                )
        return pd.DataFrame(rows)

    def _identify(self) -> None:
        """Profile E; warn when E = 0, or any E, fits as well by an F test at 5 %, or when the starts disagree."""
        doubts = []
        d = self.diagnostics_
        if "E" in self.parameters and "E" not in self.fixed:
            from scipy.stats import f

            n_left = len(self.y_) - self.n_free_
            profile = self.profile("E")
            allowed = d["objective"] * (1 + f.ppf(0.95, 1, n_left) / n_left) if n_left > 0 else np.inf
            inside = profile[profile["objective"] <= allowed + 1e-18 * len(self.y_)]
            d["E_interval"] = {
                self._label(int(c)): (
                    min(float(part["value"].min()), float(self.theta_[int(c)])),
                    max(float(part["value"].max()), float(self.theta_[int(c)])),
                )
                for c, part in inside.groupby("column")
            }
            for label, (low, high) in d["E_interval"].items():
                if low <= 0:
                    doubts.append(
                        f"{label} is not identified: every value from 0 to {high:.2f} nats/token fits as well"
                    )
        if d["starts_agree"] < 0.5:
            doubts.append(f"only {d['starts_agree']:.0%} of the starts found the best minimum")
        others = [b for b in d["at_bound"] if not b.startswith("E")]
        if others:
            doubts.append(f"{', '.join(others)} at a bound")
        if doubts:
            warnings.warn(
                f"{self.name}: {'; '.join(doubts)}. Gains inside the measured range hardly depend on it; slopes and "
                "extrapolations do.",
                NotIdentified,
                stacklevel=4,
            )

    # ---- using a fit --------------------------------------------------------------------------------------------

    def predict(self, compute: Any, arm: str | None = None, theta: np.ndarray | None = None) -> np.ndarray:
        """L(C) in nats/token at compute in FLOP; with resampled `theta` (B, P) the result is (B, m)."""
        w = self._w(arm, theta)
        x = np.log(np.asarray(compute, float)) - self.log_c0_
        w_mk = np.repeat(w[..., None, :], x.size, axis=-2)
        return np.exp(self.log_loss(w_mk, np.atleast_1d(x))[0]).reshape((*w.shape[:-1], *x.shape))

    def compute_for(self, loss: Any, arm: str | None = None, theta: np.ndarray | None = None) -> np.ndarray:
        """C in FLOP at which the law reaches a loss in nats/token; infinite where it never does."""
        y = np.log(np.asarray(loss, float))
        w = self._w(arm, theta)
        x = self.invert(w, np.atleast_1d(y))
        with np.errstate(over="ignore"):
            return np.exp(x + self.log_c0_).reshape((*w.shape[:-1], *y.shape))

    def frontier(self, compute: Any, arm: str | None = None) -> pd.DataFrame:
        """[compute, loss] at compute in FLOP: a law in compute is its own frontier."""
        at = np.atleast_1d(np.asarray(compute, float))
        return pd.DataFrame({"compute": at, "loss": self.predict(at, arm)})

    def compute_for_each(self, loss_B: np.ndarray, arm: str, theta_BP: np.ndarray) -> np.ndarray:
        """C (B,) at which each resampled law reaches its own loss."""
        x = self.invert(self._w(arm, theta_BP), np.log(loss_B)[:, None])
        with np.errstate(over="ignore"):  # beyond 1e308 FLOP is as good as never
            return np.exp(x[:, 0] + self.log_c0_)

    def parameters_of(self, arm: str, theta_BP: np.ndarray) -> np.ndarray:
        """Resampled parameters (B, k) of one arm, in the order and units of `parameters` and `units`."""
        return self.natural(self._w(arm, theta_BP), self.log_c0_)

    def _w(self, arm: str | None, theta: np.ndarray | None) -> np.ndarray:
        if not hasattr(self, "theta_"):
            raise ValueError(f"Fit {self.name} to runs before asking it for numbers.")
        if arm is None and len(self.arms_) == 1:
            arm = self.arms_[0]
        if arm not in self.arms_:
            raise ValueError(f"{arm!r} is not an arm of this fit; the arms are {', '.join(map(str, self.arms_))}.")
        return (self.theta_ if theta is None else theta)[..., self._column_ak[self.arms_.index(arm)]]
