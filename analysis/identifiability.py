"""Do the runs determine the parameters?  Too few points, standard errors, and the doubts worth a warning."""

from typing import TYPE_CHECKING, Any

import numpy as np

from algoprogress.analysis import profiles
from algoprogress.analysis.fit import CONVERGED

if TYPE_CHECKING:
    from algoprogress.analysis.laws.base import Law
    from algoprogress.analysis.search import Found

CONDITION = 1e10  # of the Hessian with unit diagonal: beyond, rounding of the data moves the estimate
WIDE = 0.5  # of the lowest loss: an interval of E as wide as that says nothing
LEVEL = 0.95  # of E_interval
TOGETHER = 0.99  # correlation of two log inputs above which their terms can hardly be told apart


def check_enough(law: "Law") -> None:
    """Raise a ValueError where there are fewer points than parameters, in all or of one arm."""
    n, n_free, frame = len(law.runs_), law.sharing_.n_free, law.runs_
    columns, where = list(law.inputs), law.point_name
    n_points = len(frame[["arm", *columns]].drop_duplicates())
    if n_points < n_free:
        raise ValueError(
            f"{n} runs at {n_points} {where} can not determine the {n_free} parameters of {law.name} for "
            f"{len(law.arms_)} arm(s); share parameters between arms, fix one, or measure more."
        )
    for a, arm in enumerate(law.arms_):
        own = {int(c) for c in law.sharing_.column_ak[a] if c >= 0 and (law.sharing_.column_ak == c).any(1).sum() == 1}
        own |= {int(law.sharing_.shift_a[a])} - {-1}
        n_points = len(frame.loc[frame["arm"] == arm, columns].drop_duplicates())
        if n_points < len(own):
            raise ValueError(
                f"Arm {arm!r} was measured at {n_points} {where}, fewer than its {len(own)} parameters of {law.name}; "
                "measure more, share parameters, or leave the arm out."
            )


def residuals(law: "Law", theta: np.ndarray | None = None) -> np.ndarray:
    """ln L_hat - ln L (n,) in the order of `runs_`."""
    theta = law.theta_ if theta is None else theta
    found = np.empty(len(law.y_))
    for a, rows in enumerate(law.rows_):
        w = law.sharing_.working(theta, a)[None]
        found[rows] = law.log_loss(w, *(x[rows] for x in law.x_))[0][0] - law.y_[rows]
    return found


def gradients(law: "Law") -> np.ndarray:
    """d ln L_hat / d theta (n, P) at the estimate."""
    found = np.zeros((len(law.y_), law.sharing_.n_free))
    for a, rows in enumerate(law.rows_):
        w = law.sharing_.working(law.theta_, a)[None]
        found[rows] = law.log_loss(w, *(x[rows] for x in law.x_))[1][0] @ law.sharing_.map_akP[a]
    return found


def scores(law: "Law") -> np.ndarray:
    """psi(r) d ln L_hat / d theta (n, P): what each run adds to the gradient of the objective."""
    return gradients(law) * np.clip(residuals(law), -law.huber, law.huber)[:, None]


def hessian(law: "Law", theta: np.ndarray | None = None) -> np.ndarray:
    """Hessian (P, P) of the objective at the estimate."""
    theta = law.theta_ if theta is None else theta
    return law.huber_sum_(theta[None], np.zeros(1, int), law.huber)[2][0]


def scaled_inverse(H: np.ndarray) -> tuple[np.ndarray, float]:
    """The inverse of H, and the condition number of H with unit diagonal; infinite where it is not positive."""
    if not len(H):
        return H, 1.0
    scale = np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    H = H / np.outer(scale, scale)
    if not np.isfinite(H).all():
        return np.full_like(H, np.nan), float("inf")
    eigenvalues = np.linalg.eigvalsh(H)
    condition = float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else float("inf")
    return np.linalg.pinv(H, hermitian=True) / np.outer(scale, scale), condition


def covariance(law: "Law", at_bound: np.ndarray, groups: np.ndarray | None = None, method: str | None = None) -> Any:
    """Covariance (P, P) of the free parameters; those at a bound are held there.

    "Gauss-Newton": sigma² (J'J)^-1, sigma² the residual variance in log loss. "sandwich": H^-1 S H^-1 with H the exact
    Hessian and S the sum of s s' over runs, times n / (n - P); or over clusters of runs, times G / (G - 1) (n - 1) / (n
    - P). Near least absolute deviations (a small threshold) few points carry H: resample in place of trusting it.

    Args:
        groups: numbers (n,) of clusters.
        method: by default the law's own.
    """
    n, P = len(law.y_), law.sharing_.n_free
    free = ~at_bound
    found = np.zeros((P, P))
    if not free.any():
        return found
    J = gradients(law)[:, free]
    if (method or law.stderr_method) == "Gauss-Newton":
        V = scaled_inverse(J.T @ J)[0] * law.sigma_**2
    else:
        inverse, _ = scaled_inverse(hessian(law)[np.ix_(free, free)])
        s = J * np.clip(residuals(law), -law.huber, law.huber)[:, None]
        factor = n / max(n - P, 1)
        if groups is not None:
            G = int(groups.max()) + 1
            s = np.stack([np.bincount(groups, s[:, p], G) for p in range(s.shape[1])], 1)
            factor = G / max(G - 1, 1) * (n - 1) / max(n - P, 1)
        V = inverse @ (s.T @ s) @ inverse * factor
    found[np.ix_(free, free)] = V
    return found


def diagnostics(law: "Law", found: "Found") -> dict[str, Any]:
    """What `diagnostics_` says of a fit; also sets `sigma_`, the residual standard deviation in log loss."""
    n, s = len(law.y_), law.sharing_
    r = residuals(law)
    n_left = n - s.n_free
    law.sigma_ = float(np.sqrt((r**2).sum() / n_left)) if n_left > 0 else float("nan")
    free = ~found.at_bound
    said: dict[str, Any] = {
        "n": n,
        "n_free": s.n_free,
        "objective": found.objective,
        "gradient_norm": found.offset,
        "condition": scaled_inverse(hessian(law)[np.ix_(free, free)])[1],
        "n_starts": found.n_starts,
        "starts_agree": found.starts_agree,
        "at_bound": [s.labels[c] for c in np.flatnonzero(found.at_bound)],
        "iterations": found.iterations,
        "n_inside_delta": int((np.abs(r) <= law.huber).sum()),
    }
    if found.profiles:
        rise, unit = profiles.allowed_rise(law, r, LEVEL), float(np.exp(law.log_l0_))
        said["E_interval"] = {}
        for c, profile in found.profiles.items():
            if len(profile.value) > 1:
                low, high = profiles.column_interval(law, profile, found.theta, found.objective, rise)
            else:
                half = 1.96 * float(np.sqrt(covariance(law, found.at_bound)[c, c]))
                low, high = max(found.theta[c] - half, 0.0), float(found.theta[c] + half)
            said["E_interval"][s.labels[c]] = (low * unit, high * unit)
    return said


def is_flat(law: "Law") -> bool:
    """Whether the minimum lies in a valley along which E, or what there is of it, hardly matters."""
    least = float(np.exp(law.y_.min() + law.log_l0_))
    intervals = law.diagnostics_.get("E_interval", {}).values()
    return law.diagnostics_["condition"] > CONDITION or any(high - low > WIDE * least for low, high in intervals)


def doubts(law: "Law") -> list[str]:
    """What makes a fit doubtful, as parts of a sentence."""
    d, said = law.diagnostics_, []
    least = float(np.exp(law.y_.min() + law.log_l0_))
    if d["n"] == d["n_free"]:
        said.append(
            f"{d['n']} points determine {d['n_free']} parameters exactly, so that nothing is left to judge them"
        )
    for label, (low, high) in d.get("E_interval", {}).items():
        if low <= 0 or high - low > WIDE * least:
            said.append(f"{label} is not identified: every value from {low:.2f} to {high:.2f} nats/token fits as well")
    if d["gradient_norm"] > CONVERGED:
        said.append(f"the minimum is a flat valley (relative offset {d['gradient_norm']:.1e})")
    if d["starts_agree"] < 0.5:
        share = d["starts_agree"]
        said.append(f"{f'only {share:.0%}' if share else 'none'} of the starts found the best minimum")
    if d["at_bound"]:
        said.append(f"{', '.join(d['at_bound'])} at a bound")
    if d["condition"] > CONDITION:
        said.append(f"the Hessian is nearly singular (condition {d['condition']:.0e})")
    said += _doubts_of_design(law) + law.doubts()
    if any(label.startswith("E") for label in d.get("E_interval", {})):
        E = law.params_["E"].to_numpy()
        below = [int((np.exp(law.y_[r] + law.log_l0_) < e).sum()) for r, e in zip(law.rows_, E, strict=True)]
        if sum(below):
            said.append(f"{sum(below)} of {d['n']} runs have a loss below E, which the law can not reach")
    return said


def _doubts_of_design(law: "Law") -> list[str]:
    said = []
    if np.ptp(law.y_) < 1e-9:
        return ["all runs have one loss, which says nothing of how it falls"]
    for j, column in enumerate(law.inputs):
        if (k := law.runs_[column].nunique()) < 3 and len(law.inputs) > 1 and column not in law.may_be_constant:
            said.append(f"{k} values of {column} can not give its coefficient and exponent and E")
        for other in range(j):
            if column not in law.may_be_constant and np.corrcoef(law.x_[j], law.x_[other])[0, 1] > TOGETHER:
                said.append(
                    f"{law.inputs[other]} and {column} grow together, so that their terms can hardly be told apart"
                )
    return said
