"""Simulated studies with a known law, to ask of any estimate here: does it recover what was put in?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

Law = tuple[float, float, float]  # E, A, alpha
LADDER = (1e11, 3e11, 1e12, 3e12)


def simulate_runs(
    laws: Mapping[str, Law],
    budgets: Sequence[float] = LADDER,
    noise: float = 0.0,
    noise_exponent: float = 0.0,
    sizes: Sequence[float] = (-0.5, 0.0, 0.5),
    rates: Sequence[float] = (-0.5, 0.0, 0.5),
    penalties: tuple[float, float] = (0.10, 0.15),
    n_seeds: int = 1,
    n_best_seeds: int = 2,
    budget_error: float = 0.03,
    tuning_error: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """L = E + A C^-alpha + penalties * (offset in ln size², ln rate²) + seed noise, on a ladder of compute.

    Args:
        laws: (E, A, alpha) of each arm's best configuration.
        noise: standard deviation between seeds in nats/token at the first budget.
        noise_exponent: the noise falls as (C / budgets[0])^-noise_exponent.
        sizes, rates: offsets of the configurations tried from the best, in ln; the best itself is at 0.
        penalties: nats/token for one unit of offset squared in size and in rate.
        n_seeds: seeds of every configuration; n_best_seeds: of the one that looks best after that.
        budget_error: the true compute lies within this share of its budget.
        tuning_error: standard deviation in ln of where the true optimum lies within the grid of offsets.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict] = []
    for arm, (E, A, alpha) in laws.items():
        for budget in budgets:
            sd = noise * (budget / budgets[0]) ** -noise_exponent
            shift = tuning_error * rng.standard_normal(2)
            tried = []
            for size in sizes:
                compute = budget * (1 + budget_error * rng.uniform(-1, 1))
                for rate in rates:
                    penalty = penalties[0] * (size - shift[0]) ** 2 + penalties[1] * (rate - shift[1]) ** 2
                    best = E + A * compute**-alpha + penalty
                    losses = best + sd * rng.standard_normal(n_seeds)
                    tried.append((losses.mean(), best, compute, size, rate, list(losses)))
            _, best, _, _, _, losses = min(tried, key=lambda t: t[0])
            losses.extend(best + sd * rng.standard_normal(n_best_seeds - n_seeds) if n_best_seeds > n_seeds else [])
            for _, _, compute, size, rate, losses in tried:
                rows.extend(
                    {
                        "arm": arm,
                        "compute": compute,
                        "loss": loss,
                        "seed": s,
                        "compute_budget": budget,
                        "n_params": round(1e4 * np.exp(size)),
                        "learning_rate": 0.01 * np.exp(rate),
                        "configuration_id": f"{arm}-{budget:.0e}-{size:+.2f}-{rate:+.2f}",
                        "run_id": f"{arm}-{budget:.0e}-{size:+.2f}-{rate:+.2f}-{s}",
                        "status": "done",
                        "epochs_seen": 0.1,
                    }
                    for s, loss in enumerate(losses)
                )
    return pd.DataFrame(rows)
