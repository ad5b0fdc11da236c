"""What a law is, whatever it is a law in: it is fitted to runs, predicts, inverts, and says how sure it is."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd


class Law(ABC):
    """A law of the loss in the columns `inputs`, fitted in log loss.

    Attributes:
        name: as in the registry.
        inputs: columns that the law is a function of.
        parameters, units: in the order of the columns of `params_`.
        derived: what `summary` gives besides the parameters.
        shareable: parameters that arms may share, or that may be fixed.
        params_: DataFrame, one row per arm, one column per parameter.
        summary: DataFrame [arm, parameter, estimate, stderr, shared, at_bound].
        diagnostics_: at least n, n_free, objective, gradient_norm (scale-free), condition, starts_agree, at_bound.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    parameters: ClassVar[tuple[str, ...]]
    units: ClassVar[tuple[str, ...]]
    derived: ClassVar[tuple[str, ...]] = ()
    shareable: ClassVar[tuple[str, ...]] = ()
    stderr_method: ClassVar[str] = "Gauss-Newton"  # of `summary`

    params_: pd.DataFrame
    summary: pd.DataFrame
    diagnostics_: dict[str, Any]

    @abstractmethod
    def fit(self, runs: pd.DataFrame) -> Self:
        """Fit runs with columns `inputs` and loss (nats/token)."""

    def intervals(
        self, method: str = "pairs", cluster: str | None = None, level: float = 0.95, n: int = 4000, seed: int = 42
    ) -> pd.DataFrame:
        """[parameter, estimate, stderr, low, high, ...] by resampling, for laws that are fitted to single runs."""
        raise ValueError(
            f"{self.name} is fitted to a frontier: its intervals come from resampling seeds, by the gains."
        )

    @abstractmethod
    def predict(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Loss in nats/token at values of `inputs`."""

    @abstractmethod
    def compute_for(self, loss: Any) -> np.ndarray:
        """The least compute in FLOP that reaches a loss in nats/token; infinite where none does."""

    @abstractmethod
    def frontier(self, compute: Any) -> pd.DataFrame:
        """[compute, loss, ...]: the best loss at each compute in FLOP, and how it is reached."""

    def _fitted(self) -> None:
        if not hasattr(self, "params_"):
            raise ValueError(f"Fit {self.name} to runs before asking it for numbers.")
