"""Training compute of frontier models over the years: C(year)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frontier:
    """C(year) = compute * growth^(year - at) in FLOP, between two years."""

    compute: float
    at: float
    growth: float
    first: float = 2012.0
    last: float = 2030.0
    name: str = ""

    def __post_init__(self) -> None:
        if not (self.compute > 0 and self.growth > 0):
            raise ValueError(f"A frontier has compute and growth above 0, not {self.compute} and {self.growth}.")
        if not self.first < self.last:
            raise ValueError(f"A frontier's first year comes before its last, not {self.first} and {self.last}.")

    def log_compute(self, year: float) -> float:
        if not self.first <= year <= self.last:
            raise ValueError(
                f"The frontier{f' {self.name}' if self.name else ''} goes from {self.first:g} to {self.last:g}; "
                f"{year:g} is outside it: choose a year within, or a frontier that reaches it."
            )
        return float(np.log(self.compute) + (year - self.at) * np.log(self.growth))


# growth of the training compute of frontier language models per year
FRONTIERS = {
    "gundlach2025": Frontier(1e16, 2013, 4.1, name="gundlach2025"),
    # Sevilla and Roldán 2024: 4 to 5 times a year; the same anchor
    "epoch2024_low": Frontier(1e16, 2013, 4.0, name="epoch2024_low"),
    "epoch2024_high": Frontier(1e16, 2013, 5.0, name="epoch2024_high"),
}
