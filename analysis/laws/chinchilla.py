"""How does the loss depend on size and on data?  L(N, D) = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022)."""

import warnings
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from algoprogress.analysis import loghuber
from algoprogress.analysis.fit import CONVERGED
from algoprogress.analysis.identifiability import doubts_of, profile_E, sandwich, wald_or_profile
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.loghuber import ALPHA, BETA, E, Points, a, b
from algoprogress.analysis.resampling import cluster_labels, clusters, pairs
from algoprogress.analysis.runs import check_sizes
from algoprogress.analysis.seeding import minimise_from, starts
from algoprogress.analysis.warnings import ConvergenceError, FewSeeds, NotIdentified

DELTA = 1e-3  # Huber threshold in log loss of Hoffmann et al. 2022; nearly least absolute deviations
AGREE = 1e-6  # starts whose objectives differ by less than this share of the best found the same minimum
THINNED = 5000  # runs that starts are chosen on: more do not move a start
FEW_CLUSTERS = 10  # with fewer, an interval by resampling clusters is known to be too short (Cameron et al. 2008)
REFITTED = 1e-5  # relative offset at which a refit is done: its objective is then within 1e-10 of the minimum
CHECKED = 50  # one resample in this many is also fitted through the annealing, to see that both find one minimum


class Chinchilla(Law):
    """L(N, D) = E + A N^-alpha + B D^-beta, by the sum of Huber's function of ln L_hat - ln L.

    With C = 6 N D the best N is G (C/6)^a_opt, a_opt = beta / (alpha + beta), G = (alpha A / beta B)^(1 / (alpha +
    beta)), and L - E falls as C^-(alpha beta / (alpha + beta)).

    Args:
        huber: threshold in log loss; 1e-3 as Hoffmann et al., `math.inf` for least squares.

    Attributes:
        params_, summary, diagnostics_: see `Law`; `summary` also has a_opt, standard errors by the sandwich formula.
        diagnostics_: also n_starts, E_interval (95 % by profile), iterations.
        resamples_: DataFrame of the parameters refitted to each resample, after `intervals`.
    """

    name = "chinchilla"
    inputs = ("n_params", "tokens")
    parameters = ("E", "A", "B", "alpha", "beta")
    units = ("nats/token", "nats/token n_params^alpha", "nats/token tokens^beta", "", "")
    derived = ("a_opt",)
    stderr_method = "sandwich"
    tie: ClassVar[np.ndarray | None] = None  # theta = tie @ free parameters

    def __init__(self, huber: float = DELTA) -> None:
        if not huber > 0:
            raise ValueError(f"huber is a threshold in log loss above 0, not {huber}.")
        self.huber = min(float(huber), 1e3)  # residuals in log loss are never that large: least squares

    # ---- fitting ------------------------------------------------------------------------------------------------

    def fit(self, runs: pd.DataFrame) -> Self:
        """Minimise over starts by variable projection (`seeding`) with exact Newton steps (`loghuber`).

        Args:
            runs: rows of one arm with n_params, tokens, loss (nats/token).

        Raises:
            ValueError: a column is missing, a value is not positive, or the design can not tell the terms apart.
            ConvergenceError: no start came to rest, and not because the minimum is a flat valley.
        """
        arms = pd.unique(runs["arm"]) if "arm" in runs else ["all"]
        if len(arms) > 1:
            raise ValueError(f"{self.name} is fitted to one arm at a time; there are {', '.join(map(str, arms))}.")
        self.n_free_ = 5 if self.tie is None else self.tie.shape[1]
        check_sizes(runs, self.n_free_, self.name)
        frame = runs if "compute" in runs else runs.assign(compute=6.0 * runs["n_params"] * runs["tokens"])
        self.runs_ = frame.reset_index(drop=True)
        log_n, log_d = (np.log(frame[c].to_numpy(float)) for c in self.inputs)
        self.center_ = (float(log_n.mean()), float(log_d.mean()))
        self.points_ = Points.of(
            log_n - self.center_[0], log_d - self.center_[1], np.log(frame["loss"].to_numpy(float))
        )
        found, count = self._search()
        best = int(found.objective_B.argmin())
        self.theta_, objective = found.theta_BP[best], float(found.objective_B[best])
        offset, at_bound = float(found.offset_B[best]), found.at_bound_BP[best]
        profile = profile_E(self.points_, self.theta_, self.huber, self.tie)
        if profile.objective.min() < objective * (1 - 1e-9):  # a flat valley: what the starts crept along, E walks
            self.theta_, objective, offset, at_bound = profile.polish(objective, self.theta_, offset, at_bound)
        agree = count[found.objective_B <= objective * (1 + AGREE) + 1e-18].sum() / count.sum()
        covariance, condition = sandwich(self.points_, self.theta_, self.huber, self.tie, at_bound)
        interval = wald_or_profile(self.points_, profile, self.theta_, objective, self.huber, self.n_free_)
        flat = interval[1] - interval[0] > 0.5 * np.exp(self.points_.y.min())
        if offset > CONVERGED and not flat:
            raise ConvergenceError(
                f"None of {int(count.sum())} starts of {self.name} came to rest (smallest relative offset "
                f"{offset:.1e}); look at the runs for a loss that rises with size or data."
            )
        self.diagnostics_ = {
            "n": len(frame),
            "n_free": self.n_free_,
            "objective": objective,
            "gradient_norm": offset,
            "condition": condition,
            "n_starts": int(count.sum()),
            "starts_agree": float(agree),
            "at_bound": [self.parameters[k] for k in np.flatnonzero(at_bound)],
            "iterations": found.iterations,
            "E_interval": interval,
            "n_inside_delta": int((np.abs(self._residuals()) <= self.huber).sum()),
        }
        self._tabulate(covariance, at_bound)
        said = doubts_of(self.diagnostics_, self.runs_, self.points_)
        if said:
            warnings.warn(f"{self.name}: {'; '.join(said)}.", NotIdentified, stacklevel=2)
        return self

    def _search(self) -> tuple[loghuber.Solutions, np.ndarray]:
        if len(self.points_.y) <= THINNED:
            return minimise_from(self.points_, starts(self.points_, self.tie is not None), self.huber, self.tie)
        chosen = np.random.default_rng(0).choice(len(self.points_.y), THINNED, replace=False)
        p = self.points_
        some = Points.of(p.x[chosen], p.z[chosen], p.y[chosen])
        found, count = minimise_from(some, starts(some, self.tie is not None), self.huber, self.tie)
        return loghuber.minimise(p, found.theta_BP, self.huber, anneal=(), tie_PF=self.tie), count

    def _residuals(self) -> np.ndarray:
        return loghuber.log_loss(self.theta_[None], self.points_.x, self.points_.z)[0][0] - self.points_.y

    def _natural(self, theta: np.ndarray) -> np.ndarray:
        """(E, A, B, alpha, beta, a_opt) from working parameters, (..., 5) to (..., 6)."""
        alpha, beta = theta[..., ALPHA], theta[..., BETA]
        A, B = np.exp(theta[..., a] + alpha * self.center_[0]), np.exp(theta[..., b] + beta * self.center_[1])
        return np.stack([theta[..., E], A, B, alpha, beta, beta / (alpha + beta)], -1)

    def _tabulate(self, covariance: np.ndarray, at_bound: np.ndarray) -> None:
        natural = self._natural(self.theta_)
        self.params_ = pd.DataFrame(
            natural[None, :5], index=pd.Index(["all"], name="arm"), columns=list(self.parameters)
        )
        _, A, B, alpha, beta, _ = natural
        D = np.zeros((6, 5))  # d natural / d working
        D[0, E] = D[3, ALPHA] = D[4, BETA] = 1
        D[1, a], D[1, ALPHA], D[2, b], D[2, BETA] = A, A * self.center_[0], B, B * self.center_[1]
        D[5, ALPHA], D[5, BETA] = -beta / (alpha + beta) ** 2, alpha / (alpha + beta) ** 2
        variance = np.einsum("ip,pq,iq->i", D, covariance, D)
        bound = [*map(bool, at_bound), bool(at_bound[ALPHA] | at_bound[BETA])]
        stderr = np.where(bound, np.nan, np.sqrt(np.maximum(variance, 0.0)))
        self.summary = pd.DataFrame(
            {
                "arm": "all",
                "parameter": [*self.parameters, *self.derived],
                "estimate": natural,
                "stderr": stderr,
                "shared": False,
                "at_bound": bound,
            }
        )

    # ---- intervals ----------------------------------------------------------------------------------------------

    def intervals(
        self, method: str = "pairs", cluster: str | None = None, level: float = 0.95, n: int = 4000, seed: int = 42
    ) -> pd.DataFrame:
        """Percentile intervals from n refits to resampled runs or clusters of runs.

        Args:
            method: "pairs" draws runs, "cluster" draws clusters of them: checkpoints of a run, or runs of one budget,
                are not independent, and pairs then give intervals that are too short.
            cluster: a column of the runs, or "compute_bin".
            seed: with 42, pairs are the draws of Besiroglu et al. 2024.

        Returns:
            [parameter, estimate, stderr, low, high, method, level, n_resamples], a_opt included.
        """
        self._fitted()
        method = method.removesuffix("-bootstrap")
        if method not in ("pairs", "cluster"):
            raise ValueError(f"method is pairs or cluster, not {method!r}.")
        if (method == "cluster") != (cluster is not None):
            raise ValueError("Name a column with cluster= for method='cluster', and only then.")
        if not 0 < level < 1 or n < 2:
            raise ValueError(f"level lies between 0 and 1 and n is 2 or more, not {level} and {n}.")
        theta_BP = self.refit(self._weights(cluster, n, seed))
        names = [*self.parameters, *self.derived]
        self.resamples_ = pd.DataFrame(self._natural(theta_BP), columns=names)
        low, high = np.quantile(self.resamples_, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return pd.DataFrame(
            {
                "parameter": names,
                "estimate": self._natural(self.theta_),
                "stderr": self.resamples_.std(ddof=0).to_numpy(),
                "low": low,
                "high": high,
                "method": method if cluster is None else f"cluster by {cluster}",
                "level": level,
                "n_resamples": n,
            }
        )

    def _weights(self, cluster: str | None, n: int, seed: int) -> np.ndarray:
        if cluster is None:
            return pairs(len(self.runs_), n, seed)
        labels = cluster_labels(self.runs_, cluster)
        n_clusters = len(np.unique(labels))
        if n_clusters < 2:
            raise ValueError(f"All runs have one {cluster}: there is nothing to resample.")
        if n_clusters < FEW_CLUSTERS:
            warnings.warn(
                f"{cluster} makes {n_clusters} clusters only; intervals from fewer than {FEW_CLUSTERS} are too short.",
                FewSeeds,
                stacklevel=3,
            )
        return clusters(labels, n, seed)

    def _one_step(self, weight_Bn: np.ndarray) -> np.ndarray:
        """theta - H^-1 sum_i w_i psi_i grad_i with H of the runs themselves: Newton's first step for all weights."""
        y, J = loghuber.log_loss(self.theta_[None], self.points_.x, self.points_.z)
        score = J[0] * np.clip(y[0] - self.points_.y, -self.huber, self.huber)[:, None]
        _, _, H = loghuber.derivatives(self.points_, np.ones((1, len(score))), self.theta_[None], self.huber)
        T = np.eye(5) if self.tie is None else self.tie
        step = (weight_Bn @ (score @ T)) @ np.linalg.pinv(T.T @ H[0] @ T, hermitian=True) @ T.T
        return self.theta_ - np.clip(step, -1, 1)

    def refit(self, weight_Bn: np.ndarray) -> np.ndarray:
        """Working parameters (B, P) for weights (B, n) of the runs, from the estimate; a sample also by annealing."""
        start = np.tile(self.theta_, (len(weight_Bn), 1))
        found = loghuber.minimise(
            self.points_, self._one_step(weight_Bn), self.huber, weight_Bn, (), self.tie, at_rest=REFITTED
        )
        theta, objective = found.theta_BP, found.objective_B.copy()
        some = np.arange(0, len(start), CHECKED)
        again = loghuber.minimise(self.points_, start[some], self.huber, weight_Bn[some], tie_PF=self.tie)
        agree = np.abs(again.objective_B / np.maximum(objective[some], 1e-300) - 1) < AGREE
        if agree.mean() < 0.99:  # more than one minimum: take the lower of both for every resample
            some = np.arange(len(start))
            again = loghuber.minimise(self.points_, start, self.huber, weight_Bn, tie_PF=self.tie)
        lower = again.objective_B < objective[some]
        theta[some] = np.where(lower[:, None], again.theta_BP, theta[some])
        self.diagnostics_["refits_converged"] = float(found.converged_B.mean())
        self.diagnostics_["refits_agree"] = float(agree.mean())
        if found.converged_B.mean() < 0.95:
            warnings.warn(
                f"{self.name}: {1 - found.converged_B.mean():.0%} of the refits lie in a flat valley; "
                "the intervals understate what is not known.",
                NotIdentified,
                stacklevel=3,
            )
        return theta

    # ---- using a fit --------------------------------------------------------------------------------------------

    def predict(self, n_params: Any, tokens: Any) -> np.ndarray:
        """L(N, D) in nats/token."""
        self._fitted()
        N, D = np.broadcast_arrays(np.asarray(n_params, float), np.asarray(tokens, float))
        E_, A, B, alpha, beta = self.params_.to_numpy()[0]
        return E_ + A * N**-alpha + B * D**-beta

    @property
    def a_opt_(self) -> float:
        """The exponent of the best N in compute."""
        self._fitted()
        return float(self.theta_[BETA] / (self.theta_[ALPHA] + self.theta_[BETA]))

    def frontier(self, compute: Any) -> pd.DataFrame:
        """[compute, n_params, tokens, loss]: the best size and data at each compute C = 6 N D in FLOP."""
        self._fitted()
        C = np.atleast_1d(np.asarray(compute, float))
        _, A, B, alpha, beta = self.params_.to_numpy()[0]
        N = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (C / 6) ** self.a_opt_
        D = C / (6 * N)
        return pd.DataFrame({"compute": C, "n_params": N, "tokens": D, "loss": self.predict(N, D)})

    def compute_for(self, loss: Any) -> np.ndarray:
        """C = 6 N D in FLOP at which the best N and D reach a loss; infinite at E and below."""
        self._fitted()
        L = np.asarray(loss, float)
        E_, alpha, beta = self.params_.to_numpy()[0][[0, 3, 4]]
        at_one = float(self.frontier(6.0)["loss"].iloc[0]) - E_  # L* - E = at_one (C / 6)^-gamma
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = 6 * ((L - E_) / at_one) ** (-(alpha + beta) / (alpha * beta))
        return np.where(L > E_, found, np.inf)
