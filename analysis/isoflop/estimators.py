"""The estimators of isoFLOP minima by name."""

from algoprogress.analysis.isoflop.minima import (
    GRID,
    EachBudget,
    Estimator,
    akima,
    akima_line,
    akima_on_grid,
    parabola,
    parabola_line,
    robust_parabola,
    robust_parabola_line,
)
from algoprogress.analysis.isoflop.surface import Surface

ESTIMATORS: dict[str, Estimator] = {
    "parabola": EachBudget(parabola, parabola_line),
    "robust_parabola": EachBudget(robust_parabola, robust_parabola_line),
    "akima": EachBudget(akima, akima_line),
    "akima_grid": EachBudget(akima_on_grid, akima_line, GRID),
    "surface": Surface(),
}


def estimator_named(name: str) -> Estimator:
    """The estimator, or a ValueError that lists the known ones."""
    if name not in ESTIMATORS:
        raise ValueError(f"There is no estimator {name!r} of isoFLOP minima; there are {', '.join(ESTIMATORS)}.")
    return ESTIMATORS[name]
