"""What one law has to say: its parameters, its formula with derivatives, its bounds, starts and frontier."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from algoprogress.analysis import objective
from algoprogress.analysis.objective import Points


class Definition(ABC):
    """A law of the loss in the columns `inputs`: one file that fills in the attributes and the abstract methods below.

    It does so in *working* parameters w (k,), which are nearly uncorrelated and of order one: logs of inputs count from
    their means, the loss from its geometric mean. Arrays end in their axes: n points, k parameters of one arm, B
    members of a batch. `Law` does the rest.

    Args:
        huber: threshold in log loss; `math.inf` is least squares.
        fixed: parameters held at a value, for example {"E": 0.0}: a law without irreducible loss.

    Attributes:
        name: as in the registry.
        inputs: columns that the law is a function of.
        parameters, units: in the order of the columns of `params_`.
        derived: what `summary` and `intervals` give besides the parameters.
        shareable: parameters that arms may share, or that may be fixed.
        rescaled: those whose working values a compute multiplier shifts (share="rescaled").
        tied: parameter -> the one that it always equals.
        logarithmic: positive parameters known by their order of magnitude: Wald intervals are of their logs.
        coefficients: those whose working values are the logs of terms that make up for a change of E.
        may_be_constant: inputs that need not vary between runs.
        point_name: what distinct values of `inputs` are called.
        default_huber: threshold where none is given.
        stderr_method: of `summary`, "sandwich" or "Gauss-Newton".
        center_, log_l0_: where a fitted law's log inputs and log loss count from.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    parameters: tuple[str, ...]
    units: tuple[str, ...]
    derived: tuple[str, ...] = ()
    shareable: tuple[str, ...] = ()
    rescaled: tuple[str, ...] = ()
    tied: ClassVar[Mapping[str, str]] = {}
    logarithmic: tuple[str, ...] = ()
    coefficients: tuple[str, ...] = ()
    point_name: ClassVar[str] = "computes"
    may_be_constant: ClassVar[tuple[str, ...]] = ()
    default_huber: ClassVar[float]
    stderr_method: ClassVar[str] = "sandwich"
    center_: list[float]
    log_l0_: float

    def __init__(self, huber: float | None = None, fixed: Mapping[str, float] | None = None) -> None:
        unknown = set(fixed or {}) - set(self.shareable)
        if unknown:
            raise ValueError(f"{sorted(unknown)} can not be fixed; {self.name} can fix {', '.join(self.shareable)}.")
        for parameter, value in (fixed or {}).items():
            if not (np.isfinite(value) and (value >= 0 if parameter == "E" else value > 0)):
                raise ValueError(f"{parameter} is a positive number (E may be 0) and can not be fixed at {value}.")
        huber = self.default_huber if huber is None else huber
        if not huber > 0:
            raise ValueError(f"huber is a threshold in log loss above 0, not {huber}.")
        self.huber = min(float(huber), 1e3)  # residuals in log loss are never that large: least squares
        self.fixed = dict(fixed or {})

    # ---- what a law defines -------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def formula(cls, parameters: Mapping[str, float], *inputs: np.ndarray) -> np.ndarray:
        """The law as the paper writes it: loss in nats/token from parameters in `units` and inputs."""

    @classmethod
    @abstractmethod
    def example(cls) -> tuple[pd.DataFrame, dict[str, float]]:
        """A design [*inputs] that identifies the law, and parameters of the order of published ones, for tests."""

    @abstractmethod
    def log_loss(self, w_Bk: np.ndarray, *x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln(L / L0) (B, n) and its Jacobian (B, n, k) at centred log inputs, each (n,) or (B, n)."""

    @abstractmethod
    def bounds(self, points: Any) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds (..., k) of the working parameters, given the points of one arm, (..., n)."""

    @abstractmethod
    def starts(self, points: Any, lowest: float) -> np.ndarray:
        """Starts (S, k) for the points of one arm; `lowest` is the lowest L / L0 of all arms."""

    @abstractmethod
    def natural(self, w: np.ndarray) -> np.ndarray:
        """Parameters in the units of `units` from working ones, (..., k) to (..., k)."""

    @abstractmethod
    def allocate(self, w: np.ndarray, log_c: np.ndarray) -> tuple[np.ndarray, ...]:
        """Centred log inputs of lowest loss at centred log compute: (B, k), (m,) or (B, m) to (B, m) each."""

    @abstractmethod
    def invert(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Centred log compute of best loss y = ln(L / L0): (B, k), (m,) or (B, m) to (B, m); inf where never."""

    @abstractmethod
    def log_multiplier(self, w: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """ln kappa, where the best loss of w at C is that of `reference` at kappa C; both share all but `rescaled`."""

    @abstractmethod
    def constraint(self, parameter: str, value: float) -> tuple[np.ndarray, float, str]:
        """c, c0 and a pivot such that `parameter` = value where c'w = c0, to be solved for the pivot."""

    def to_working(self, parameter: str, value: float) -> float:
        """The working value of a `shareable` parameter."""
        return float(value / np.exp(self.log_l0_)) if parameter == "E" else value

    def check_runs(self, frame: pd.DataFrame) -> None:  # noqa: B027 (most laws need nothing more)
        """Raise a ValueError where the runs lack what this law in particular needs."""

    def doubts(self) -> list[str]:
        """What is doubtful about a fit of this law in particular, as parts of a sentence."""
        return []

    def derive(self, natural: np.ndarray) -> np.ndarray:
        """What `derived` names, (..., d), from parameters in their units (..., k)."""
        return np.empty((*natural.shape[:-1], 0))

    def curvature(self, w_Bk: np.ndarray, q_Bn: np.ndarray, *x: np.ndarray) -> np.ndarray:
        """sum_i q_i d² ln L_i (B, k, k); by differences of the Jacobian unless a law knows better."""
        return objective.numeric_curvature(self.log_loss, w_Bk, q_Bn, *x)

    def centers(self, logs: list[np.ndarray]) -> list[float]:
        """Where log inputs count from."""
        return [float(values.mean()) for values in logs]

    def points(self, x: tuple[np.ndarray, ...], y: np.ndarray) -> Any:
        """The points of one arm as `sums` wants them."""
        return Points(x, y)

    def sums(self, points: Any, weight: np.ndarray, w: np.ndarray, delta: float, members: np.ndarray) -> Any:
        """Huber sum, gradient and Hessian of one arm (see `objective.derivatives`)."""
        return objective.derivatives(self.log_loss, self.curvature, points, weight, w, delta, members)

    def log_c0(self) -> float:
        """ln of the compute that centred log compute counts from: C0, or 6 N0 D0."""
        return self.center_[0] if self.inputs == ("compute",) else float(np.log(6) + self.center_[0] + self.center_[1])
