"""Simulated studies with a known law, to ask of any estimate here: does it recover what was put in?"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

Law = tuple[float, float, float]  # E, A, alpha
LADDER = (1e11, 3e11, 1e12, 3e12)


def simulate_runs(
    laws: Mapping[str, Law],
    budgets: Sequence[float] | Mapping[str, Sequence[float]] = LADDER,
    noise: float = 0.0,
    noise_exponent: float = 0.0,
    sizes: Sequence[float] = (-0.5, 0.0, 0.5),
    rates: Sequence[float] = (-0.5, 0.0, 0.5),
    penalties: tuple[float, float] = (0.10, 0.15),
    n_seeds: int = 1,
    n_best_seeds: int = 2,
    budget_error: float = 0.03,
    tuning_error: float = 0.0,
    rung_noise: float = 0.0,
    shared: float = 0.0,
    swept: Collection[float] | None = None,
    repeated: Collection[float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """L = E + A C^-alpha + penalties * (offset in ln size², ln rate²) + seed noise, on a ladder of compute.

    Args:
        laws: (E, A, alpha) of each arm's best configuration.
        budgets: FLOP, for all arms or for each.
        noise: standard deviation between seeds in nats/token at the first budget.
        noise_exponent: the noise falls as (C / budgets[0])^-noise_exponent.
        sizes, rates: offsets of the configurations tried from the best, in ln; the best itself is at 0.
        penalties: nats/token for one unit of offset squared in size and in rate.
        n_seeds: seeds of every configuration; n_best_seeds: of the one that looks best after that.
        budget_error: the true compute lies within this share of its budget.
        tuning_error: standard deviation in ln of where the true optimum lies within the grid of offsets.
        rung_noise: standard deviation in nats/token of what all runs of an arm at one budget have in common (cluster
            noise), which no repeat with another seed shows.
        shared: share of the variance between seeds that arms have in common at the same budget and seed (one order of
            data, one set of evaluation tokens).
        swept: budgets at which all sizes and rates are tried; elsewhere only those at offset 0.
        repeated: budgets at which the best is repeated; by default all.
    """
    rng = np.random.default_rng(seed)
    common = np.random.default_rng([seed, 1])
    ladders = {arm: list(budgets[arm] if isinstance(budgets, Mapping) else budgets) for arm in laws}
    lowest = min(min(ladder) for ladder in ladders.values())
    most_seeds = max(n_seeds, n_best_seeds)
    seeds_in_common = {b: common.standard_normal(most_seeds) for b in sorted({b for x in ladders.values() for b in x})}
    rows: list[dict] = []
    for arm, (E, A, alpha) in laws.items():
        for budget in ladders[arm]:
            sd = noise * (budget / lowest) ** -noise_exponent
            together = np.sqrt(shared) * sd * seeds_in_common[budget]
            alone = np.sqrt(1 - shared) * sd
            shift = tuning_error * rng.standard_normal(2)
            of_rung = rung_noise * common.standard_normal() if rung_noise else 0.0
            whole = swept is None or budget in swept
            tried = []
            for size in sizes if whole else (0.0,):
                compute = budget * (1 + budget_error * rng.uniform(-1, 1))
                for rate in rates if whole else (0.0,):
                    penalty = penalties[0] * (size - shift[0]) ** 2 + penalties[1] * (rate - shift[1]) ** 2
                    best = E + A * compute**-alpha + penalty + of_rung
                    losses = best + together[:n_seeds] + alone * rng.standard_normal(n_seeds)
                    tried.append((losses.mean(), best, compute, size, rate, list(losses)))
            _, best, _, _, _, losses = min(tried, key=lambda t: t[0])
            if n_best_seeds > n_seeds and (repeated is None or budget in repeated):
                losses.extend(best + together[n_seeds:] + alone * rng.standard_normal(n_best_seeds - n_seeds))
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
