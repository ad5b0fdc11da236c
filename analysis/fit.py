"""The solver: least squares or Huber in log loss, many starts and many resamples at once.

Every problem here is small (tens of points, about ten parameters) but is solved thousands of times, once for each start
and each resample. So one Levenberg-Marquardt loop carries a whole batch, and an iteration is a few stacked products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# theta_BP -> predicted log loss (B, n) and its Jacobian (B, n, P)
Model = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

AT_REST = (
    1e-7  # relative offset at which iteration stops: the estimate is then within about 1e-7 residuals of the minimum
)
CONVERGED = 1e-4  # relative offset that still counts as a minimum where rounding lets no step improve further
FLOOR = 1e-15  # mean-square residual that counts as an exact fit, in log loss; rounding of the data is of this order


@dataclass(frozen=True)
class Solutions:
    """Where each member of a batch came to rest.

    Attributes:
        theta_BP: parameters.
        objective_B: sum over points of the Huber function of the residual in log loss.
        offset_B: relative offset, sqrt(g' H^-1 g / (2 objective / n)) over the free parameters (Bates and Watts 1981):
            the distance to the minimum in units of the residuals, whatever the units of the parameters.
        at_bound_BP: parameters held at a bound.
        iterations: of the slowest member.
    """

    theta_BP: np.ndarray
    objective_B: np.ndarray
    offset_B: np.ndarray
    at_bound_BP: np.ndarray
    iterations: int

    @property
    def converged_B(self) -> np.ndarray:
        return self.offset_B < CONVERGED


def huber(residual: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """rho(r) = r²/2 for |r| <= delta, delta (|r| - delta/2) beyond, and the weight psi(r)/r."""
    size = np.abs(residual)
    inside = size <= delta
    if inside.all():
        return 0.5 * residual**2, np.ones_like(residual)
    rho = np.where(inside, 0.5 * residual**2, delta * (size - 0.5 * delta))
    return rho, np.where(inside, 1.0, delta / np.maximum(size, 1e-300))


def minimise(
    model: Model,
    y_Bn: np.ndarray,
    theta_BP: np.ndarray,
    lower_BP: np.ndarray,
    upper_BP: np.ndarray,
    delta: float = np.inf,
    max_iterations: int = 300,
) -> Solutions:
    """min over theta of sum_i rho_delta(model_i(theta) - y_i), lower <= theta <= upper, for each member of a batch.

    Damped Gauss-Newton with Huber weights (each step minimises a quadratic that lies above the Huber function), damping
    per member, scaled by the diagonal of H so that the units of the parameters do not matter. A parameter at a bound
    whose gradient points outward is held there.

    Args:
        model: (theta (b, P), members (b,)) -> log loss (b, n), Jacobian (b, n, P).
        y_Bn: measured log loss.
        theta_BP: a start for each member.
        lower_BP, upper_BP: bounds; equal where a parameter is fixed.
        delta: Huber threshold in log loss; infinite for least squares.
    """
    theta = np.clip(theta_BP, lower_BP, upper_BP).astype(float)
    n_members, n_params = theta.shape
    n = y_Bn.shape[1]
    objective = np.full(n_members, np.inf)
    offset = np.full(n_members, np.inf)
    held = np.zeros((n_members, n_params), bool)
    damping = np.full(n_members, 1e-3)
    active = np.arange(n_members)
    prediction, jacobian = model(theta, active)
    rho, weight = huber(prediction - y_Bn, delta)
    objective[:] = rho.sum(1)
    eye = np.eye(n_params)
    iteration = 0
    for iteration in range(1, max_iterations + 1):  # noqa: B007 (reported after the loop)
        residual = prediction - y_Bn[active]
        Jw = jacobian * weight[:, :, None]
        H = np.swapaxes(Jw, 1, 2) @ jacobian
        g = (Jw * residual[:, :, None]).sum(1)
        t, lo, hi = theta[active], lower_BP[active], upper_BP[active]
        free = ~((lo >= hi) | ((t <= lo) & (g > 0)) | ((t >= hi) & (g < 0)))
        held[active] = ~free
        g = np.where(free, g, 0.0)
        H = np.where(free[:, :, None] & free[:, None, :], H, 0.0)
        scale = np.sqrt(np.maximum(np.einsum("bpp->bp", H), 1e-300))
        scale = np.where(free & (scale > 1e-140), scale, 1.0)
        H = H / (scale[:, :, None] * scale[:, None, :])  # unit diagonal: scale-free
        H = np.where(free[:, :, None] | free[:, None, :], H, eye)
        g = g / scale
        newton = np.linalg.solve(H + 1e-14 * eye, g[:, :, None])[:, :, 0]
        decrement = np.maximum((newton * g).sum(1), 0.0)
        offset[active] = np.sqrt(decrement / np.maximum(2 * objective[active] / n, FLOOR))
        moving = offset[active] >= AT_REST
        if not moving.any():
            break
        active, t, lo, hi = active[moving], t[moving], lo[moving], hi[moving]
        H, g, scale = H[moving], g[moving], scale[moving]
        prediction, jacobian, weight = prediction[moving], jacobian[moving], weight[moving]
        step = np.linalg.solve(H + damping[active][:, None, None] * eye, g[:, :, None])[:, :, 0] / scale
        trial = np.clip(t - step, lo, hi)
        trial_prediction, trial_jacobian = model(trial, active)
        trial_rho, trial_weight = huber(trial_prediction - y_Bn[active], delta)
        trial_objective = trial_rho.sum(1)
        better = trial_objective < objective[active]  # False for NaN too
        damping[active] = np.where(better, np.maximum(damping[active] * 0.2, 1e-12), damping[active] * 8.0)
        theta[active[better]] = trial[better]
        objective[active[better]] = trial_objective[better]
        prediction[better], jacobian[better], weight[better] = (
            trial_prediction[better],
            trial_jacobian[better],
            trial_weight[better],
        )
        stuck = damping[active] > 1e12  # rounding leaves nothing to gain; the offset says whether this is a minimum
        if stuck.all():
            break
        active, prediction, jacobian, weight = active[~stuck], prediction[~stuck], jacobian[~stuck], weight[~stuck]
    return Solutions(theta, objective, offset, held & (lower_BP < upper_BP), iteration)
